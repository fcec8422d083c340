"""A node of a graph in the middle, those linked to it around it, and behind each of these what it is linked to: a
canvas with standing links, and who hears whom as a step's edges over it.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from models.trace import Canvas, Edges


class Surroundings:
    """links: of every node the nodes linked to it. at: node -> its place on the canvas, where the middle is 0."""

    def __init__(self, links: Sequence[Sequence[int]], middle: int, labels: Sequence[str]):
        spots = {middle: (0.0, 0.0)}
        sector = 2 * np.pi / max(len(links[middle]), 1)
        for place, node in enumerate(links[middle]):
            spots[node] = _on_ring(1.0, place * sector)
        for place, node in enumerate(links[middle]):
            new = [other for other in links[node] if other not in spots]
            for i, other in enumerate(new):
                spots[other] = _on_ring(2.0, (place + 0.8 * ((i + 0.5) / len(new) - 0.5)) * sector)
        self.at = {node: place for place, node in enumerate(spots)}
        joined = [(self.at[node], self.at[other]) for node in spots for other in links[node]
                  if node < other and other in self.at]
        self.canvas = Canvas("graph", tuple(labels[node] for node in spots),
                             positions=np.array(list(spots.values()), np.float32),
                             links=np.array(joined, np.int32).reshape(-1, 2))

    def places(self, nodes: Iterable[int]) -> list[int]:
        """Of nodes, -1 left out."""
        return [self.at[int(node)] for node in nodes if node >= 0]

    def edges(self, hears: np.ndarray, nodes: np.ndarray, shares: np.ndarray) -> Edges:
        """Who hears whom with which share; what hears itself has no link to show, and -1 is nobody."""
        kept = (nodes >= 0) & (shares > 0) & (hears != nodes)
        to, by = (np.array(self.places(one[kept]), np.int32) for one in (hears, nodes))
        return Edges(to, by, np.asarray(shares[kept], np.float32))


def _on_ring(radius: float, turn: float) -> tuple[float, float]:
    """Clockwise from above, y down."""
    return radius * np.sin(turn), -radius * np.cos(turn)
