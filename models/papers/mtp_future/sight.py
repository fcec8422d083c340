"""How far masks see, and what they look at: measured behind the tokens of a text that is already written.

foresight      ranks of the true tokens, i = 1 .. k places ahead, by the untouched base fed with fillers, by the trained
               masks and by the sampler
training_mask  one call in the layout of training: blocks of masks behind some tokens of a text, and its attention
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.backbones.layout import blocks, reals
from models.engine.method import Event
from models.engine.recording import bars, numbered, table
from models.loops.attend.groups import lens
from models.loops.attend.loop import TokenLayout
from models.trace import Canvas, Chart, Fact, states
from models.trace.spelling import joined

WAYS = ("the base, fed with fillers", "trained masks", "sampler")
MOST = 32  # places from which one looks ahead
WINDOW, BLOCKS = 24, 4  # tokens and blocks of the training layout that is shown


@dataclass(frozen=True, eq=False)
class Foresight:
    """ranks int [3, A, k], from 1: of the true token i places beyond the next one, behind A tokens, by each of WAYS."""

    ranks: np.ndarray

    @property
    def typical(self) -> np.ndarray:
        """Medians [3, k] over the places."""
        return np.median(self.ranks, 1)

    def charts(self) -> tuple[Chart, ...]:
        if not self.ranks.shape[1]:
            return ()
        ticks, places = numbered("mask", self.ranks.shape[2]), f"Behind {self.ranks.shape[1]} tokens of this text."
        return (bars("Does it know the future? Rank of the token that came", "mask", "median rank (1: first)",
                     dict(zip(WAYS, self.typical)), ticks,
                     caption=f"Mask i speaks of the token i places beyond the next one. {places}"),
                bars("Guesses that were right", "mask", "share", dict(zip(WAYS, (self.ranks == 1).mean(1))), ticks,
                     caption="The sampler is told the true token before each of its guesses."))

    def facts(self) -> dict[str, Fact]:
        """Share of right first guesses of each way, all masks together."""
        if not self.ranks.shape[1]:
            return {}
        share = 100 * (self.ranks == 1).mean((1, 2))
        return {name: Fact(f"Right, {title}", float(value), "% of guesses", "higher")
                for name, title, value in reversed(list(zip(("fillers", "masks", "sampler"), WAYS, share)))}

    def sentence(self) -> str:
        if not self.ranks.shape[1]:
            return "The text ended before anybody could look ahead."
        base, masks, _ = self.typical[:, -1]
        return (f"{self.ranks.shape[2]} masks are filled in by one call. For the last of them the token that came is "
                f"at rank {base:,.0f} by the untouched base, at rank {masks:,.0f} by the trained masks (medians).")


def rank(logits: Tensor, targets: Tensor) -> Tensor:
    """Rank [...], from 1, of each target [...] in logits [..., V]; ties count for the target."""
    return (logits > logits.gather(-1, targets[..., None])).sum(-1) + 1


@torch.inference_mode()
def foresight(reader, ids: Sequence[int], start: int, k: int) -> Foresight:
    """Looks ahead from the last prompt token and from those written behind it, at most MOST of them."""
    from models.papers.mtp_future.network import FutureAdapters, behind

    anchors = range(start - 1, len(ids) - k - 1)[:MOST]
    layout, text = blocks(anchors, [k] * len(anchors)), torch.tensor([ids], device=reader.base.device)
    if not len(layout):
        return Foresight(np.zeros((3, 0, k), int))
    fillers = FutureAdapters.fillers(reader.base, k).on(reader.base)
    before, after = text[:, layout.position], text[:, layout.position + 1]
    states = behind(reader, text, layout).states
    found = (fillers.head(behind(fillers, text, layout).states), reader.head(states), reader.sampled(states, before))
    return Foresight(np.stack([rank(logits, after)[0].view(-1, k).cpu().numpy() for logits in found]))


def training_mask(reader, source, ids: Sequence[int], k: int) -> Iterator[Event]:
    """The Attend record: the end of the text with blocks of masks behind some of its tokens, as in training."""
    ids = list(ids)[-WINDOW:]
    anchors = np.linspace(len(ids) // 5, len(ids) * 4 // 5 - 1, min(BLOCKS, len(ids) - 1)).astype(int).tolist()
    rows = reals(0, len(ids)) + blocks(anchors, [k] * len(anchors))
    order = np.lexsort((rows.mask.numpy(), rows.anchor.numpy()))  # each block stands behind its token
    mask, block, texts = rows.mask.numpy()[order], rows.block.numpy()[order], joined(source.texts(ids))
    labels = tuple(f" [m{number}]" if number else texts[i] for number, i in zip(mask, order))
    canvas = Canvas("text", labels, roles=tuple(f"block {number}" if number else "text" for number in block))
    layout = TokenLayout(canvas, order, rows.position.numpy()[order, None].astype(np.float32), "tokens")
    state = np.where(mask > 0, states("visible"), states("context"))
    state[np.flatnonzero(mask)[-1]] = states("new")[0]  # the query shown at first: the last mask
    text = torch.tensor([ids], device=reader.base.device)
    kinds = {"text": mask == 0, "m1": mask == 1, "later": mask > 1}
    return lens(reader.body, lambda: reader(text, rows), layout, kinds, ask=len(order) - 1, state=state,
                say=lambda mass: f"In training one call holds many prefixes: {len(anchors)} blocks of {k} masks here. "
                "Point at a mask: it sees the text up to its block's token and its own block, nobody sees it.",
                facts=lambda mass: {"own": Fact("Masks' attention to their own block",
                                                100 * float(mass[:, 2, 1:].sum(-1).mean()), "%")},
                charts=lambda mass: (matrix(rows, order, labels),))


def matrix(rows, order: np.ndarray, labels: Sequence[str]) -> Chart:
    """Who may see whom: 0 nobody, 1 text, b + 1 what block b sees."""
    seen = rows.visible().numpy()[order][:, order]
    names = [label.strip() or "space" for label in labels]
    return table("The training mask", "is seen", "sees", np.where(seen, 1 + rows.block.numpy()[order][:, None], 0),
                 names, names, unit="block",
                 caption="0: hidden. 1: text sees the text before it. 2 and up: what each block of masks sees.")
