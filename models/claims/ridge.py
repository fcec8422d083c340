"""Ridge regression for linear probes."""

from __future__ import annotations

import numpy as np

RIDGES = (1e-2, 1e-1, 1.0, 10.0)


def solve(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    """Weights [D, C] of features x [K, D] for targets y [K, C]; the penalty grows with K."""
    return np.linalg.solve(x.T @ x + ridge * len(x) / 100 * np.eye(x.shape[1]), x.T @ y)
