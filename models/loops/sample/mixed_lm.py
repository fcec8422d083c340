"""A frozen language model and something beside it that guesses from the same states: one text by the mixture of both.

    p = (1 - weight) p_LM + weight p_beside          probabilities are mixed, not logits
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from models.loops.sample.cached_lm import Reader, log_probabilities
from models.trace import Field

MIXTURE, LM, BESIDE = "mixture", "model alone", "adapter alone"
GAIN = {"gain": Field("Likelier by the adapter, log of mixture over model", "nats", diverging=True)}


def mixed(lm: Tensor, beside: Tensor, weight: float = 0.5) -> Tensor:
    """Of two log-probabilities the logarithm of their mixture."""
    return torch.logaddexp(lm + math.log(max(1 - weight, 1e-12)), beside + math.log(max(weight, 1e-12)))


class Mixture:
    """Called as one causal model, whose logits are the logarithms of the mixture. beside: states [B, T, D] -> logits.
    parts: what both said in the last call, log-probabilities [B, T, V]."""

    def __init__(self, model, beside: Callable[[Tensor], Tensor], weight: float):
        self.model, self.beside, self.weight = model, beside, weight
        self.config, self.device, self.parts = model.config, model.device, dict[str, Tensor]()

    def __call__(self, ids: Tensor, logits_to_keep: int = 0, **cache) -> SimpleNamespace:
        states = self.model.model(ids, **cache).last_hidden_state[:, -logits_to_keep:]
        return SimpleNamespace(logits=self.told(states, self.beside(states)))

    def told(self, states: Tensor, beside: Tensor) -> Tensor:
        """log p [B, T, V] of states, whatever is said beside them."""
        self.parts = {LM: log_probabilities(self.model.lm_head(states)), BESIDE: log_probabilities(beside)}
        return mixed(*self.parts.values(), self.weight)


class MixedReader(Reader):
    """A text for the loop of Sample; `model` must be made a Mixture before it reads."""

    model: Mixture

    def start(self):
        """What mixture, model and adapter had said of each word after the first, and what was gained."""
        logits = self.read([self.prompt], every=True)[0, :-1].float()
        shown = {MIXTURE: logits, **{name: part[0, :-1] for name, part in self.model.parts.items()}}
        return shown, {"gain": gained(shown, self.prompt[1:])}

    def now(self) -> dict[str, Tensor]:
        """The same of the next word [1, V]."""
        return {MIXTURE: self.logits, **{name: part[:, -1] for name, part in self.model.parts.items()}}


def gained(shown: dict[str, Tensor], ids: Sequence[int]) -> list[float]:
    """Nats [P] by which the mixture finds each word likelier than the model alone does."""
    at = torch.as_tensor(ids, device=shown[LM].device)[:, None]
    return (shown[MIXTURE].gather(1, at) - shown[LM].gather(1, at))[:, 0].tolist()
