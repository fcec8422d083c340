"""What can go between two copies of a network where it is no word, all of it ours: a vector, or one of a few.

    float   A h                            h: the sender's last, normed hidden state [D]; A: D x D
    b bits  c_i, i = argmax U h            a codebook c of 2^b vectors; U: 2^b x D; nothing but i is sent
"""
from __future__ import annotations

from collections.abc import Callable

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformers import LlamaForCausalLM

from models.backbones.stand_in import stirred

FLOAT = 0  # bits of a channel that sends vectors as they are


class StateChannel(nn.Module, PyTorchModelHubMixin):
    """States [..., D] of a sender to what a receiver reads in place of a word [..., D]. trunk: where it was trained."""

    def __init__(self, width: int = 96, bits: int = FLOAT, trunk: str = "", trunk_revision: str = ""):
        super().__init__()
        self.bits, self.into = bits, nn.Linear(width, 2**bits if bits else width)
        self.out = nn.Linear(2**bits, width, bias=False) if bits else nn.Identity()

    def forward(self, states: Tensor, pick: Callable[[Tensor], Tensor] | bool = False) -> Tensor:
        """pick: one hot from scores while it learns; the best one otherwise."""
        scores = self.into(states)
        if not self.bits:
            return scores
        return self.out(pick(scores) if pick else one_hot(scores.argmax(-1), scores.shape[-1]).to(scores))


class VectorLlama(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.channel = StateChannel(config.hidden_size, getattr(config, "bits", FLOAT))
        self.post_init()

    @classmethod
    def on(cls, base: LlamaForCausalLM, bits: int = FLOAT) -> VectorLlama:
        made = cls(type(base.config)(**{**base.config.to_dict(), "bits": bits}))
        made.load_state_dict(base.state_dict(), strict=False)
        return made


STAND_INS = {
    **{name: lambda bundle, bits=bits: (stirred(VectorLlama.on(bundle("algo-discs-1").model, bits), "into.weight"),
                                        bundle("algo-discs-1").tokenizer)
       for name, bits in (("algo-discs-bits-1", 4), ("algo-discs-vectors-1", FLOAT))},
    **{name: lambda bundle, bits=bits: stirred(StateChannel(bundle("algo-discs-1").model.config.hidden_size, bits))
       for name, bits in (("algo-discs-bits-frozen-1", 4), ("algo-discs-vectors-frozen-1", FLOAT))}}
