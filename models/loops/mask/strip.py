"""A photo with holes above a strip of pieces, one square sheet: who belongs where is matched, and nothing is painted.

Letters: L patches, f of them per side, M holes, C pieces in the strip, N numbers per patch, s pixels on its side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor, cat

from models.backbones.pictures import MEAN, STD
from models.engine.recording import placed
from models.loops.mask.photos import Photo
from models.trace import CODE, Canvas


@dataclass(frozen=True, eq=False)
class CutPhoto:
    """strip [C, N]: the pieces as pixels, as they lie; right int [M]: the place in it of each hole's own; offered bool
    [M, C]: what may be put into a hole; visible [1, E] and holes [1, M]: patches of the photo."""

    view: Photo
    size: int
    visible: Tensor
    holes: Tensor
    strip: Tensor
    right: np.ndarray
    offered: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        return self.holes[0].numpy()

    @cached_property
    def places(self) -> np.ndarray:
        """Column and row [L + C, 2] of every patch, and of every piece in a strip below them."""
        side, count = self.view.grid[0], len(self.strip)
        at = np.concatenate([np.arange(side * side), side * (side + 1) + np.arange(count)])
        return np.stack([at % side, at // side], 1)

    def sheet(self, picks: np.ndarray | None = None) -> np.ndarray:
        """The photo above the strip; picks int [M]: which piece lies in each hole (-1: the hole stays as it was)."""
        patches, size = self.view.target[0].clone(), self.size
        for hole, pick in zip(self.ids, () if picks is None else picks):
            patches[hole] = self.strip[pick] if pick >= 0 else patches[hole]
        cells = cat([patches, self.strip]).float().cpu().numpy().reshape(-1, size, size, 3)
        high = int(self.places[:, 1].max()) + 1
        left = (high - self.view.grid[0]) * size // 2
        boxes = [(row, left + column, size, size) for column, row in (self.places * size).tolist()]
        painted = np.clip(np.round((cells * STD + MEAN) * 255), 0, 255).astype(np.uint8)
        return placed(painted, boxes, (high * size, high * size))

    def canvas(self) -> Canvas:
        """Holes are numbered, pieces have letters; the photo's own patches are no part of a game."""
        labels = [""] * self.view.count
        for number, hole in enumerate(self.ids):
            labels[hole] = f"hole {number + 1}"
        names = (*labels, *(f"piece {letter(number)}" for number in range(len(self.strip))))
        roles = ("condition",) * len(labels) + ("piece",) * len(self.strip)
        return Canvas("pyramid", names, picture=self.sheet(), roles=roles, positions=self.places.astype(np.float32))

    def states(self, picks: np.ndarray | None = None) -> np.ndarray:
        """[L + C]: holes are hidden, or filled rightly or wrongly by the picks [M] (-1: still hidden)."""
        made = np.full(len(self.places), CODE["visible"], np.uint8)
        picks = np.full(len(self.ids), -1) if picks is None else picks
        judged = np.where(picks == self.right, CODE["accepted"], CODE["refused"])
        made[self.ids] = np.where(picks < 0, CODE["masked-random"], judged)
        return made


def letter(number: int) -> str:
    """a, b, .. z, aa, ab, .."""
    return ("" if number < 26 else chr(96 + number // 26)) + chr(97 + number % 26)
