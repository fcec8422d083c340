"""The toy: five letters, each drawn after the one before by a known table, under an unknown cipher; and the exact
reader of it, who weighs all 120 ciphers.

Letters: B sequences, T places, K letters, C ciphers.
"""
from __future__ import annotations

from itertools import permutations

import numpy as np

# P[i, j]: how often real letter j follows i. No letter is like another, so that a long text gives its cipher away.
TABLE = np.array([[0.04, 0.60, 0.20, 0.12, 0.04],
                  [0.10, 0.05, 0.65, 0.05, 0.15],
                  [0.45, 0.10, 0.05, 0.35, 0.05],
                  [0.05, 0.10, 0.05, 0.50, 0.30],
                  [0.70, 0.05, 0.10, 0.10, 0.05]])
CIPHERS = np.array(list(permutations(range(len(TABLE)))))  # [C, K]: real letter -> symbol


def stationary() -> np.ndarray:
    """How often each real letter comes [K]."""
    return np.linalg.matrix_power(TABLE, 200)[0]


def chains(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Real letters int64 [B, T]."""
    ladder = TABLE.cumsum(1)
    found = np.empty((count, length), np.int64)
    found[:, 0] = rng.choice(len(TABLE), count, p=stationary())
    for t in range(1, length):
        found[:, t] = (rng.random((count, 1)) > ladder[found[:, t - 1]]).sum(1).clip(max=len(TABLE) - 1)
    return found


def exact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of symbols [T]: the chance of each cipher [T, C] once places 0..t are read, and that of the next symbol [T, K]:
    the mixture over ciphers of what each says comes next."""
    real = np.argsort(CIPHERS, 1)  # [C, K]: symbol -> real letter
    start, rules = stationary()[real], TABLE[real[:, :, None], real[:, None, :]]  # [C, K], [C, K, K] over symbols
    said = np.log(np.concatenate([start[:, ids[:1]].T, rules[:, ids[:-1], ids[1:]].T])).cumsum(0)  # [T, C]
    weight = np.exp(said - said.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    return weight, np.einsum("tc,ctk->tk", weight, rules[:, ids])
