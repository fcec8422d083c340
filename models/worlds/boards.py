"""A board as a flat picture: calm cells, discs of two kinds, walls, a cross and dots; numpy only.

    board = FlatBoard(6, 6)
    board.disc(14).disc(15, second=True)     # dark and plain, white with a rim: also told apart without colour
    board.wall(3, 4).dot(0).cross(35)        # between two neighbours; where one starts, and where one wants to go
    Step(..., picture=board.picture())       # on Canvas("board", labels, shape=(6, 6)), whose cells have no gaps

Cells are counted row by row, as the canvas counts them. The colours read on light and dark pages alike.
"""

from __future__ import annotations

import numpy as np

CELL, LINE = (228, 224, 213), (200, 195, 182)
INK, PAPER = (29, 29, 33), (255, 255, 255)
START, GOAL, STEP = (58, 79, 208), (213, 94, 0), (93, 91, 86)


class FlatBoard:
    """rows x columns cells of `side` pixels each; every method paints over what is there and returns the board."""

    def __init__(self, rows: int, columns: int, side: int = 24):
        self.rows, self.columns, self.side = rows, columns, side
        self._pixels = np.tile(np.array(CELL, np.float64), (rows * side, columns * side, 1))
        self._pixels[::side] = self._pixels[:, ::side] = self._pixels[-1] = self._pixels[:, -1] = LINE
        self._y, self._x = (np.indices(self._pixels.shape[:2]) + 0.5) / side  # [height, width] in cells

    def picture(self) -> np.ndarray:
        """uint8 [rows * side, columns * side, 3]."""
        return np.round(self._pixels).astype(np.uint8)

    def disc(self, cell: int, second: bool = False) -> FlatBoard:
        """A stone: the first kind is dark, the second white with a dark rim."""
        away = self._away(cell)
        self._paint(away - 0.38, INK)
        return self._paint(away - 0.3, PAPER) if second else self

    def dot(self, cell: int, colour=START, radius: float = 0.2) -> FlatBoard:
        """Where one starts, or with colour=STEP and a smaller radius a step of a path."""
        return self._paint(self._away(cell) - radius, colour)

    def cross(self, cell: int, colour=GOAL) -> FlatBoard:
        """Where one wants to go."""
        x, y = self._from_middle(cell)
        near = np.minimum(abs(x - y), abs(x + y)) / np.sqrt(2) - 0.07  # from two diagonals
        return self._paint(np.maximum(near, np.maximum(abs(x), abs(y)) - 0.26), colour)

    def tint(self, cell: int, colour) -> FlatBoard:
        """The whole ground of a cell in another colour."""
        x, y = self._from_middle(cell)
        return self._paint(np.maximum(abs(x), abs(y)) - 0.5 + 1 / self.side, colour)

    def wall(self, cell: int, other: int) -> FlatBoard:
        """A wall between two cells that share a side."""
        (row, column), (row2, column2) = divmod(cell, self.columns), divmod(other, self.columns)
        if abs(row - row2) + abs(column - column2) != 1:
            raise ValueError(f"cells {cell} and {other} share no side: a wall stands between neighbours")
        wide, high = (0.56, 0.06) if column == column2 else (0.06, 0.56)  # half of it, past the corner
        x, y = self._x - (column + column2 + 1) / 2, self._y - (row + row2 + 1) / 2
        return self._paint(np.maximum(abs(x) - wide, abs(y) - high), INK)

    def frame(self) -> FlatBoard:
        """Walls all around."""
        far = np.minimum(np.minimum(self._x, self.columns - self._x), np.minimum(self._y, self.rows - self._y))
        return self._paint(far - 0.06, INK)

    def _from_middle(self, cell: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= cell < self.rows * self.columns:
            raise ValueError(f"the board has no cell {cell}: it has {self.rows} x {self.columns}")
        return self._x - cell % self.columns - 0.5, self._y - cell // self.columns - 0.5

    def _away(self, cell: int) -> np.ndarray:
        return np.hypot(*self._from_middle(cell))

    def _paint(self, outside: np.ndarray, colour) -> FlatBoard:
        """Colours what lies inside (outside < 0, in cells); the pixels on the edge are mixed."""
        share = np.clip(0.5 - outside * self.side, 0, 1)[..., None]
        self._pixels = self._pixels * (1 - share) + np.array(colour) * share
        return self


Board = FlatBoard
