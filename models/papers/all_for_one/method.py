"""All for One (arXiv 2509.09650): sums still come out right where tokens hear of each other in a few layers only.

Nothing is trained for it. For the first layers every token's state is replaced by what it would be on average, whatever
the other numbers were; then the last token alone looks back, for a few layers; then it is on its own (network.py).
Ours: the network (recipe.py), and sums of numbers up to 29.
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
    wait: Annotated[int, Span(0, 12, 1, "Waiting layers", "So many first layers in which no token hears of another.",
                              unit="layers")] = 2
    transfer: Annotated[int, Span(0, 12, 1, "Layers of transfer", 'Then so many in which "=" looks at all tokens; in '
                                  "those that are left it is alone.", unit="layers")] = 4
    who: Annotated[str, Choice((PEEK, EVERYONE), "While transferring", "Who may look at the tokens before.", titles=(
        '"=" alone looks (the method)', "every token looks"))] = PEEK
    ablation: Annotated[str, Choice((CAMA, MEAN, ZEROS), "A waiting token holds", "What its state is replaced by.",
                                    titles=("the mean over sums with this token (the method)",
                                            "the mean over sums with any token", "zeros"))] = CAMA
    samples: Annotated[int, Span(16, 128, 16, "Sums in a mean", "Drawn anew for every token, with the same signs.",
                                 unit="sums", fold=True)] = 64
    start: Annotated[bool, Flag("All see the start token", "<|endoftext|> in front stays in everyone's sight: a place "
                                "for attention that has nowhere to go.", fold=True)] = True


def run(job: Job) -> Iterator[Event]:
    return told(Staged(job))


METHOD = Method(
    bound="its sums are of the numbers that its own network knows",
    card=Card(
        id="all-for-one", title="All for One", tabs=("attend",), arxiv="2509.09650", year=2025, seed="B",
        summary="In a network that adds in its head, tokens may hear of each other in a few middle layers only: "
                "before, each holds what it would hold on average, whatever the others are; after, the last one is "
                "alone. The sum still comes out right.",
        flow="sum > tokens > *waiting layers: own token, mean over the others > *transfer: \"=\" looks at all > "
             "*compute: \"=\" alone > answer",
        look_at="Move the waiting layers to the right: right, still right, then wrong. Then the layers of transfer "
                "from 0 upwards.",
        not_covered="Public models (they need numbers as single tokens and are gated or too large for two cores), "
                    "noise as an ablation, a click on the chart of settings that moves the sliders.",
        unverified="Whether the start token stays visible in the paper's later stages is not certain: it is a switch. "
                   "Means are over 64 sums drawn in every run. Three trainings are asked for; this is one."),
    params=Params, accepts="text", checkpoints=(NET,), run=run,
    control=Control(params={"wait": 0, "transfer": 12, "who": EVERYONE}, title="The whole network"),
    fixed={"attend": "Who may look at whom is what this paper sets: move its stages instead."},
    examples=(
        Example("minus", "A number is taken away", "17 + 4 - 9 ="),
        Example("plus", "Three numbers", "8 + 25 + 13 ="),
        Example("negative", "A negative answer", "3 - 21 - 8 ="),
        Example("two", "Two numbers", "24 - 7 =")))
