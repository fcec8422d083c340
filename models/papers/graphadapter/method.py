"""GraphAdapter (arXiv 2402.12984; zjunet/GraphAdapter): a graph network reads linked pages for a frozen language model.

Before every word its guess is mixed half and half with the model's own, p = 1/2 p_LM + 1/2 p_GNN (network.py), so that
it is only paid for what the model does not know by itself (recipe.py). The text of other pages never enters the prompt.
Our own: the pages (models/worlds/pages.py); that a page tells nothing to itself, because the reference's features
contain the words to be predicted (an adapter with that leak is offered beside it); five questions behind a page in the
place of one template; no label smoothing, which charges 0.1 nat for every word that is certain.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.engine.method import Card, Control, Event, Job, Method
from models.loops.sample.mixed_lm import writing
from models.papers.graphadapter.record import heard
from models.papers.graphadapter.source import CHECKPOINTS, LinkedPage
from models.trace.params import Choice, Span, Words
from models.trace.subject import Example


@dataclass(frozen=True)
class Params:
    adapter: Annotated[str, Choice(tuple(CHECKPOINTS), "Adapter", "Of equal size (attention has 512 weights "
                                   "more), trained for as many steps.", titles=(
        "graph means (SAGE)", "graph attention (GAT)", "no links (MLP)", "links rewired at random",
        "SAGE that sees its own page"))] = "sage"
    weight: Annotated[float, Span(0.0, 1.0, 0.05, "Weight of the adapter", "In the mixture of probabilities; it was "
                                  "trained with one half.", unit="of 1")] = 0.5
    hops: Annotated[int, Span(0, 2, 1, "Links away", "0: no other page is heard.", unit="links")] = 2
    without: Annotated[str, Words("Cut the links to", 120, "Names of linked pages, such as: Tom, Mia.")] = ""
    length: Annotated[int, Span(1, 60, 1, "Write on", unit="words")] = 20
    temperature: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature", "0 takes the likeliest word.", fold=True)] = 0.0


def run(job: Job) -> Iterator[Event]:
    source = LinkedPage(job)
    yield from writing(job, source)
    yield from heard(source)


METHOD = Method(
    bound="its adapters were trained beside its own frozen model",
    card=Card(
        id="graphadapter", title="GraphAdapter", tabs=("sample", "attend"), arxiv="2402.12984", year=2024, seed="B",
        summary="Keeps a language model frozen, lets a small graph network read what the model says of linked pages, "
                "and mixes both next-word guesses half and half: words that the neighbours explain become likelier.",
        flow="page so far > model > next word; linked pages > model > *graph network > *fusion > next word; model > "
             "*fusion",
        look_at="The house, the song or the friend: the model alone cannot know which, and the adapter knows "
                "what the circle shares. Set the links away to 0, and the word falls back.",
        not_covered="Node classification with prompts (circles here have no names that could be told), citation and "
                    "social graphs, RoBERTa, GPT-2 and Llama 2; label smoothing; several trainings.",
        unverified="Forty pages to a web with circles of their own, 90 % own words and about five links are ours; so "
                   "are five averaged questions as a page's state, and that a page tells itself nothing. Measured on "
                   "whole pages of other webs (the reference: on the last tenth of each page)."),
    params=Params, accepts="text", checkpoints=("tale-ar-2",), companions=tuple(CHECKPOINTS.values()), run=run,
    control=Control(params={"adapter": "mlp"}, title="The adapter without links"),
    fixed={"attend": "It shows what the next word owes to linked pages: cut links with the control instead."},
    examples=(
        Example("ben", "Where may Ben live?", "Ben: Erik taught Ben to sing. You can meet Ben in the"),
        Example("viktor", "What may Viktor sing?", "Viktor: Viktor knows the song of"),
        Example("emma", "What may Emma carry?", "Emma: Emma carries the"),
        Example("tom", "Tom lives elsewhere", "Tom: Where does Tom live? In the stable. Tom knows the song of")))
