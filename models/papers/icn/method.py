"""Correlation and Navigation in the Vocabulary Key Representation Space of Language Models (arXiv 2410.02284).

What follows a text is a query held against fixed keys, so whatever lies near the likeliest words comes along for free.
In-context navigation lists what was found already in the text: the query moves away from it, and other words come up.
As the scripts of the authors do (KomeijiForce/KeyNavi, not copied), each round takes the likeliest first words that
were not taken before, and completes each greedily behind the text *without* the list, unless `listed` is on. No logit
is changed by hand. Our own: lists of the tales with their gold members as judge, items that end with a comma.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.engine.method import Card, Control, Event, Job, Method
from models.papers.icn import record
from models.papers.icn.navigation import Navigator
from models.trace.params import Flag, Span
from models.trace.subject import Example, SubjectError, nothing_behind
from models.worlds.tales import lists


@dataclass(frozen=True)
class Params:
    rounds: Annotated[int, Span(1, 10, 1, "Rounds", "After each, what it found is listed in the text.")] = 6
    firsts: Annotated[int, Span(1, 10, 1, "First words a round", "How many of the likeliest words that were not tried "
                                "yet are completed in each round.", unit="words")] = 5
    navigate: Annotated[bool, Flag("List what was found", "Off: one ranking, walked down; the query never moves.")
                        ] = True
    listed: Annotated[bool, Flag("Complete behind the list", "Off, as in the paper: the list steers only which first "
                                 "word is tried.", fold=True)] = False
    clusters: Annotated[int, Span(16, 256, 16, "Clusters of words", "k-means of the head's rows.", fold=True)] = 64
    candidates: Annotated[int, Span(20, 200, 10, "Ranking looked at", "How many of the likeliest words are completed, "
                                    "to see how many are right near the first ones and elsewhere.", unit="words",
                                    fold=True)] = 100
    top: Annotated[int, Span(1, 20, 1, "First ones", "Words whose clusters count as near.", unit="words",
                             fold=True)] = 10


def category_of(text: str) -> str:
    """The category that a list's opening asks for; SubjectError where it is none."""
    try:
        category = lists.read(text)[0]
    except ValueError as error:
        raise SubjectError(f"This needs the opening of a list: {error}.") from error
    nothing_behind(text, ":")
    return category


def run(job: Job) -> Iterator[Event]:
    category = category_of(job.subject.text)
    walk = Navigator(job.bundle, lists.opening(category))
    return record.told(job, walk, frozenset(lists.MEMBERS[category]))


METHOD = Method(
    card=Card(
        id="icn", title="ICN", tabs=("sample", "attend"), arxiv="2410.02284", year=2024, seed="B",
        summary="Lists what was found already in the text, which moves the model's query away from it, so that other "
                "right words come up; no logit is changed by hand.",
        flow="text > model > query > keys of all words > likeliest words not tried > completed behind the text; "
             "completed behind the text ~> *listed in the text; *listed in the text > model",
        look_at="How the ranking is made anew after each round, and how many right things come up beside one fixed "
                "ranking.",
        not_covered="Voting over several ways of reasoning; a judge that is a language model (the gold lists of the "
                    "tales judge here).",
        unverified="About 1,024 clusters of Llama's 128,000 words; here 64 of 1,024.",
        shown={"attend": "the text with its list"},
        states={"sample": {"accepted": "right and new", "refused": "wrong, or said before"}}),
    params=Params, accepts="text", checkpoints=("tale-ar-1",), run=run,
    bound="its lists are told in the words of the tales",
    control=Control(params={"navigate": False}, title="One fixed ranking"),
    fixed={"sample": "The words come from the rounds: change how many, or how many first words each tries."},
    examples=(Example("cellar", "What is in the cellar", "In the cellar you find:"),
              Example("market", "What is at the market", "At the market you find:"),
              Example("birds", "Some birds", "Some birds:")))
