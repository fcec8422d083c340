"""Exploring Next Token Prediction in Theory of Mind (ToM) Tasks (arXiv 2504.15604).

A short story about who saw what is padded with sentences that change nothing; a question asks about the world (order
0), about what somebody believes (order 1), or about what somebody thinks that another believes (order 2). Measured is
the next-token distribution at the answer, softmax(logits / temperature), which is one word by construction:

    right at all            argmax logits = answer                 temperature cannot change it
    right when drawn        softmax(logits / t)[answer]            exact, at four temperatures
    spread                  entropy of softmax(logits / t)

There is no public code. Our own: the stories, the tracker of beliefs and the infills (models/worlds/tales/beliefs.py;
the paper takes ten stories of ExploreToM and lets GPT-4 write the infills), and both models, in place of GPT-2 and
Llama 2.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.engine.method import Card, Control, Event, Job, Method
from models.papers.tom import record
from models.papers.tom.materials import item_of, with_infills
from models.trace.params import Span
from models.trace.subject import Example

NEW, OLD, FAR, EARLIER = "tale-ar-2", "tale-gpt-1", "tale-gpt-far-1", "tale-ar-1"
NAMES = {NEW: "B, like Llama", OLD: "A, like GPT-2", FAR: "C, as A with up to 8 infills"}


@dataclass(frozen=True)
class Params:
    infills: Annotated[int, Span(0, 8, 1, "Infills", "Sentences that change nothing, put among the others. A and B "
                                 "learned with at most 2.", unit="sentences")] = 2
    temperature: Annotated[float, Span(0.01, 2.0, 0.01, "Temperature", "The paper asks at 0.01, 0.5, 1 and 2. The "
                                       "likeliest word stays the same at all of them.", view=True)] = 1.0
    samples: Annotated[int, Span(0, 200, 10, "Answers drawn", "At this temperature, beside the exact probability.",
                                 unit="draws", fold=True)] = 50


def run(job: Job) -> Iterator[Event]:
    item = item_of(job.subject.text)
    page = record.StoryPage(job.tokenizer, item, with_infills(item, job.params.infills, job.seed))
    others = {NAMES[name]: job.companion(name).model for name in (NEW, OLD) if name != job.bundle.name}
    yield from record.heard(job, page, {NAMES.get(job.bundle.name, "this network"): job.model, **others})


METHOD = Method(
    bound="its stories are told in the words of the tales",
    card=Card(
        id="tom", title="Theory-of-Mind stories", tabs=("sample", "attend"), arxiv="2504.15604", year=2025, seed="B",
        summary="Tells stories about who saw what, padded with sentences that change nothing, and reads the next "
                "word's distribution where the answer to a question about the world or a belief must stand.",
        flow="story > *infills > question > model > next word; next word > *four temperatures > right when drawn",
        look_at="Step through the story. The right answer changes only when the one who is asked about can see it, "
                "while the network may follow where the thing really is.",
        not_covered="GPT-2, Llama 2, ExploreToM's stories and infills written by GPT-4. A network that learned stories "
                    "of one pattern answers that pattern; nothing here says that it has a theory of mind.",
        unverified="The paper's five levels of infills are known from a summary; 0, 2, 4 and 8 are ours. The two "
                   "models differ in size and in training, here as in the paper.",
        states={"sample": {"accepted": "right answer", "refused": "wrong answer"}}),
    params=Params, accepts="text", checkpoints=(NEW, OLD, FAR, EARLIER), companions=(NEW, OLD), run=run,
    control=Control(OLD, title="A, like GPT-2"),
    fixed={"sample": "The answer is asked for, not written on: change the story, its infills or the temperature."},
    examples=(
        Example("kitchen", "Anna has left", "Anna and Ben are in the kitchen. The ball is in the basket. Anna leaves "
                "the kitchen. Ben moves the ball to the drawer. Ben leaves the kitchen. Where will Anna look for the "
                "ball?"),
        Example("barn", "What Hugo thinks of Rosa", "Hugo, Rosa and Leo are in the barn. The apple is in the bucket. "
                "Rosa leaves the barn. Hugo moves the apple to the barrel. Leo tells Rosa that the apple is in the "
                "barrel. Where does Hugo think that Rosa will look for the apple?"),
        Example("attic", "Where it was at first", "Emma and Paul are in the attic. The doll is in the chest. Paul "
                "moves the doll to the box. Emma leaves the attic. Where was the doll at first?"),
        Example("hall", "Clara sees it", "Clara and Sam are in the hall. The plum is in the jar. Sam moves the plum to "
                "the pot. Clara leaves the hall. Where will Clara look for the plum?")))
