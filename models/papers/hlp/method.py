"""Horizon-length prediction (arXiv 2410.03103): a model that fills a gap also learns how much of the gap is left.

Fill-in-the-middle puts the text behind a gap before the words that fill it: [PRE] p [SUF] s [MID] m [EOI] (gaps.py).
In training a linear gauge on the last state has to say, at every word of the gap, which share of it is left, and that
changes the network: L = L_NTP + 0.1 |y_t - (M - t) / M| (recipe.py). When a gap is filled the gauge is only shown.
There is no public code.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import torch

import kernels
from models.engine.method import Card, Control, Event, Job, Method
from models.loops.sample.cached_lm import Reader
from models.papers.hlp.gaps import EOI, Gap, Written
from models.trace.params import Span
from models.trace.subject import Example, SubjectError

HLP, NTP = "tale-hlp-1", "tale-fim-1"
MARKED = re.compile(r"([^\[\]]*)\[([^\[\]]*\w[^\[\]]*)\]([^\[\]]*)")


@dataclass(frozen=True)
class Params:
    longest: Annotated[float, Span(1.0, 3.0, 0.5, "Write at most", "Only the network itself ends a gap before that; "
                                   "nothing is cut off to fit.", unit="times the gap")] = 2.0
    temperature: Annotated[float, Span(0.0, 1.0, 0.1, "Temperature", "0 takes the likeliest word.")] = 0.0


def marked(job: Job) -> tuple[Gap, Reader]:
    """The gap of a text in which [brackets] stand around it, and the text as a reader without them."""
    found = MARKED.fullmatch(job.subject.text)
    if not found:
        raise SubjectError("Please put [ and ] around the words that are to be missing, once, as the examples do.")
    before, inside, after = (part.strip() for part in found.groups())
    whole = replace(job.subject, text=" ".join(filter(None, (before, inside, after))))
    first, count = (len(job.tokenizer.encode(part, add_special_tokens=False)) for part in (before, inside))
    reader = Reader(job.bundle, whole, int(job.params.longest * count), whole=True)
    return Gap(tuple(reader.prompt[1:]), first, count), reader


@torch.inference_mode()
def writing(job: Job, gap: Gap) -> Iterator[Written]:
    """Word after word into the gap, until the network says that it is filled. The gauge is read and never asked."""
    stream, dice, new = job.model.stream(), job.generator(), gap.prompt
    for _ in range(int(job.params.longest * gap.count)):
        stream.read([new])
        logits, left = job.model.told(stream.logits)
        word = int(kernels.draw(logits, kernels.Sampler(job.params.temperature), dice))
        yield Written(word, logits[0], float(left), stream.meter.lap())
        if word == EOI:
            return
        new = [word]


def run(job: Job) -> Iterator[Event]:
    from models.papers.hlp.record import told

    gap, reader = marked(job)
    return told(job, gap, reader, writing(job, gap))


METHOD = Method(
    bound="the signs around a gap and the gauge were learned by its own networks",
    card=Card(
        id="hlp", title="HLP", tabs=("sample", "unmask"), arxiv="2410.03103", year=2024, seed="B",
        summary="While it learns to fill gaps, the model also has to say at every word which share of the gap is left. "
                "It is meant to plan where it lands instead of rambling past the place where the text goes on.",
        flow="text around a gap > next word of the gap ~> text around a gap; next word of the gap > *what is left",
        look_at="The line of the gauge beside the true one, and the chance of the end: does it rise in time?",
        not_covered="Code in files and repositories, gaps inside a word, the text behind the gap in front, several "
                    "weights of the gauge in training; infilling by diffusion or insertion beside it.",
        unverified="The sigmoid, the L1 distance and its weight of 0.1 are from memory; that [MID] itself counts is "
                   "our reading; three texts in four have a gap here."),
    params=Params, accepts="text", checkpoints=(HLP, NTP), run=run,
    control=Control(NTP, title="Next-word prediction alone"),
    fixed=dict.fromkeys(("sample", "unmask"), "A gap is filled from left to right: move its brackets and run again."),
    examples=(
        Example("drum", "One sentence of a story", "A happy tale of the sea. Once a young cook lived by the sea. One "
                "day it lost its red drum. [The cook opened a barrel, and out jumped an oyster.] The turtle laughed, "
                "gave the cook a wave, and ran away. In the end a friend brought the red drum back, and the cook "
                "danced all night."),
        Example("program", "The middle of a program", "Program: { a = 6; [b = a - a; a = 3 + 6; if a > 1 { a = b; } "
                "give] b; } Result: 0."),
        Example("tale", "Most of a story", "A sad tale of the castle. [Once a merry snake lived in the castle. One day "
                "it lost its tiny doll. A prince came along with a crown, and they walked to the] temple together. "
                "The snake never found the tiny doll, and it wept for a long time.")))
