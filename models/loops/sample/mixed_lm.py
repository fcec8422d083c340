"""A frozen language model and something beside it that guesses from the same states: one text by the mixture of both.

    p = (1 - weight) p_LM + weight p_beside          probabilities are mixed, not logits
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from kernels import Sampler
from models.engine.method import Close, Event, Job
from models.engine.recording import line
from models.loops.sample.cached_lm import Reader, log_probabilities
from models.loops.sample.loop import Journal, SamplingPolicy, decode
from models.trace import Fact, Field
from models.trace.percent import percent

MIXTURE, LM, BESIDE = "mixture", "model alone", "adapter alone"
HELPED = 0.5  # nats
GAIN = {"gain": Field("Likelier by the adapter", "nats", diverging=True)}


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

    def said(self) -> str:
        """The likeliest next word, and how likely all three find it."""
        id = int(self.logits.argmax())
        mixture, lm, beside = (percent(float(part[0, id].exp())) for part in self.now().values())
        return (f"Likeliest: \u201c{self.texts([id])[0].strip()}\u201d with {mixture}, by the model alone {lm}, by the "
                f"adapter alone {beside}")


def gained(shown: dict[str, Tensor], ids: Sequence[int]) -> list[float]:
    """Nats [P] by which the mixture finds each word likelier than the model alone does."""
    at = torch.as_tensor(ids, device=shown[LM].device)[:, None]
    return (shown[MIXTURE].gather(1, at) - shown[LM].gather(1, at))[:, 0].tolist()


def writing(job: Job, source: MixedReader) -> Iterator[Event]:
    """The Sample record of a text that goes on by the mixture, by the method's temperature and length."""
    return decode(job, source, SamplingPolicy(
        Sampler(job.params.temperature), job.params.length, close, shown=lambda moment: source.now(), fields=GAIN,
        measure=lambda moment: {"gain": gained(source.now(), moment.ids)}, note=lambda moment: source.said()))


def close(journal: Journal) -> Close:
    page = journal.page
    gain = page.values["gain"][1 : page.count]
    helped = [page.labels[1 + at].strip() for at in np.argsort(-gain) if gain[at] > HELPED]
    most = f", most of all \u201c{helped[0]}\u201d" if helped else ""
    sentence = f"The adapter makes {len(helped)} of {len(gain)} words likelier by more than half a nat{most}."
    return Close("sample", sentence, (
        line("What each word gains", "nats", {"gain": gain}, x="word", first=1, by_step=False, reference=0.0,
             caption="Above 0: the mixture finds the word likelier than the model alone."),), {
        "gain": Fact("Gain over the model alone", float(gain.mean()), "nats a word", "higher"),
        "helped": Fact("Words that became likelier by more than 0.5 nat", len(helped), f"of {len(gain)} words")})
