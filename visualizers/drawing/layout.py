"""Where a drawing's tokens sit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """kind "grid" (rows x columns), "text" (flowing), "places" (xy [N, 2] in 0..1) or "graph" (the same, with links).

    cell: side of a place in 0..1 where places are squares that show their piece of the picture; 0: they are discs.
    Of a graph: wide [N] and cell are the nodes' widths and height, high the panel's height, all by the panel's width;
    y runs to `high`. links: int [E, 2] from and to. seamless: cells touch, since their picture has its own lines.
    """

    kind: str
    labels: tuple[str, ...]
    rows: int = 0
    columns: int = 0
    xy: np.ndarray | None = None
    cell: float = 0.0
    picture: np.ndarray | None = None
    photo: np.ndarray | None = None  # the same before it was made small: uint8 [h, w, 3]
    roles: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    unseen: str = "box"  # hidden text is an empty "box", or "gone" where text grows
    wide: np.ndarray | None = None
    high: float = 1.0
    links: np.ndarray | None = None
    directed: bool = False
    seamless: bool = False

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def worded(self) -> bool:
        """Whether a token is its words, tinted and underlined or framed, and no cell of a picture."""
        return self.kind in ("text", "graph")
