"""A board as a flat picture: calm cells, discs of two kinds, walls, a cross and dots; numpy only.

    board = FlatBoard(6, 6)
    board.disc(14).disc(15, second=True)     # dark and plain, white with a rim: also told apart without colour
    board.wall(3, 4).dot(0).cross(35)        # between two neighbours; where one starts, and where one wants to go
    Step(..., picture=board.picture())       # on Canvas("board", labels, shape=(6, 6)), whose cells have no gaps

Cells are counted row by row, as the canvas counts them. The colours read on light and dark pages alike.
"""

from __future__ import annotations

from copy import copy
from functools import cache
from itertools import product

import numpy as np

CELL, LINE = (228, 224, 213), (200, 195, 182)
INK, PAPER = (29, 29, 33), (255, 255, 255)
START, GOAL, STEP = (58, 79, 208), (213, 94, 0), (93, 91, 86)


class FlatBoard:
    """rows x columns cells of `side` pixels each; every method paints over what is there and returns the board."""

    def __init__(self, rows: int, columns: int, side: int = 48):
        self.rows, self.columns, self.side = rows, columns, side
        self._pixels = np.tile(np.array(CELL, np.float32), (rows * side, columns * side, 1))
        self._pixels[::side] = self._pixels[:, ::side] = self._pixels[-1] = self._pixels[:, -1] = LINE

    def picture(self) -> np.ndarray:
        """uint8 [rows * side, columns * side, 3]."""
        return np.round(self._pixels).astype(np.uint8)

    def copy(self) -> FlatBoard:
        """A board to paint on further, as for every step of a run."""
        made = copy(self)
        made._pixels = self._pixels.copy()
        return made

    def disc(self, cell: int, second: bool = False) -> FlatBoard:
        """A stone: the first kind is dark, the second white with a dark rim."""
        at, x, y = self._around(cell)
        self._paint(at, np.hypot(x, y) - 0.38, INK)
        return self._paint(at, np.hypot(x, y) - 0.3, PAPER) if second else self

    def dot(self, cell: int, colour=START, radius: float = 0.2) -> FlatBoard:
        """Where one starts, or with colour=STEP and a smaller radius a step of a path."""
        at, x, y = self._around(cell)
        return self._paint(at, np.hypot(x, y) - radius, colour)

    def cross(self, cell: int, colour=GOAL, reach: float = 0.26, aside: float = 0.0) -> FlatBoard:
        """Where one wants to go; or a mark beside a disc: a smaller one, that far up and to the right."""
        at, x, y = self._around(cell)
        x, y = x - aside, y + aside
        near = np.minimum(abs(x - y), abs(x + y)) / np.sqrt(2) - 0.2 * reach - 0.018  # from two diagonals
        return self._paint(at, np.maximum(near, np.maximum(abs(x), abs(y)) - reach), colour)

    def tint(self, cell: int, colour) -> FlatBoard:
        """The whole ground of a cell in another colour."""
        at, x, y = self._around(cell)
        return self._paint(at, np.maximum(abs(x), abs(y)) - 0.5 + 1 / self.side, colour)

    def wall(self, cell: int, other: int) -> FlatBoard:
        """A wall between two cells that share a side."""
        (row, column), (row2, column2) = divmod(cell, self.columns), divmod(other, self.columns)
        if abs(row - row2) + abs(column - column2) != 1:
            raise ValueError(f"cells {cell} and {other} share no side: a wall stands between neighbours")
        wide, high = (0.56, 0.06) if column == column2 else (0.06, 0.56)  # half of it, past the corner
        at, x, y = self._near((row + row2 + 1) / 2, (column + column2 + 1) / 2, 0.6)
        return self._paint(at, np.maximum(abs(x) - wide, abs(y) - high), INK)

    def frame(self) -> FlatBoard:
        """Walls all around."""
        at, x, y = self._near(self.rows / 2, self.columns / 2, max(self.rows, self.columns))
        return self._paint(at, np.minimum(self.columns / 2 - abs(x), self.rows / 2 - abs(y)) - 0.06, INK)

    def _around(self, cell: int):
        if not 0 <= cell < self.rows * self.columns:
            raise ValueError(f"the board has no cell {cell}: it has {self.rows} x {self.columns}")
        return self._near(cell // self.columns + 0.5, cell % self.columns + 0.5, 0.5)

    def _near(self, row: float, column: float, reach: float):
        """The pixels around a point as slices, and how far right and down of it they lie [height, width], in cells."""
        found = []
        for middle, count in ((row, self.rows), (column, self.columns)):
            first = max(0, round((middle - reach) * self.side))
            found.append(np.arange(first, min(count * self.side, round((middle + reach) * self.side))))
        rows, columns = found
        x, y = np.meshgrid((columns + 0.5) / self.side - column, (rows + 0.5) / self.side - row)
        return np.ix_(rows, columns), x, y

    def _paint(self, at, outside: np.ndarray, colour) -> FlatBoard:
        """Colours what lies inside (outside < 0, in cells); the pixels on the edge are mixed."""
        share = np.clip(0.5 - outside * self.side, 0, 1)[..., None]
        self._pixels[at] = self._pixels[at] * (1 - share) + np.array(colour) * share
        return self


def likely(rows: int, columns: int, chances: np.ndarray, wrong: np.ndarray | float = 0.0) -> np.ndarray:
    """A board whose discs are as plain as their chances [cells, 3] are high: of none, of the first kind and of the
    second. A small cross stands in the corner of a cell that is wrong [cells], and hides no disc."""
    crossed, faces = np.broadcast_to(wrong, len(chances))[:, None], _alike(rows, columns)
    shares = np.concatenate([chances * (1 - crossed), chances * crossed], 1)  # [cells, 6]
    side = faces.shape[1] // rows
    each = shares.T.reshape(-1, rows, columns).repeat(side, 1).repeat(side, 2)[..., None]
    return np.round((faces * each).sum(0)).astype(np.uint8)


@cache
def _alike(rows: int, columns: int) -> np.ndarray:
    """Pictures [6, height, width, 3] of boards with nothing, discs of one and of the other kind in all cells; the same
    with crosses."""
    made = [FlatBoard(rows, columns) for _ in range(6)]
    for cell, (number, board) in product(range(rows * columns), enumerate(made)):
        if number % 3:
            board.disc(cell, second=number % 3 == 2)
        if number > 2:
            board.cross(cell, reach=0.1, aside=0.375)
    return np.stack([board.picture() for board in made]).astype(np.float32)
