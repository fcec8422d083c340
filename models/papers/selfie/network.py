"""Selfie's network (arXiv 1906.02940): P reads every patch alone, T pools the visible ones, a dot product picks.

    h_i = P(x_i)                              each patch alone: no pixel of a hole reaches another patch's features
    u = T(u0; {h_i + pos_i : i visible})      attention pooling; only the start vector's output is kept
    v_j = u + pos_j                           the hole's position says which patch is asked for
    a_jk = v_j . h_k / sqrt(D)                k runs over the hidden patches of the SAME photo, in any order

So a_jk - a_ik = (pos_j - pos_i) . h_k / sqrt(D): the visible patches say the same to every hole, and what tells holes
apart is their position alone.

Ours: P is a residual MLP on the patch's numbers (the paper: the first three stages of a ResNet-50), one network serves
both patch sizes by an input layer each, row and column are summed on the 4 x 4 grid as well (the paper: a vector for
each of the 16 places), rows of T see visible patches only (not the start vector), 1 / sqrt(D).
Letters: B photos, L patches, E visible, M hidden, K candidates, Q start vectors, H heads, D width, N numbers per patch.
"""
from __future__ import annotations

from types import SimpleNamespace

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn.functional import gelu

from models.backbones.pictures import patchify, unpatchify
from models.backbones.stand_in import stirred
from models.loops.mask.photos import taken

SIZES = (8, 16)  # pixels on a patch's side: a grid of 8 x 8 and one of 4 x 4
HIDDEN = 0.25  # of the patches; from memory, the paper's figure has 3 of 9


class ResidualMLP(nn.Module):
    def __init__(self, width: int, inside: int):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, inside), nn.Linear(inside, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(gelu(self.up(self.norm(x))))


class PatchNetwork(nn.Module):
    """P: patches [..., N] of either size -> [..., D], each by itself."""

    def __init__(self, width: int, inside: int, depth: int):
        super().__init__()
        self.pixel_projection = nn.ModuleDict({str(size): nn.Linear(3 * size * size, width) for size in SIZES})
        self.blocks = nn.Sequential(*(ResidualMLP(width, inside) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor) -> Tensor:
        size = round((patches.shape[-1] / 3) ** 0.5)
        return self.norm(self.blocks(self.pixel_projection[str(size)](patches)))


class PoolingLayer(nn.Module):
    """One layer of T: start vectors and visible patches look at the visible patches, and at nothing else."""

    def __init__(self, width: int, heads: int, inside: int):
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = ResidualMLP(width, inside)

    def forward(self, x: Tensor, starts: int, seen: list | None = None) -> Tensor:
        """x [B, Q + E, D], start vectors first. seen: gets what the start vectors look at, [B, H, Q, E]."""
        y = self.norm(x)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for part in (self.q(y), self.k(y[:, starts:]), self.v(y[:, starts:])))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)  # [B, H, Q + E, E], small
        if seen is not None:
            seen.append(weights[:, :, :starts])
        return self.mlp(x + self.out((weights @ v).transpose(1, 2).flatten(2)))


class SelfieNet(nn.Module, PyTorchModelHubMixin):
    """P, T, the start vector and the positions of both grids (a vector per row and one per column, summed)."""

    def __init__(self, image_size: int = 64, width: int = 192, inside: int = 512, depth: int = 3, layers: int = 3,
                 heads: int = 3, pool_inside: int = 384):
        super().__init__()
        self.config = SimpleNamespace(image_size=image_size, patch_size=SIZES[0], num_channels=3)
        self.patch_network = PatchNetwork(width, inside, depth)
        self.layers = nn.ModuleList(PoolingLayer(width, heads, pool_inside) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.start_embed = nn.Parameter(0.02 * torch.randn(width))
        self.place_embed = nn.ParameterDict({str(size): nn.Parameter(0.02 * torch.randn(2, image_size // size, width))
                                             for size in SIZES})

    def positions(self, size: int) -> Tensor:
        """[L, D]."""
        rows, columns = self.place_embed[str(size)]
        return (rows[:, None] + columns).flatten(0, 1)

    def features(self, pixels: Tensor, size: int) -> Tensor:
        """h [B, L, D] of photos [B, 3, S, S]."""
        return self.patch_network(self.patchify(pixels, size))

    def queries(self, h: Tensor, visible: Tensor, holes: Tensor, size: int, seen: list | None = None) -> Tensor:
        """v [B, M, D]: what is asked for every hole [B, M], from the visible patches [B, E] of h [B, L, D] alone."""
        place = self.positions(size)
        x = torch.cat([self.start_embed.expand(len(h), 1, -1), taken(h, visible) + place[visible]], 1)
        for layer in self.layers:
            x = layer(x, 1, seen)
        return self.norm(x[:, :1]) + place[holes]  # u + pos_j

    def forward(self, pixels: Tensor, visible: Tensor, holes: Tensor, size: int = SIZES[0]) -> Tensor:
        """a [B, M, M]: hole j against the patch that was cut out of hole k."""
        h = self.features(pixels, size)
        return scores(self.queries(h, visible, holes, size), taken(h, holes))

    def patchify(self, pixels: Tensor, size: int = SIZES[0]) -> Tensor:
        """[B, 3, S, S] -> [B, L, N]."""
        return patchify(pixels, size).flatten(1, 2)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """[B, L, N] -> [B, 3, S, S], of either size."""
        size = round((patches.shape[-1] / 3) ** 0.5)
        side = self.config.image_size // size
        return unpatchify(patches.unflatten(1, (side, side)), size)


def scores(queries: Tensor, candidates: Tensor) -> Tensor:
    """a [B, M, K]. A candidate has no position: its place in the list moves its column and nothing else."""
    return queries @ candidates.transpose(1, 2) * queries.shape[-1] ** -0.5


def hole_count(patches: int, share: float = HIDDEN) -> int:
    """At least two, so that there is something to choose."""
    return max(2, round(share * patches))


def split(noise: Tensor, share: float = HIDDEN) -> tuple[Tensor, Tensor]:
    """Visible [B, E] and hidden ids [B, M], each rising, by a draw [B, L]: the largest are hidden."""
    hidden = hole_count(noise.shape[1], share)
    return tuple(ids.sort(1).values for ids in noise.argsort(1).split((noise.shape[1] - hidden, hidden), 1))


# ---- for tests: tiny random weights in the shipped layout

def tiny(bundle) -> SelfieNet:
    torch.manual_seed(0)
    return stirred(SelfieNet(width=16, inside=16, depth=1, layers=2, heads=2, pool_inside=16))


STAND_INS = {"photo-selfie-1": tiny}
