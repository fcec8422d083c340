"""GraphAdapter (arXiv 2402.12984; zjunet/GraphAdapter): a graph network reads linked pages for a frozen language model.

Before every word its guess is mixed half and half with the model's own, p = 1/2 p_LM + 1/2 p_GNN (network.py), so that
it is only paid for what the model does not know by itself (recipe.py). The text of other pages never enters the prompt.
Our own: the pages (models/worlds/pages.py); that a page tells nothing to itself, because the reference's features
contain the words to be predicted (an adapter with that leak is offered beside it); five questions behind a page in the
place of one template; no label smoothing, which charges 0.1 nat for every word that is certain.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from kernels import Sampler
from models.engine.method import Card, Close, Control, Event, Job, Method
from models.engine.recording import line
from models.loops.sample.cached_lm import Reader, log_probabilities
from models.loops.sample.loop import Journal, SamplingPolicy, decode
from models.papers.graphadapter.rule import mixed, neighbourhood, read
from models.trace import Cost, Fact, Field
from models.trace.params import Choice, ParamError, Span, Words
from models.trace.subject import Example, SubjectError
from models.worlds import pages
from models.worlds.tales.words import NAMES

ARMS = {"sage": "graph means (SAGE)", "gat": "graph attention (GAT)", "mlp": "no links (MLP)",
        "rewired": "links rewired at random", "own": "SAGE that sees its own page"}
CHECKPOINTS = {arm: f"tale-graph-{arm}-1" for arm in ARMS}
DEMO = 3077  # the web on the page; training has 0 to 79 (recipe.py)
MIXTURE, LM, ADAPTER = "mixture", "model alone", "adapter alone"
FIELDS = {"gain": Field("Likelier by the adapter, log of mixture over model", "nats", diverging=True)}
HELPED = 0.5  # nats


@dataclass(frozen=True)
class Params:
    adapter: Annotated[str, Choice(tuple(ARMS), "Adapter", "Of equal size, trained for as many steps.",
                                   titles=tuple(ARMS.values()))] = "sage"
    weight: Annotated[float, Span(0.0, 1.0, 0.05, "Weight of the adapter", "In the mixture of probabilities; it was "
                                  "trained with one half.", unit="of 1")] = 0.5
    hops: Annotated[int, Span(0, 2, 1, "Links away", "0: no other page is heard.", unit="links")] = 2
    without: Annotated[str, Words("Cut the links to", 120, "Names of linked pages, such as: Tom, Mia.")] = ""
    length: Annotated[int, Span(1, 60, 1, "Write on", unit="words")] = 20
    temperature: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature", "0 takes the likeliest word.", fold=True)] = 0.0


class Mixture:
    """A language model and an adapter that hears one neighbourhood, called as one causal model: its logits are the
    logarithms of the mixture. parts: what both said in the last call, log-probabilities [B, T, V]."""

    def __init__(self, model, adapter, heard: Tensor | None, weight: float):
        self.model, self.adapter, self.heard, self.weight = model, adapter, heard, weight
        self.config, self.device, self.parts = model.config, model.device, {}

    def __call__(self, ids: Tensor, logits_to_keep: int = 0, **cache) -> SimpleNamespace:
        states = self.model.model(ids, **cache).last_hidden_state[:, -logits_to_keep:]
        return SimpleNamespace(logits=self.told(states))

    def told(self, states: Tensor, heard: Tensor | None = None) -> Tensor:
        """log p [..., T, V] of states [..., T, D]; heard [..., 1, G]: something else than what is usually heard."""
        heard = self.heard if heard is None else heard
        if heard is not None:
            heard = heard.expand(*states.shape[:-1], -1)
        both = states, self.adapter.told(heard, states)
        self.parts = dict(zip((LM, ADAPTER), (log_probabilities(self.model.lm_head(one)) for one in both), strict=True))
        return mixed(self.parts[LM], self.parts[ADAPTER], self.weight)


class LinkedPage(Reader):
    """Somebody's page, "Mia: You can meet Mia in the", in the place of the one that stands in the web."""

    def __init__(self, job: Job):
        name, colon, text = job.subject.text.strip().partition(":")
        self.who, self.adapter = name.strip(), job.companion(CHECKPOINTS[job.params.adapter]).model
        if not colon or self.who not in NAMES or not text.strip():
            raise SubjectError("Please begin with whose page it is and a colon, as in \"Mia: You can meet Mia in\". "
                               f"The people are {', '.join(NAMES)}.")
        super().__init__(job.bundle, replace(job.subject, text=text.strip()), job.params.length, whole=True)
        web = pages.web(DEMO)
        self.web = web if self.adapter.links == "friends" else web._replace(links=pages.rewired(web.links, DEMO))
        self.page, self.text, self.trunk = NAMES.index(self.who), text.strip(), job.model
        self.hops, self.cut = job.params.hops, job.params.without
        self.near = self.linked(self.hops)
        with torch.inference_mode():
            heard = None if self.adapter.kind == "mlp" else self.adapter.heard(self.says, self.near)
        self.model = Mixture(job.model, self.adapter, heard, job.params.weight)

    def linked(self, hops: int, without: str = "") -> Tensor:
        """near [1, K, K] of the page; nothing is heard from beyond so many links, and some are cut."""
        return nearby(self.web, self.page, min(hops, self.hops), f"{self.cut}, {without}")

    @cached_property
    def says(self) -> Tensor:
        """What the model says [P, D] of those pages of the web that are near enough to be heard."""
        used = [int(page) for page in self.near.unique() if page >= 0]
        texts = [self.text if page == self.page else self.web.texts[page] for page in used]
        found = read(self.trunk, self.tokenizer, [NAMES[page] for page in used], texts)
        table = torch.zeros(pages.PAGES, self.trunk.config.hidden_size, device=self.trunk.device)
        table[used] = torch.stack([page.says for page in found]).to(table)
        macs = self.meter.body * sum(len(page.ids) for page in found)
        self.meter.cost += Cost(1, self.meter.layers * sum(len(page.ids) for page in found), macs)
        return table

    def start(self):
        """What mixture, model and adapter had said of each word of the page after the first, and what was gained."""
        logits = self.read([self.prompt], every=True)[0, :-1].float()
        shown = {MIXTURE: logits, **{name: part[0, :-1] for name, part in self.model.parts.items()}}
        return shown, {"gain": gained(shown, self.prompt[1:])}

    def now(self) -> dict[str, Tensor]:
        """The same of the next word [1, V]."""
        return {MIXTURE: self.logits, **{name: part[:, -1] for name, part in self.model.parts.items()}}


