"""The Attend record: a page among those linked to it, what it hears over each link, what the next word owes to them."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.engine.method import Close, Event
from models.engine.recording import Filling, bars, numbered, table
from models.papers.graphadapter.method import LM, MIXTURE, LinkedPage
from models.papers.graphadapter.network import HEADS
from models.trace import CODE, Canvas, Chart, Edges, Fact, Field
from models.worlds.tales.words import NAMES

WORTH = {"worth": Field("The next word owes to this page", "nats", diverging=True)}
SAID = 110  # characters of a page in a note


class Surroundings:
    """A page in the middle, those linked to it around it, and behind each of these what it is linked to."""

    def __init__(self, source: LinkedPage):
        links, self.page = source.web.every(), source.page
        self.first, spots = links[self.page], {self.page: (0.0, 0.0)}
        sector = 2 * np.pi / max(len(self.first), 1)
        for place, page in enumerate(self.first):
            spots[page] = on_ring(1.0, place * sector)
        for place, page in enumerate(self.first):
            new = [other for other in links[page] if other not in spots]
            for i, other in enumerate(new):
                spots[other] = on_ring(2.0, (place + 0.8 * ((i + 0.5) / len(new) - 0.5)) * sector)
        self.at = {page: place for place, page in enumerate(spots)}
        joined = [[self.at[a], self.at[b]] for a, b in source.web.links.tolist() if a in self.at and b in self.at]
        self.canvas = Canvas("graph", tuple(NAMES[page] for page in spots), links=np.array(joined, np.int32).reshape(
            -1, 2), positions=np.array(list(spots.values()), np.float32))

    def places(self, pages) -> list[int]:
        return [self.at[int(page)] for page in pages if page >= 0]

    def edges(self, hears: Tensor, pages: Tensor, shares: Tensor) -> Edges:
        """Who hears whom, [K] each and with which share; a page that hears itself has no link to show."""
        kept = (pages >= 0) & (shares > 0) & (hears != pages)
        to, by = (np.array(self.places(one[kept]), np.int32) for one in (hears, pages))
        return Edges(to, by, shares[kept].float().numpy())


def on_ring(radius: float, turn: float) -> tuple[float, float]:
    """Clockwise from above, y down."""
    return radius * np.sin(turn), -radius * np.cos(turn)


class NextWord:
    """The likeliest word behind the page as it stands, and what is said of it where other links are heard."""

    def __init__(self, source: LinkedPage):
        self.source, ids = source, torch.tensor([source.prompt], device=source.trunk.device)
        self.state = source.trunk.model(ids, use_cache=False).last_hidden_state[:, -1:]
        self.usual = self.told()
        self.parts = {name: part[0] for name, part in source.model.parts.items()}
        self.id = int(self.usual.argmax())
        self.name = source.texts([self.id])[0].strip()

    def told(self, hops: int = 2, without: str = "") -> Tensor:
        """log p [1, V] by the mixture, where some links are cut."""
        source, heard = self.source, None
        if source.adapter.kind != "mlp":
            heard = source.adapter.heard(source.says, source.linked(hops, without))[:, None]
        return source.model.told(self.state, heard)[0]

    def chance(self, logp: Tensor) -> str:
        return f"{100 * float(logp[0, self.id].exp()):.1f} %"


@torch.inference_mode()
def heard(source: LinkedPage) -> Iterator[Event]:
    """Both layers, then the next word without each of the links in turn, and without all of them."""
    around, word, near = Surroundings(source), NextWord(source), source.near[0].cpu()
    page = Filling("attend", around.canvas, WORTH, lambda id: source.texts([id])[0], then="new")
    page.fill(range(len(around.at)), state="dropped")
    page.fill(around.places(near.unique()), state="visible")
    page.fill([0], state="new")
    for name, part in {MIXTURE: word.usual, **word.parts}.items():
        page.guess([0], part, [word.id], name, top=8)
    yield page.open()
    yield page.step(f"{source.who}'s page", cost=source.meter.lap(), note=(
        f"The next word: \u201c{word.name}\u201d has {word.chance(word.usual)}, and the model alone gives it "
        f"{word.chance(word.parts[LM])}."))
    shares: list[Tensor] = []
    if source.adapter.kind == "mlp":
        yield page.step("this adapter reads no links", edges={"heard": around.edges(near[0], near[0], near[0])})
        near = near[:1]
    else:
        source.adapter.heard(source.says, source.near, shares)
        yield from layers(page, around, near, [layer[0].cpu() for layer in shares])
    worth = {}
    for other in around.places(near[1:, 0]):
        who = around.canvas.labels[other]
        logp = word.told(source.hops, who)
        worth[who] = float((word.usual - logp)[0, word.id])
        page.note([other], worth=[worth[who]])
        yield cut(page, word, logp, [other], who, f" This page says: {source.web.texts[NAMES.index(who)][:SAID]}")
    nobody = word.told(0)
    if worth:
        yield cut(page, word, nobody, range(1, len(around.at)), "all of them", "")
    yield closing(word, worth, nobody, charts(worth, near, shares))


def layers(page: Filling, around: Surroundings, near: Tensor, shares: list[Tensor]) -> Iterator[Event]:
    """Who hears whom, with which share of what is heard, mean over heads."""
    hears = near[:, :1].expand_as(near)
    inner, outer = (share.mean(-1) for share in shares)  # [K, K], [K]
    yield page.step("layer 1: linked pages hear theirs", level="layer", edges={
        "heard": around.edges(hears[1:].flatten(), near[1:].flatten(), inner[1:].flatten())})
    yield page.step("layer 2: the page hears them", level="layer", edges={
        "heard": around.edges(near[:1, 0].expand(len(near)), near[:, 0], outer)})


def cut(page: Filling, word: NextWord, logp: Tensor, gone, who: str, said: str) -> Event:
    """The next word where some pages are not heard."""
    page.guess([0], logp, [word.id], MIXTURE, top=8)
    state = page.state.copy()
    state[list(gone)] = CODE["dropped"]
    return page.step(f"without {who}", level="trial", state=state,
                     note=f"\u201c{word.name}\u201d then has {word.chance(logp)}.{said}")


def closing(word: NextWord, worth: dict[str, float], nobody: Tensor, found: tuple[Chart, ...]) -> Close:
    most = max(worth, key=worth.__getitem__, default="")
    owes = f" Of single links it owes most to the one with {most}." if worth and worth[most] > 0 else ""
    return Close("attend", f"\u201c{word.name}\u201d has {word.chance(word.usual)}, and {word.chance(nobody)} where no "
                 f"link is heard.{owes}", found, {
                     "links": Fact("Likelier by all links together", float((word.usual - nobody)[0, word.id]), "nats"),
                     "single": Fact("Likelier by the best single link", worth.get(most, 0.0), "nats")})


def charts(worth: dict[str, float], near: Tensor, shares: list[Tensor]) -> tuple[Chart, ...]:
    """What each link is worth, and whom each head hears where heads differ."""
    if not worth:
        return ()
    found = [bars("What the next word owes to each link", "page", "nats", {"worth": list(worth.values())}, list(worth),
                  reference=0.0, caption="By how much its log-probability falls where this link alone is cut.")]
    if shares and float(shares[1].std(-1).max()) > 1e-6:
        rows = [at for at, page in enumerate(near[:, 0]) if at and page >= 0]
        found.append(table("Whom each head hears", "page", "head", shares[1][0, rows].T.cpu().numpy(), list(worth),
                           numbered("head", HEADS)))
    return tuple(found)
