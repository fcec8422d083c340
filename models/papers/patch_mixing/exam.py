"""Attacks on a classifier, alike for training's figures, the claim and the page (arXiv 2306.17848, project page).

foreign, shifted: cells of a photo of another class, on the training's grid or half a cell beside it; fine, coarse:
cells of half and of twice the side; black: the cells are dropped; shuffled: they change places among themselves;
things: drawn shapes with exact outlines lie on the photo. The label stays that of the attacked photo.
Letters: B photos, K items, S side of a photo in pixels.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from models.backbones.pictures import normalise
from models.claims.probe import hits
from models.papers.patch_mixing.mixing import CELL, pasted, scattered
from models.worlds import scenes

GRIDS: Mapping[str, dict] = {"foreign": {}, "shifted": {"shift": CELL // 2}, "fine": {"cell": CELL // 2},
                             "coarse": {"cell": 2 * CELL}}
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the shipped curves; the page shows the first
AT = 0.3  # the share at which models are compared
CURVES = "foreign", "black"
SEED = 17


def black(like: Tensor) -> Tensor:
    """A black photo, as networks see it."""
    return normalise(np.zeros((1, *like.shape[-2:], 3), np.uint8)).to(like).expand_as(like)


def shuffled(pixels: Tensor, mask: Tensor, rng: np.random.Generator) -> Tensor:
    """The cells of M [B, S, S] change places among themselves, in a random order."""
    side = pixels.shape[-1] // CELL
    cells = pixels.unflatten(3, (side, CELL)).unflatten(2, (side, CELL)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    moved = cells.clone()
    for photo, chosen in zip(range(len(cells)), mask[:, ::CELL, ::CELL].flatten(1)):
        places = chosen.nonzero()[:, 0]
        moved[photo, places] = cells[photo, places[torch.from_numpy(rng.permutation(len(places)))]]
    return moved.unflatten(1, (side, side)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def attack(kind: str, pixels: Tensor, other: Tensor, mask: Tensor, rng: np.random.Generator) -> Tensor:
    """The attacked photos [B, 3, S, S], where M [B, S, S] says so."""
    if kind == "shuffled":
        return shuffled(pixels, mask, rng)
    return pasted(pixels, black(pixels) if kind == "black" else other, mask)


def drawn(kind: str, count: int, share: float, rng: np.random.Generator) -> Tensor:
    """M bool [count, S, S] of an attack."""
    return scattered(np.full(count, share), rng, **GRIDS.get(kind, {}))


def partners(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For every photo another one, of another class [K]."""
    found = rng.integers(len(truth), size=len(truth))
    while (same := truth[found] == truth).any():
        found[same] = rng.integers(len(truth), size=int(same.sum()))
    return found


def right(model, pixels: Tensor, truth: np.ndarray, kind: str, share: float = AT, draw: int = 0) -> np.ndarray:
    """Percent right [K] under one attack. Every second draw is of mirrored photos, in which other cells are hit."""
    rng = np.random.default_rng((SEED, draw))
    pixels = pixels.flip(3) if draw % 2 else pixels
    if kind == "things":
        asked = scenes.pictures(scenes.several(len(pixels), rng, most=scenes.MAX_OBJECTS))
        other, mask = normalise(asked), torch.from_numpy((asked != scenes.BACKGROUND).any(-1))
    else:
        other, mask = pixels[partners(truth, rng)], drawn(kind, len(pixels), share, rng)
    return 100 * hits(model, attack(kind, pixels, other, mask, rng), truth)


def several(model, pixels: Tensor, truth: np.ndarray, kind: str, share: float, draws: int) -> np.ndarray:
    """The same, mean over draws [K]."""
    return np.mean([right(model, pixels, truth, kind, share, draw) for draw in range(draws)], 0)


def curves(model, pixels: Tensor, truth: np.ndarray) -> dict[str, list[list[float]]]:
    """attack -> [share in %, % right] of held-out photos."""
    return {kind: [[round(100 * share), round(float(right(model, pixels, truth, kind, share).mean()), 2)]
                   for share in SHARES] for kind in CURVES}
