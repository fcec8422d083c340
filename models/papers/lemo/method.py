"""LeMo (arXiv 2501.09767): while a model is fine-tuned on a long text, every layer reads only its informative blocks.

What counts as informative, and how a layer skips the rest, is elimination.py; the guess of it network.py; what a run
measures backward.py. A run takes one step of fine-tuning twice, once reading everything and once as LeMo, on the
visitor's own text, with low-rank changes of its own. Nothing is learned from it, and no weight is touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch

from models.backbones.text import counted, read
from models.engine.method import Card, Control, Event, Job, Method
from models.papers.lemo import record
from models.papers.lemo.backward import forward, learner
from models.papers.lemo.elimination import PARTS
from models.papers.lemo.network import BlockChooser
from models.trace.params import Choice, Span
from models.trace.subject import Example, SubjectError

BLOCKS = "text-lemo-blocks-1"


@dataclass(frozen=True)
class Params:
    length: Annotated[int, Span(128, 2048, 64, "Length", "The text is read up to here.", unit="tokens")] = 512
    block: Annotated[int, Span(8, 64, 8, "Block", "Tokens that are read or skipped together; the thresholds were "
                               "learned at 16.", unit="tokens")] = 16
    times: Annotated[float, Span(0.2, 3.0, 0.1, "Thresholds", "Above 1 fewer blocks are read, below 1 more.",
                                 unit="times the learned ones")] = 1.0
    scorer: Annotated[str, Choice(
        ("predictor", "oracle", "random"), "Who chooses", "The guess is cheap; the layer's own scores are as dear as "
        "the layer; dice keep as many blocks as the guess.", titles=("the guess", "the layer's own scores", "dice"))
    ] = "predictor"
    parts: Annotated[str, Choice(("both", *PARTS), "Where blocks are skipped",
                                 titles=("attention and MLP", "attention", "MLP"))] = "both"
    segments: Annotated[int, Span(1, 16, 1, "Pieces of the loss", "The logits of all words are the widest numbers of "
                                  "all; in pieces only one piece of them is there at a time.", fold=True)] = 8
    layer: Annotated[int, Span(1, 6, 1, "Layer of the maps", "Whose blocks the Attend tab shows.", fold=True)] = 3


def words(job: Job):
    """The first tokens of the text and one more, which the last of them has to predict."""
    found = read(job.tokenizer, job.subject.text, most=max(job.params.length, 2 * job.params.block) + 1)
    if len(found) < 2 * job.params.block + 1:
        raise SubjectError(f"This text has {counted(len(found))}; please give at least {2 * job.params.block + 1}, "
                           "two blocks and a word.")
    return found


def chooser(job: Job) -> BlockChooser:
    p = job.params
    return BlockChooser(job.companion(BLOCKS).model, p.block, times=p.times, exact=p.scorer == "oracle",
                        dice=job.generator() if p.scorer == "random" else None,
                        parts=PARTS if p.parts == "both" else (p.parts,))


def run(job: Job) -> Iterator[Event]:
    found = words(job)
    count = min(job.params.length, len(found) - 1)
    ids = torch.tensor(found.ids[: count + 1], device=job.device)
    if job.wants("prune"):
        yield from trained(job, found.labels[:count], ids)
    yield from record.maps(job, ids[:-1], found.labels[:count], job.companion(BLOCKS).model)


def trained(job: Job, labels, ids: torch.Tensor) -> Iterator[Event]:
    """The Prune record: both steps of fine-tuning; their ends are left to the record, which needs them last."""
    model = learner(job.model)
    choose = chooser(job)
    whole, everything = forward(model, ids)  # to compare bytes with
    began = time.perf_counter()
    saved, learned = forward(model, ids, choose)
    ms = (time.perf_counter() - began) * 1e3
    ends = partial(everything, job.params.segments, learns=False), partial(learned, job.params.segments)
    yield from record.EliminationRecord(job, labels, choose, (whole, saved), ends, ms).prune()


METHOD = Method(
    bound="its guesses were learned from this network's layers",
    card=Card(
        id="lemo", title="LeMo", tabs=("prune", "attend"), arxiv="2501.09767", year=2025, seed="A",
        summary="While a model is fine-tuned on a long text, every layer reads only the blocks that matter to it; the "
                "others pass by unread and are asked again at the next layer. What is not read needs no memory for the "
                "backward pass.",
        flow="long text > *guess of each block's weight > *blocks above the layer's threshold > attention and MLP > "
             "next layer; long text > *past it, unread > next layer; next layer > loss of every word",
        look_at="Step through the layers: a block that one layer skips is read by another. The bars show what one real "
                "backward pass kept in memory, measured as it ran. In a network this small the choice teaches less "
                "than dice: the claim below.",
        not_covered="The paper's GPU kernels, so nothing is said of its speed; models of billions of words' texts; "
                    "neurons of the predictors that are pruned while they learn.",
        unverified="Scores are summed over all blocks of queries, also earlier ones, as the formula says. The first "
                   "block always stays. A threshold is a multiple of the mean of the text's own scores, set by one "
                   "finite difference of the loss, where the paper moves it in steps; a common factor, ours, brings "
                   "the share that is read to 58 %. The MLP's guess is a chain of its own."),
    params=Params, accepts="text", checkpoints=("text-lora-lemo-1", "text-lora-full-1", "text-lora-random-1"),
    companions=(BLOCKS,), run=run, control=Control(params={"scorer": "random"}, title="As many blocks by dice"),
    fixed={"prune": "Which blocks are read follows from their scores: change the thresholds or who chooses.",
           "attend": "The maps are the network's own scores."},
    examples=(Example("shrew", "A comedy: the suitors", "lemo-shrew.txt"),
              Example("tempest", "A play with spirits", "lemo-tempest.txt"),
              Example("garden", "No play: the garden of live flowers", "attend-garden.txt")))
