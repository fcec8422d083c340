"""Words as keys: the rows of a language model's head in clusters, and the query that is held against them.

    logits = W h        h: the last hidden state after the final norm [d], W: the head [V, d]

Letters: V words, d width, k clusters, N candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

ROUNDS = 50


@torch.inference_mode()
def query(model, ids: Sequence[int]) -> Tensor:
    """h [d] at the end of a text."""
    return model.base_model(torch.tensor([ids], device=model.device)).last_hidden_state[0, -1].float()


def keys(model) -> Tensor:
    """W [V, d]."""
    return model.get_output_embeddings().weight.detach().float()


def clusters(rows: Tensor, k: int, seed: int = 0, cosine: bool = False) -> np.ndarray:
    """k-means of all rows, begun by k-means++: the cluster [V] of each."""
    points = torch.nn.functional.normalize(rows, dim=-1) if cosine else rows
    dice = torch.Generator().manual_seed(seed)
    points = points.cpu()
    centres = points[torch.randint(len(points), (1,), generator=dice)]
    while len(centres) < k:
        far = torch.cdist(points, centres).amin(1).square()
        centres = torch.cat([centres, points[torch.multinomial(far, 1, generator=dice)]])
    for _ in range(ROUNDS):
        found = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, found, points)
        counts = torch.bincount(found, minlength=k)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return found.numpy()


def shuffled(found: np.ndarray, seed: int = 0) -> np.ndarray:
    """The control: clusters of the same sizes whose members were drawn at random."""
    return np.random.default_rng(seed).permutation(found)


def main(ranked: Sequence[int], found: np.ndarray, top: int) -> np.ndarray:
    """Whether each candidate behind the first `top` shares a cluster with one of those."""
    return np.isin(found[list(ranked[top:])], found[list(ranked[:top])])


def gap(right: np.ndarray, of_main: np.ndarray, width: int = 10) -> float:
    """Accuracy of the others minus that of the main ones, compared among candidates of about the same rank (`width` in
    a row), mean over the stretches that have both; NaN where none has."""
    found = []
    for first in range(0, len(right), width):
        hit, near = right[first : first + width], of_main[first : first + width]
        if near.any() and not near.all():
            found.append(hit[~near].mean() - hit[near].mean())
    return float(np.mean(found)) if found else float("nan")
