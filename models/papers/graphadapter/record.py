"""The Attend record: what a page hears over each link, and what its next word owes to them."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.engine.method import Close, Event
from models.engine.recording import Filling, bars, numbered, table
from models.loops.attend.surroundings import Surroundings
from models.loops.sample.mixed_lm import LM, MIXTURE
from models.papers.graphadapter.network import HEADS
from models.papers.graphadapter.source import LinkedPage
from models.trace import CODE, Chart, Fact, Field
from models.worlds.tales.words import NAMES

WORTH = {"worth": Field("The next word owes to this page", "nats", diverging=True)}
SAID = 110  # characters of a page in a note


class NextWord:
    """The likeliest word behind the page as it stands, and what is said of it where other links are heard."""

    def __init__(self, source: LinkedPage):
        self.source, ids = source, torch.tensor([source.prompt], device=source.trunk.device)
        self.state = source.trunk.model(ids, use_cache=False).last_hidden_state[:, -1:]
        self.usual = self.told()
        self.parts = {name: part[0] for name, part in source.model.parts.items()}
        self.id = int(self.usual.argmax())
        self.name = source.texts([self.id])[0].strip()

    def told(self, **links) -> Tensor:
        """log p [1, V] by the mixture over such links."""
        heard = self.source.heard(self.source.near(**links))
        return self.source.model.told(self.state, self.source.beside(self.state, heard))[0]

    def chance(self, logp: Tensor) -> str:
        return f"{100 * float(logp[0, self.id].exp()):.1f} %"

    def owes(self, logp: Tensor) -> float:
        """Nats by which it is less likely there."""
        return float((self.usual - logp)[0, self.id])


@torch.inference_mode()
def heard(source: LinkedPage) -> Iterator[Event]:
    """Both layers, then the next word without each of the links in turn, and without all of them."""
    around, word = Surroundings(source.whole.every(), source.page, NAMES), NextWord(source)
    near, shares = source.near()[0].numpy(), list[Tensor]()
    source.heard(source.near(), shares)
    page = Filling("attend", around.canvas, WORTH, lambda id: source.texts([id])[0], then="new")
    page.fill(range(len(around.at)), state="dropped")
    page.fill(around.places(np.unique(near)), state="visible")
    page.fill([0], state="new")
    for name, part in {MIXTURE: word.usual, **word.parts}.items():
        page.guess([0], part, [word.id], name, top=8)
    yield page.open()
    yield page.step(f"{source.who}'s page", cost=source.meter.lap(), note=(
        f"The next word: \u201c{word.name}\u201d has {word.chance(word.usual)}, and the model alone gives it "
        f"{word.chance(word.parts[LM])}."))
    yield from layers(page, around, near, [layer[0].mean(-1).numpy() for layer in shares])
    worth = {}
    for other in (near[1:, 0][near[1:, 0] >= 0] if shares else ()):
        logp = word.told(without=int(other))
        worth[NAMES[other]] = word.owes(logp)
        page.note([around.at[other]], worth=[worth[NAMES[other]]])
        yield cut(page, word, logp, [around.at[other]], NAMES[other],
                  f" This page says: {source.web.texts[other][:SAID]}")
    nobody = word.told(hops=0)
    yield cut(page, word, nobody, range(1, len(around.at)), "any link", "")
    most = max(worth, key=worth.__getitem__, default="")
    owes = f" Of single links it owes most to the one with {most}." if worth.get(most, 0) > 0 else ""
    yield Close("attend", f"\u201c{word.name}\u201d has {word.chance(word.usual)}, and {word.chance(nobody)} where no "
                f"link is heard.{owes}", charts(worth, shares), {
                    "links": Fact("Likelier by all links together", word.owes(nobody), "nats"),
                    "single": Fact("Likelier by the best single link", worth.get(most, 0.0), "nats")})


def layers(page: Filling, around: Surroundings, near: np.ndarray, shares: list[np.ndarray]) -> Iterator[Event]:
    """Who hears whom, with which share of what is heard, mean over heads."""
    first, nothing = near[:, 0], np.zeros(near.shape)
    inner, outer = shares or (nothing, nothing[0])  # [K, K], [K]
    hears = np.repeat(first[1:], near.shape[1])
    for layer, (label, edges) in enumerate((
            ("linked pages hear theirs", around.edges(hears, near[1:].ravel(), inner[1:].ravel())),
            ("the page hears them", around.edges(np.full(len(near), first[0]), first, outer))), 1):
        yield page.step(f"layer {layer}: {label}", level="layer", edges={"heard": edges})


def cut(page: Filling, word: NextWord, logp: Tensor, gone, who: str, said: str) -> Event:
    """The next word where some pages are not heard."""
    page.guess([0], logp, [word.id], MIXTURE, top=8)
    state = page.state.copy()
    state[list(gone)] = CODE["dropped"]
    return page.step(f"without {who}", level="trial", state=state,
                     note=f"\u201c{word.name}\u201d then has {word.chance(logp)}.{said}")


def charts(worth: dict[str, float], shares: list[Tensor]) -> tuple[Chart, ...]:
    """What each link is worth, and whom each head hears where heads differ."""
    if not worth:
        return ()
    found = [bars("What the next word owes to each link", "page", "nats", {"worth": list(worth.values())}, list(worth),
                  reference=0.0, caption="By how much its log-probability falls where this link alone is cut.")]
    if float(shares[1].std(-1).max()) > 1e-6:
        heads = shares[1][0, 1 : 1 + len(worth)].T.cpu().numpy()
        found.append(table("Whom each head hears", "page", "head", heads, list(worth), numbered("head", HEADS)))
    return tuple(found)
