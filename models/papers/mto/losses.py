"""MTO (arXiv 2404.08330): what sets mask tokens apart from seen ones, and three losses that ask for it.

The mechanism is the abstract's; every formula here is this project's own. V: seen patches, M: hidden ones, e: the mask
vector, z: patch embeddings without positions, x^l: tokens after block l, A^l: attention of block l.

    H_l   = mean over i in V, j in M of JS(q_i, q_j), q = softmax over channels of LN(x^l)          # bits, 0..1
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


def picked(tokens: Tensor, which: Tensor) -> Tensor:
    """[B, L, ...] -> [B, n, ...]: those of bool [B, L], of which every picture has n."""
    return tokens[which].unflatten(0, (len(tokens), -1))


def entropy(q: Tensor) -> Tensor:
    return -(q * q.clamp_min(1e-12).log2()).sum(-1)


def heterogeneity(x: Tensor, mask: Tensor) -> Tensor:
    """H_l [B] of tokens [B, N, D]; mask bool [B, L]. ValueError where nothing is hidden: an MAE's encoder has no mask
    tokens to compare with."""
    if x.shape[1] != mask.shape[1] + 1 or not mask.any(1).all() or mask.all(1).any():
        raise ValueError("heterogeneity compares mask tokens with seen ones: here there are not both")
    q = F.layer_norm(x[:, 1:].float(), x.shape[-1:]).softmax(-1)  # [B, L, D]
    seen, hidden = picked(q, ~mask)[:, :, None], picked(q, mask)[:, None]  # [B, V, 1, D], [B, 1, M, D]
    return (entropy((seen + hidden) / 2) - (entropy(seen) + entropy(hidden)) / 2).mean((1, 2))


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
