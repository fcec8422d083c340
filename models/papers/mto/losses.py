"""MTO (arXiv 2404.08330): what sets mask tokens apart from seen ones, and three losses that ask for it.

The mechanism is the abstract's; every formula here is this project's own. V: seen patches, M: hidden ones, e: the mask
vector, z: patch embeddings without positions, A^l: attention of block l, H_l: heterogeneity after it (simmim.py).

    L_spa = mean over the first K blocks, i in V, of sum over j in M of A^l_ij
    L_e   = mean over i in V of max(0, cos(e, z_i)) + max(0, 1 - |e - z_i| / rms |z|)               # z held still
    L_r   = sum over l >= K of max(0, H_{l+1} - H_l)
    L     = L_MIM + 0.1 L_spa + 0.1 L_e + 0.01 L_r

Letters: B pictures, L patches, N = L + 1 tokens ([CLS] first, it belongs to neither), D width.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SPARED, SINGULAR, ORDERED = 0.1, 0.1, 0.01  # weights of L_spa, L_e and L_r
MARGIN, MOST = 1.0, 3.0  # of L_e; the mask vector's norm stays below so many mean patch embeddings


def early(blocks: int) -> int:
    """K: the first quarter of the blocks, rounded up."""
    return -(-blocks // 4)


def spared(weights: Sequence[Tensor], mask: Tensor) -> Tensor:
    """L_spa of the first blocks' attention [B, H, N, N]: what seen patches give to mask tokens."""
    given = [(weight[..., 1:].float() * mask[:, None, None]).sum(-1)[..., 1:] for weight in weights]  # [B, H, L]
    return torch.stack([(one.mean(1) * ~mask).sum() / (~mask).sum() for one in given]).mean()


def singular(e: Tensor, z: Tensor, mask: Tensor) -> Tensor:
    """L_e of the mask vector [D] and patch embeddings [B, L, D]; it moves the vector alone."""
    z = z.detach().float()[~mask]  # [V, D]
    apart = (e - z).norm(dim=-1) / z.pow(2).sum(-1).mean().sqrt()
    return (F.cosine_similarity(e[None], z, dim=-1).clamp_min(0) + (MARGIN - apart).clamp_min(0)).mean()


def ordered(h: Sequence[Tensor]) -> Tensor:
    """L_r of H_l [B] for l = K, K + 1, ...: mask tokens come nearer to the seen while they fill, never go away."""
    return torch.stack([(later - now).clamp_min(0) for now, later in zip(h, h[1:])]).sum(0).mean()