def nearby(web: pages.Web, page: int, hops: int, without: str = "") -> Tensor:
    """near [1, K, K] of a page in a web, without the links to some pages; nothing is heard from beyond `hops` links."""
    links, cut = web.every(), dict.fromkeys(filter(None, map(str.strip, without.split(","))))
    linked = [NAMES[other] for other in links[page]]
    for name in cut:
        if name not in linked:
            raise ParamError(f"without: {name[:20]} is not linked to {NAMES[page]}, but {', '.join(linked)} are")
        other = NAMES.index(name)
        links[page].remove(other)
        links[other].remove(page)
    near = neighbourhood(links, [page])
    if hops < 2:
        near[:, :, 1:] = -1
    if hops < 1:
        near[:, 1:] = -1
    return near


def gained(shown: dict[str, Tensor], ids) -> list[float]:
    """Nats [P] by which the mixture finds each word likelier than the model alone does."""
    at = torch.as_tensor(ids, device=shown[LM].device)[:, None]
    return (shown[MIXTURE].gather(1, at) - shown[LM].gather(1, at))[:, 0].tolist()


def run(job: Job) -> Iterator[Event]:
    from models.papers.graphadapter.record import heard

    source = LinkedPage(job)
    yield from decode(job, source, SamplingPolicy(
        Sampler(job.params.temperature), job.params.length, close, shown=lambda moment: source.now(), fields=FIELDS,
        measure=lambda moment: {"gain": gained(source.now(), moment.ids)}))
    yield from heard(source)


def close(journal: Journal) -> Close:
    page = journal.page
    gain, name = page.values["gain"][1 : page.count], np.array(page.labels[1 : page.count])
    helped = [name[at].strip() for at in np.argsort(-gain) if gain[at] > HELPED]
    facts = {"gain": Fact("Cross-entropy of the words, lower than the model's by", float(gain.mean()), "nats a word",
                          "higher"),
             "helped": Fact("Words that became likelier by more than 0.5 nat", len(helped), f"of {len(gain)} words")}
    said = f"most of all \u201c{helped[0]}\u201d" if helped else "none of them by much"
    sentence = f"Linked pages make {len(helped)} of {len(gain)} words likelier by more than half a nat, {said}."
    return Close("sample", sentence,
                 (line("What each word gains", "nats", {"gain": gain}, x="word", first=1, by_step=False, reference=0.0,
                       caption="Above 0: the mixture finds the word likelier than the model alone."),), facts)


METHOD = Method(
    bound="its adapters were trained beside its own frozen model",
    card=Card(
        id="graphadapter", title="GraphAdapter", tabs=("sample", "attend"), arxiv="2402.12984", year=2024, seed="B",
        summary="Keeps a language model frozen, lets a small graph network read what the model says of linked pages, "
                "and mixes both next-word guesses half and half: words that the neighbours explain become likelier.",
        flow="page so far > model > next word; linked pages > model > *graph network > *fusion > next word; model > "
             "*fusion",
        look_at="The house, the song or the friend: the model alone finds all of them as likely, and the adapter knows "
                "what the circle shares. Set the links away to 0, and the word falls back.",
        not_covered="Node classification with prompts (circles here have no names that could be told), citation and "
                    "social graphs, RoBERTa, GPT-2 and Llama 2; label smoothing; several trainings.",
        unverified="Forty pages to a web with circles of their own, 90 % own words and about five links are ours; so "
                   "are five averaged questions as a page's state, and that a page tells itself nothing."),
    params=Params, accepts="text", checkpoints=("tale-ar-2",), companions=tuple(CHECKPOINTS.values()), run=run,
    control=Control(params={"adapter": "mlp"}, title="The adapter without links"),
    fixed={"attend": "It shows what the next word owes to linked pages: cut links with the control instead."},
    examples=(Example("ben", "Where does Ben live?", "Ben: Nora taught Ben to sing. You can meet Ben in the"),))
