"""Approximate likelihood matching: which pieces of a text two tokenizers share, and how likely each model finds them.

    chunks      end where both tokenizations end at the same byte; neighbours are joined until the teacher's chance
                that a space follows exceeds a threshold
    L_c         sum of log p of the chunk's own tokens + log p(a space follows | its last token)     (outcome debiasing)
    f           -[e^a b + (1 - e^a) log(1 - e^b)],  a = L^T_c / tau - eps,  b = L^S_c / tau - eps

Letters: T tokens, V vocabulary, C chunks. Row i of the log-probabilities speaks of token i + 1, and token 0 of nothing:
the chunk that it stands in is left out.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

EPS, NEVER = 1e-6, 1e-9
MERGED, TAU = 0.1, 100.0  # the authors' setting for bytes, and their temperature


def shared_ends(mine: Sequence[int], theirs: Sequence[int]) -> np.ndarray:
    """Last tokens of every chunk in both texts, int [C, 2], from the tokens' lengths in bytes: wherever the two sums
    coincide, the finest common cut."""
    sums = [np.cumsum(lengths) for lengths in (mine, theirs)]
    common = np.intersect1d(*sums)
    return np.stack([np.searchsorted(one, common) for one in sums], 1)


def told(logp: Tensor, ids: Tensor, spaces: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each token [..., T], 0 for the first, and that a space follows it [..., T]. logp: [..., T, V]
    behind each token; spaces: ids of the tokens that begin with white space, or end the text."""
    own = logp[..., :-1, :].gather(-1, ids[..., 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(own, (1, 0)), logp[..., spaces].exp().sum(-1).clamp(NEVER, 1.0).log()


def chunked(own: Tensor, space: Tensor, ends: Tensor, debias: bool = True) -> Tensor:
    """L [..., C - 1] of the chunks behind the first, which holds token 0; ends: their last tokens, int64 [..., C]."""
    found = own.cumsum(-1).gather(-1, ends).diff(dim=-1)
    return found + space.gather(-1, ends)[..., 1:] if debias else found


def binary_ce(teacher: Tensor, student: Tensor, tau: float = TAU) -> Tensor:
    """f: the cross-entropy of the event "this chunk is written", at temperature tau."""
    a, b = teacher / tau - EPS, student / tau - EPS
    return -(a.exp() * b - torch.expm1(a) * torch.log(-torch.expm1(b)))
