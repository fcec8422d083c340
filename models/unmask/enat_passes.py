"""ENAT's pass in the Unmask loop: one state per guidance branch, new tokens only, and what each half of it costs.

Letters: B samples, N canvas tokens, C caption words, V vocabulary, D width.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, field

from torch import Tensor, nn

from models.trace import Cost
from models.unmask.passes import Evaluation, Moment, branches, guided


@dataclass
class Reusing:
    """Encodes what is new and reuses the rest; `reuse` off encodes every visible token in every pass.

    state: what the last pass left, batch 2B with guidance: each branch has its own half. work: multiply-adds of the
    encoder (with P) and of the decoder (with the head) in every pass so far.
    """

    model: nn.Module
    cond: Tensor | None
    guidance: float = 0.0
    reuse: bool = True
    state: object = None
    work: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, moment: Moment) -> Evaluation:
        ids, cond = branches(moment.ids, self.cond, self.guidance)
        began, before = time.perf_counter(), self.state if self.reuse else None
        look = self.model(ids, cond, before)
        samples = len(moment.ids)
        logits = guided(self.model.head(look.hidden).float(), samples, self.guidance)
        self.state, ms = look.state, (time.perf_counter() - began) * 1e3
        new = ~moment.masked if before is None else ~moment.masked & ~before.visible[:samples]
        masked, kept = (int(part[0].sum()) for part in (moment.masked, ~moment.masked & ~new))
        return Evaluation(look.positions[:samples], logits, new | moment.masked,
                          self._cost(len(ids), int(new[0].sum()), kept, masked, ms))

    def _cost(self, batch: int, new: int, kept: int, masked: int, ms: float) -> Cost:
        """Of one pass; the features that wait for the next one are its cache."""
        encoder, decoder = work(self.model, new, kept, masked)
        self.work.append((batch * encoder, batch * decoder))
        rows = new * len(self.model.encoder) + masked * len(self.model.decoder)
        features = (new + kept) * self.state.features.shape[2] * self.state.features.element_size()
        return Cost(1, batch * rows, sum(self.work[-1]), batch * features, ms)


def work(model, new: int, kept: int, masked: int) -> tuple[int, int]:
    """Multiply-adds of one sample: (encoder with P, decoder with head), for so many new, reused and MASK tokens."""
    width, words = model.config.hidden_size, model.cond_length
    encoder = len(model.encoder) * layer_work(model, new, words + kept) if new else 0
    encoder += kept * linear(model.reuse)
    decoder = len(model.decoder) * layer_work(model, masked, words + kept + new)
    return encoder, decoder + masked * model.vocab_size * width


def layer_work(model, rows: int, support: int) -> int:
    """One layer on `rows` tokens beside `support` supporting ones: projections and MLP, keys and values, attention."""
    layer = model.layers[0]
    supporting = linear(layer.support_k_proj) + linear(layer.support_v_proj)
    own = linear(layer) - supporting
    attended = 2 * rows * (rows + support) * layer.self_attn.q_proj.out_features
    return rows * own + support * supporting + attended


def linear(module: nn.Module) -> int:
    """Multiply-adds per row of the linear maps in a module."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))
