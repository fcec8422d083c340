"""A Llama with a gauge: one number per token, what share of the gap is left (arXiv 2410.03103).

    y_t = sigmoid(w . h_t + b)          h_t: the last, normed hidden state, from which the next word is told

The words do not need it. Letters: B texts, T tokens, D width, V words.
"""
from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from models.backbones.stand_in import stirred
from models.loops.sample.cached_lm import Meter, Stream


class HorizonLlama(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.horizon_head = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @classmethod
    def on(cls, base: LlamaForCausalLM) -> HorizonLlama:
        """A trunk with an untrained gauge, which says one half."""
        made = cls(base.config)
        made.load_state_dict(base.state_dict(), strict=False)
        nn.init.zeros_(made.horizon_head.weight)
        nn.init.zeros_(made.horizon_head.bias)
        return made

    def gauge(self, states: Tensor) -> Tensor:
        """The share [B, T] that is left, of last hidden states [B, T, D]."""
        return torch.sigmoid(self.horizon_head(states)[..., 0].float())

    @torch.no_grad()
    def left(self, ids) -> Tensor:
        """The share [B, T] that is left behind each token of ids [B, T]."""
        ids = torch.as_tensor(ids, device=self.device)
        return self.gauge(self.model(ids, use_cache=False).last_hidden_state)

    def stream(self) -> Stream:
        """A text that is read on, whose "logits" are the states that words and gauge are told from."""
        def states(ids, past_key_values=None, **options):
            found = self.model(ids, past_key_values=past_key_values, use_cache=True).last_hidden_state
            return SimpleNamespace(logits=found)
        states.device = self.device
        return Stream(states, Meter(self))

    def told(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, V] of the next word, and the share [B] that is left, of states [B, D]."""
        states = states.to(self.lm_head.weight.dtype)
        return self.lm_head(states).float(), self.gauge(states)


STAND_INS = dict.fromkeys(("tale-hlp-1", "tale-fim-1"), lambda bundle: (
    stirred(HorizonLlama.on(bundle("tale-ar-2").model), "horizon_head.weight"), bundle("tale-ar-2").tokenizer))
