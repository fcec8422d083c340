"""Arcs from the token that looks to those it looks at, the same on the page (player/marks.js) and on paper."""

from __future__ import annotations

import numpy as np

from visualizers.drawing.marks import Drawing, attention_row, query_of, resolved

ARCS, LEAST = 12, 0.08  # arcs of one query at most, and the weakest one as a share of the strongest


def arcs(drawing: Drawing, step: int, by: str) -> list[tuple[int, int, float]]:
    """(query, key, thickness 0..1) of the query's strongest weights, where its row colours the tokens."""
    query = query_of(drawing, resolved(drawing, step, by))
    row = attention_row(drawing, step) if query >= 0 else None
    if row is None:
        return []
    row[query] = 0.0  # to itself it needs no arc
    top = row.max() or 1.0
    best = [int(key) for key in np.argsort(-row, kind="stable")[:ARCS] if row[key] >= LEAST * top]
    return [(query, key, round(float(row[key] / top), 4)) for key in best]
