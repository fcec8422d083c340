"""Future Token Prediction (arXiv 2410.18160): one vector per word is stretched into pseudo-tokens from which a small
decoder writes the next N words.

A shallow causal encoder reads the text; the vector of its last word is all that the decoder is given, and it writes
`at_once` words before the text is read on (network.py). In its place may stand N independent heads on the whole trunk,
or the trunk itself, which reads on after every word. What is said of a word k places ahead, whatever stands between, is
the mean over the decoder's likeliest paths there: ours, the paper only writes. There is no public code.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch

from kernels import Sampler
from models.backbones.text import counted, fitting
from models.engine.method import Card, Control, Event, Job, Method
from models.loops.sample.cached_lm import Reader, Stream
from models.loops.sample.rollouts import Ends, Trial, roll_out
from models.trace import Cost
from models.trace.params import Choice, Span
from models.trace.subject import Example, SubjectError

TRUNK, FTP, HEADS = "tale-ar-2", "tale-ftp-1", "tale-heads-1"
WRITERS = {"decoder": FTP, "heads": HEADS}
SHORTEST, LONGEST = 10, 120  # words of a text


@dataclass(frozen=True)
class Params:
    writer: Annotated[str, Choice(
        ("decoder", "heads", "trunk"), "Who writes", "Heads know nothing of each other; the trunk alone reads on after "
        "every word.", titles=("one vector and its decoder (the method)", "one vector and independent heads",
                               "the trunk, word by word"))] = "decoder"
    at_once: Annotated[int, Span(1, 8, 1, "Words per vector", "So many are written before the text is read on.",
                                 unit="words")] = 8
    length: Annotated[int, Span(1, 40, 1, "Length", "The text may end earlier by itself.", unit="words")] = 24
    temperature: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature", "0 takes the likeliest word.")] = 0.0


def written(job: Job, live: Stream, end: int | None) -> Iterator[tuple[Trial, Cost]]:
    """What is written from every vector, or by the trunk, and what it cost, until the text has its length or ends.
    live: behind the prompt; where its model answers vectors, these are its "logits"."""
    p, dice, left = job.params, job.generator(), job.params.length
    behind = getattr(live.model, "behind", None)
    while True:
        began, over = time.perf_counter(), Ends(end, frozenset(), min(p.at_once, left))
        stands = behind(live.logits) if behind else live
        (trial,), _, _ = roll_out(stands, Sampler(p.temperature), over, dice)
        left -= len(trial.ids)
        cost = live.meter.lap()
        if behind:
            cost += Cost(0, 0, sum(stands.macs), 0, (time.perf_counter() - began) * 1e3)
        yield trial, cost
        if not left or trial.ids[-1] == end:
            return
        live.read([trial.ids if behind else trial.ids[-1:]])


def run(job: Job) -> Iterator[Event]:
    from models.papers.ftp.record import told

    source = Reader(job.bundle, job.subject, job.params.length, whole=True)
    fitting(len(source.prompt), LONGEST)
    if len(source.prompt) < SHORTEST:
        raise SubjectError(f"This text has {counted(len(source.prompt))}; please type at least {SHORTEST}.")
    source.read([source.prompt])
    with torch.inference_mode():
        z = trunk = job.model.model(torch.tensor([source.prompt], device=job.device)).last_hidden_state[0]
    live, reader = source, None
    if job.params.writer != "trunk":
        reader = job.companion(WRITERS[job.params.writer]).model.on(job.model)
        live = reader.stream()
        z = live.read([source.prompt], every=True)[0].float()
    return told(job, source, reader, z, trunk, written(job, live, source.end))


METHOD = Method(
    bound="its vectors were trained on its own trunk",
    card=Card(
        id="ftp", title="Future Token Prediction", tabs=("sample", "attend"), arxiv="2410.18160", year=2024, seed="B",
        summary="Stretches the vector of one word into a short row of pseudo-tokens, from which a small decoder writes "
                "the next eight words: the vector has to sum up where the text is going.",
        flow="text so far > encoder > vector of the last word > *pseudo-tokens > *small decoder > next words; "
             "next words ~> text so far",
        look_at="Point at a word of the text: what one vector said of it one, two, four and eight words before it came."
                " Then step on: each step writes eight words from one vector.",
        not_covered="The paper's size and data; topic coherence of long generated texts; its coding task; a decoder "
                    "that is told the first word; other weights of far words than 0.8 per place.",
        unverified="N = 8, weights 0.8 per place and the number of pseudo-tokens follow a re-implementation; the text "
                   "is read with low-rank changes of a trunk and not by an encoder trained from nothing; half of the "
                   "places of a text are learned from."),
    params=Params, accepts="text", checkpoints=(TRUNK,), companions=(FTP, HEADS), run=run,
    control=Control(params={"writer": "heads"}, title="Independent heads"),
    fixed={"sample": "Several words come from one vector at once; write yours behind the text and run it again.",
           "attend": "It shows how the decoder reads one vector, which is made before."},
    examples=(
        Example("castle", "From the sea to the castle",
                "A happy tale of the sea and the castle. Once a brave fox lived by the sea. One day it lost its golden "
                "ring. Behind the anchor slept a gull, so the fox walked on softly. Then the wind changed, and the fox "
                "went to the castle. The fox asked a knight, and"),
        Example("winter", "A sad tale of the winter",
                "A sad tale of the winter. Once an old owl lived in the snow. One day it lost its silver harp. The owl "
                "looked under the sled, but there was only a"),
    ))
