"""Static pruning by attention: rank the prompt once, cut by that ranking, never bring a token back.

The ranking is the attention that the prompt's last token pays at one chosen layer, mean over heads. It is the
simple neighbour of LazyLLM (arXiv 2407.14057): what is missing is a new ranking at every cut and word, and the revival.
On a picture patches are ranked by the attention they receive in the encoder's last layer, and the language model reads
the first ones only: reading a layer of eight in full would already cost more than a budget of 10 %.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch

from models.checkpoints import families
from models.engine.method import Card, Event, Job, Method
from models.loops.prune import pictures, texts
from models.loops.prune.forward import KeepPolicy
from models.loops.prune.loop import Cuts, generate, rates
from models.loops.prune.picture_records import look
from models.loops.prune.pictures import KeptParams, PicturePlan, View, one_stage
from models.trace import Field
from models.trace.params import Span

FIELDS = {"received": Field("Attention received", "x the mean", 0.0)}


@dataclass(frozen=True)
class Params(KeptParams, Cuts):
    rank_layer: Annotated[int, Span(1, 48, 1, "Layer that ranks", "Never later than the first cut: a layer that is "
                                    "beyond it is replaced by the layer before the first cut.", fold=True)] = 48


def policy(job: Job, layers: int, cuts: tuple[float, ...] | None = None) -> KeepPolicy:
    """The prompt's ranking from one layer of the first step; tokens written later stay."""
    cuts = cuts or rates(job.params, layers)
    first = next((i for i, rate in enumerate(cuts) if rate > 0), 0)
    layer, rank = min(job.params.rank_layer - 1, first), {}

    def score(moment):
        ranked = rank.setdefault("prompt", moment.seen.get(layer))  # [prompt], kept from the first step
        later = moment.alive >= len(ranked)
        return torch.where(later, float("inf"), ranked[moment.alive.clamp_max(len(ranked) - 1)])

    return KeepPolicy(cuts, score, frozenset({layer}), revive=False)


def plan(job: Job, seen: View) -> PicturePlan:
    """The most looked-at patches, all chosen before the first layer."""
    received = seen.attention.mean(0)
    return one_stage(seen, job.params.kept, received, {"received": (received / received.mean()).numpy()})


def run(job: Job) -> Iterator[Event]:
    if job.subject.kind in pictures.SUBJECTS:
        return look(job, lambda seen: plan(job, seen), FIELDS)
    return generate(job, lambda layers: policy(job, layers))


METHOD = Method(
    card=Card(
        id="top-attention", title="Static pruning by attention", tabs=("prune",),
        summary="Before the first word, the prompt's tokens are ranked once by the attention of the last token at one "
                "layer. The lowest leave at every cut and never return.",
        flow="prompt > layers > attention of the last token > least looked at leave for good > deeper "
             "layers > next token",
        look_at="A word that only the second half of the answer needs is gone for good.",
        not_covered="Only this one-shot ranking; published static methods differ in which layer and queries rank."),
    params=Params, accepts="text", layouts=families.PRUNED,
    checkpoints=(*texts.CHECKPOINTS, *pictures.CHECKPOINTS), kinds=pictures.KINDS,
    run=run, examples=(*texts.EXAMPLES, *pictures.EXAMPLES), worldly=texts.WORLDLY, baseline="random-keep",
    baseline_params=lambda p: {"first": p.first, "second": p.second, "third": p.third, "where": p.where,
                               "length": p.length, "rounds": p.rounds, "revive": False, "kept": p.kept,
                               "question": p.question})
