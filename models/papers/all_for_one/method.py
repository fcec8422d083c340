"""All for One (arXiv 2509.09650): do sums still come out right where tokens hear of each other in few layers only?

Nothing is trained for it. For the first layers every token's state is replaced by what it would be on average, whatever
the other numbers were; then the last token alone looks back, for a few layers; then it is on its own (network.py).
Ours: the network (recipe.py), sums of numbers up to 29, and that every token may look back while transferring.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.engine.method import Card, Control, Event, Job, Method
from models.papers.all_for_one.network import CAMA, EVERYONE, MEAN, NET, PEEK, ZEROS
from models.papers.all_for_one.record import Staged, told
from models.trace.params import Choice, Flag, Span
from models.trace.subject import Example


@dataclass(frozen=True)
class Params:
    wait: Annotated[int, Span(0, 12, 1, "Waiting layers", "So many first layers in which no token hears of "
                              "another.")] = 2
    transfer: Annotated[int, Span(0, 12, 1, "Layers of transfer", 'Then so many in which "=" looks at all tokens; in '
                                  "those that are left it is alone.")] = 4
    who: Annotated[str, Choice((PEEK, EVERYONE), "While transferring", "Who may look at the tokens before.", titles=(
        '"=" alone looks (the method)', "every token looks"))] = PEEK
    ablation: Annotated[str, Choice((CAMA, MEAN, ZEROS), "A waiting token holds", "Means are over sums with other "
                                    "numbers: those that have this token here, or any.", titles=(
        "its own mean (the method)", "the mean of any token", "zeros"))] = CAMA
    samples: Annotated[int, Span(16, 128, 16, "Sums in a mean", "Drawn anew for every token, with the same signs.",
                                 fold=True)] = 64
    start: Annotated[bool, Flag("All see the start token", "<|endoftext|> in front stays in everyone's sight: a place "
                                "for attention that has nowhere to go.", fold=True)] = True


def run(job: Job) -> Iterator[Event]:
    return told(Staged(job))


METHOD = Method(
    bound="its sums are of the numbers that its own network knows",
    card=Card(
        id="all-for-one", title="All for One", tabs=("attend",), arxiv="2509.09650", year=2025, seed="B",
        summary="Of a language model that adds in its head, the paper finds that tokens may wait in the first layers, "
                "each holding what it holds on average, that the last one then looks at them in a few layers and is "
                "alone in the rest. This small network does not wait: its first layers are needed.",
        flow="sum > tokens > *wait: own token, others averaged > *transfer: the last token looks > *compute: the last "
             "token alone > answer",
        look_at="Wrong in three stages, and right beside it in the whole network. Let every token look, with 0 waiting "
                "layers and 6 of transfer: right, so \"=\" is alone in the other 6. Then let one layer wait.",
        not_covered="Public models (they need numbers as single tokens; the fitting ones are gated or too large here), "
                    "noise as an ablation, the chart of settings over many sums: here it is of one, and no click on it "
                    "moves the sliders.",
        unverified="Whether the start token stays in sight is a switch, on by default, as the paper is remembered. The "
                   "network knows sums of numbers up to 29 alone (the spec: 99), begins with rows that tell a number's "
                   "place on the line, and was trained once (three are asked for). Means are over 64 sums with the "
                   "same signs, drawn in every run and not shipped. That every token looks is our variant; so is the "
                   "test that \"=\" hears nobody in the layers of transfer and all else is left as it is."),
    params=Params, accepts="text", checkpoints=(NET,), run=run,
    control=Control(params={"wait": 0, "transfer": 12, "who": EVERYONE}, title="The whole network"),
    fixed={"attend": "Who may look at whom is what this paper sets: move its stages instead."},
    examples=(
        Example("minus", "A number is taken away", "17 + 4 - 9 ="),
        Example("plus", "Three numbers", "8 + 25 + 13 ="),
        Example("negative", "A negative answer", "3 - 21 - 8 ="),
        Example("two", "Two numbers", "24 - 7 =")))
