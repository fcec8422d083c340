"""Statistics that methods, claims and recipes share: rank correlation, intervals by resampling. Numpy only."""

from __future__ import annotations

import numpy as np

LEAST = 3  # items that have an order worth a number


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
    """Spearman's rank correlation over the pairs where both are numbers; NaN, which means not defined, for fewer than
    LEAST of them, because two are always in order or not, and when one side is constant."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < LEAST:
        return float("nan")
    x, y = ranks(a[both]), ranks(b[both])
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def said(value: float, form: str = ".2f") -> str:
    """A statistic in a sentence: a number, or that it is not defined."""
    if not np.isfinite(value):
        return "not defined"
    text = format(value, form)
    return text.removeprefix("-") if float(text) == 0 else text


def spearman_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rank correlation [K] of each row of a [K, L] with the same row of b, or with the one row that b [L] is."""
    return np.array([spearman(x, y) for x, y in zip(a, np.broadcast_to(b, np.shape(a)))])


def auc(score: np.ndarray, truth: np.ndarray) -> float:
    """Area under the curve: how often a true item scores above a false one, ties counted half; NaN without both."""
    truth = np.asarray(truth, bool)
    yes, no = int(truth.sum()), int((~truth).sum())
    return float((ranks(score)[truth].sum() - yes * (yes + 1) / 2) / (yes * no)) if yes and no else float("nan")


def aucs(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`auc` [F, K] of every column of scores [N, F] for every column of truth [N, K]."""
    truth = np.asarray(truth, bool)
    yes, placed = truth.sum(0).astype(np.float64), np.stack([ranks(column) for column in np.transpose(scores)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (placed @ truth - yes * (yes + 1) / 2) / (yes * (len(truth) - yes))


def bootstrap(values, *, statistic=None, rounds: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """(value, low, high): a statistic of items [K] or [K, C] with its 95 % percentile interval over resampled items.

    Items are resampled as rows, so columns stay paired. statistic: rows -> number; None is the mean of items [K].
    """
    values, rng = np.asarray(values, np.float64), np.random.default_rng(seed)
    if statistic is None:
        parts = [values[rng.integers(0, len(values), (some, len(values)))].mean(1) for some in _chunks(rounds, values)]
        draws, statistic = np.concatenate(parts), np.mean
    else:
        draws = np.array([statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(rounds)])
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(statistic(values)), float(low), float(high)


def _chunks(rounds: int, values: np.ndarray) -> list[int]:
    """Rounds at a time, so that no more than about two million indices are held."""
    each = max(1, min(rounds, 2_000_000 // max(1, len(values))))
    return [min(each, rounds - at) for at in range(0, rounds, each)]


def logistic(shares: np.ndarray, design: np.ndarray, prior: float = 1e-3) -> np.ndarray:
    """Coefficients [R] of log odds = design [C, R] @ b, by maximum likelihood on the shares [C] of cells with equally
    many items. A whisper of a prior keeps them finite where a sample has cells without a single miss."""
    b = np.zeros(design.shape[1])
    for _ in range(8):  # it converges in five, unless a sample is all right or all wrong
        p = 1 / (1 + np.exp(-design @ b))
        bent = design.T @ (design * (p * (1 - p))[:, None]) + prior * np.eye(len(b))
        step = np.linalg.solve(bent, design.T @ (shares - p) - prior * b)
        b = b + step
        if np.abs(step).max() < 1e-4:
            break
    return b


def effective_rank(tokens: np.ndarray) -> np.ndarray:
    """[K] of tokens [K, N, D], centred in each: e to the entropy of their singular values' shares."""
    tokens = np.asarray(tokens, np.float64)
    sizes = np.linalg.svd(tokens - tokens.mean(1, keepdims=True), compute_uv=False)  # [K, min(N, D)]
    shares = sizes / np.maximum(sizes.sum(1, keepdims=True), 1e-12)
    return np.exp(-(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1))


def ratio_of_means(pairs: np.ndarray) -> float:
    """Mean of the first column over that of the second, [K, 2]; NaN where the second is 0."""
    above, below = pairs.mean(0)
    return float(above / below) if below else float("nan")
