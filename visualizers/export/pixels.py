"""Pixels and curves that the figure needs: pieces of a picture, the sharp photo under painted cells, arcs."""

from __future__ import annotations

import numpy as np

from visualizers.drawing.marks import Drawing, Layout


def sharpest(drawing: Drawing, step: int, picture: np.ndarray) -> np.ndarray:
    """The step's picture; cells that nobody painted are the visitor's photo as sharp as it came."""
    photo, own = drawing.layout.photo, drawing.frames[step].own
    if photo is None or own is None:
        return picture
    height, width = photo.shape[:2]
    up = picture[np.arange(height) * picture.shape[0] // height][:, np.arange(width) * picture.shape[1] // width]
    cells = own.reshape(drawing.layout.rows, drawing.layout.columns)
    mine = cells[np.arange(height) * cells.shape[0] // height][:, np.arange(width) * cells.shape[1] // width]
    return np.where(mine[..., None], photo, up)


def pieces(picture: np.ndarray, layout: Layout, tokens: list[int], colour: str) -> np.ndarray:
    """A picture [h, w, 3] where these square places are, `colour` (#rrggbb) everywhere else."""
    sheet = np.empty_like(picture)
    sheet[:] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    scale = np.array([picture.shape[1], picture.shape[0]])
    for x, y in layout.xy[tokens]:
        (left, top), (right, below) = (np.round((np.array([x, y]) + d * layout.cell / 2) * scale).astype(int)
                                       for d in (-1, 1))
        sheet[top:below, left:right] = picture[top:below, left:right]
    return sheet


def bowed(start: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """A curve between two points that rises above both."""
    (x1, y1), (x2, y2) = start, end
    bend = max(0.1, min(0.45, float(np.hypot(x2 - x1, y2 - y1)) / 3))
    points = np.array([start, ((x1 + x2) / 2, min(y1, y2) - bend), end])
    return [((1 - u) ** 2, 2 * u * (1 - u), u * u) @ points for u in np.linspace(0, 1, 17)]
