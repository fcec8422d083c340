"""Random dropping: the baseline of the Prune tab. Same cuts, same machine, but a die decides who leaves."""
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
from models.trace.params import Flag


@dataclass(frozen=True)
class Params(KeptParams, Cuts):
    revive: Annotated[bool, Flag("Draw again for every token", "What left may come back for a later token.")] = False


def policy(job: Job, layers: int, cuts: tuple[float, ...] | None = None) -> KeepPolicy:
    """A fresh uniform number for every token alive, at every cut of every step."""
    dice = job.generator()
    return KeepPolicy(cuts or rates(job.params, layers), lambda moment: torch.rand(len(moment.alive), generator=dice),
                      revive=job.params.revive)


def plan(job: Job, seen: View) -> PicturePlan:
    """Patches drawn at random, all before the first layer."""
    return one_stage(seen, job.params.kept, torch.rand(seen.count, generator=job.generator()))


def run(job: Job) -> Iterator[Event]:
    if job.subject.kind in pictures.SUBJECTS:
        return look(job, lambda seen: plan(job, seen))
    return generate(job, lambda layers: policy(job, layers))


METHOD = Method(
    card=Card(
        id="random-keep", title="Random dropping", tabs=("prune",),
        summary="While reading a prompt, deeper layers keep a random part of the tokens. It saves exactly as much as a "
                "clever rule with the same cuts, so it shows what cleverness is worth. Of a picture a random part is "
                "never read.",
        flow="prompt > layers > tokens dropped at random > deeper layers > next token",
        look_at="Whether the words that the answer needs survive by luck: in this story they do; of 120 stories it "
                "answers 55 points fewer than the full model (below).",
        not_covered="The newest token never leaves; all others have the same chance."),
    params=Params, accepts="text", layouts=families.PRUNED,
    checkpoints=(*texts.CHECKPOINTS, *pictures.CHECKPOINTS), kinds=pictures.KINDS,
    run=run, examples=(*texts.EXAMPLES, *pictures.EXAMPLES), worldly=texts.WORLDLY)
