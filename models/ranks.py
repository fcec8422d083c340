"""Rank correlation, for every method that compares two orders. Numpy only."""

from __future__ import annotations

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks [K] from 1; equal values share the mean of their ranks."""
    values = np.asarray(values, np.float64)
    order = np.argsort(values, kind="stable")
    _, first, inverse, count = np.unique(values[order], return_index=True, return_inverse=True, return_counts=True)
    shared = first + (count + 1) / 2  # mean rank of each distinct value
    found = np.empty(len(values))
    found[order] = shared[inverse]
    return found


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation over the pairs where both are numbers; 0 when one of them is constant."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 2:
        return 0.0
    x, y = ranks(a[both]), ranks(b[both])
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 0 else 0.0


def auc(score: np.ndarray, truth: np.ndarray) -> float:
    """Area under the curve: how often a true item scores above a false one, ties counted half; NaN without both."""
    truth = np.asarray(truth, bool)
    yes, no = int(truth.sum()), int((~truth).sum())
    return float((ranks(score)[truth].sum() - yes * (yes + 1) / 2) / (yes * no)) if yes and no else float("nan")
