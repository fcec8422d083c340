"""The Attend record: what a page hears over each link, and what its next word owes to them."""
from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor

from models.engine.method import Event
from models.engine.recording import Filling, numbered, table
from models.loops.attend.owed import OWED, OwedWord, leaving_out
from models.loops.attend.surroundings import Surroundings
from models.loops.sample.mixed_lm import LM, MIXTURE
from models.papers.graphadapter.network import HEADS
from models.papers.graphadapter.source import LinkedPage
from models.worlds.tales.words import NAMES

SAID = 110  # characters of a page in a note


@torch.inference_mode()
def heard(source: LinkedPage) -> Iterator[Event]:
    """Both layers, then the next word without each of the links in turn, and without all of them."""
    ids = torch.tensor([source.prompt], device=source.trunk.device)
    state = source.trunk.model(ids, use_cache=False).last_hidden_state[:, -1:]

    def told(cut=()) -> Tensor:
        near = source.near([one for one, place in around.at.items() if place in cut])
        return source.model.told(state, source.beside(state, source.heard(near)))[0]

    around, near = Surroundings(source.whole.every(), source.page, NAMES), source.near()[0].numpy()
    word, parts = OwedWord(told(), lambda id: source.texts([id])[0], MIXTURE), source.model.parts
    shares: list[Tensor] = []
    source.heard(source.near(), shares)
    page = Filling("attend", around.canvas, OWED, lambda id: source.texts([id])[0], then="new")
    page.fill(range(len(around.at)), state="dropped")
    page.fill(around.places(np.unique(near)), state="visible")
    page.fill([0], state="new")
    for name, part in {MIXTURE: word.usual, **{name: part[0] for name, part in parts.items()}}.items():
        page.guess([0], part, [word.id], name, top=8)
    yield page.open()
    yield page.step(f"{source.who}'s page", cost=source.meter.lap(), note=(
        f"The next word: {word.name} has {word.chance(word.usual)}, and the model alone gives it "
        f"{word.chance(parts[LM][0])}."))
    yield from layers(page, around, near, [layer[0].mean(-1).numpy() for layer in shares])
    pages = {around.at[one]: one for one in near[1:, 0].tolist() if one >= 0 and shares}
    yield from leaving_out(page, word, told, {
        place: (NAMES[one], f"This page says: {shorten(source.web.texts[one], SAID, placeholder=' ...')}")
        for place, one in pages.items()}, "link", heads(shares, [NAMES[one] for one in pages.values()]))


def layers(page: Filling, around: Surroundings, near: np.ndarray, shares: list[np.ndarray]) -> Iterator[Event]:
    """Who hears whom, with which share of what is heard, mean over heads."""
    first, nothing = near[:, 0], np.zeros(near.shape)
    inner, outer = shares or (nothing, nothing[0])  # [K, K], [K]
    hears = np.repeat(first[1:], near.shape[1])
    for layer, (label, edges) in enumerate((
            ("linked pages hear theirs", around.edges(hears, near[1:].ravel(), inner[1:].ravel())),
            ("the page hears them", around.edges(np.full(len(near), first[0]), first, outer))), 1):
        yield page.step(f"layer {layer}: {label}", level="layer", edges={"heard": edges})


def heads(shares: list[Tensor], names: list[str]):
    """Whom each head hears, where heads differ."""
    if not shares or not names or float(shares[1].std(-1).max()) < 1e-6:
        return ()
    return (table("Whom each head hears", "page", "head", shares[1][0, 1 : 1 + len(names)].T.cpu().numpy(), names,
                  numbered("head", HEADS)),)
