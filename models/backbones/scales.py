"""A picture as a pyramid of token maps r_1 (1 x 1) .. r_K (h x w) over one codebook, as VAR has it (arXiv 2404.02905):
the codes of every network that goes on from coarse to fine.

Each map codes what the coarser ones have not explained: the features' rest is area-downsampled to p_k x p_k, every
place takes the nearest of V entries, these are upsampled (bicubic), filtered by phi and taken off the rest before the
next map is made. So tokenising goes scale by scale, and the sum of all filtered maps is the picture's features.

Encoder and decoder work patch by patch, because scenes are flat. The paper's convolutions with attention see the whole
picture at every place; here the last `overview` channels stand for that: they are the same everywhere and name the
nearest of some layouts (k-means of 4 x 4 thumbnails). Without them the single token of scale 1 could say what there is
and not where, and the four tokens of scale 2, which do not see each other, would have to agree on it.

Letters: B pictures, C channels, H = W = p_K cells, V entries, L tokens of all scales. Layout follows FoundationVision's
code; the perceptual and adversarial losses are left out.
"""
from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from models.worlds import scenes

SCALES = (1, 2, 3, 4, 6, 8)
THUMB = 4  # cells per side of a thumbnail


class Pyramid(NamedTuple):
    """ids int64 [B, L], coarse to fine, row by row; sums: f_hat after every scale, K times [B, C, H, W]; wanted: the
    rests that the tokens stand for [B, L, C]."""

    ids: Tensor
    sums: tuple[Tensor, ...]
    wanted: Tensor


class Phi(nn.Module):
    """phi(x) = x / 2 + conv(x) / 2, a 3 x 3 convolution half mixed in; at first the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.dirac_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x + 0.5 * self.conv(x)


class Scaled:
    """What tokenizer and transformer share: K scales of p_k a side, whose tokens follow one another, coarse to fine."""

    scales: tuple[int, ...]

    @property
    def length(self) -> int:
        """L."""
        return sum(side**2 for side in self.scales)

    def level_of(self) -> Tensor:
        """The scale [L] of every token, from 0."""
        return torch.repeat_interleave(torch.arange(len(self.scales)), torch.tensor([p**2 for p in self.scales]))

    def middles(self) -> Tensor:
        """Row and column [L, 2] of every token's middle, as shares of the picture's side."""
        lines = [(torch.arange(side) + 0.5) / side for side in self.scales]
        return torch.cat([torch.cartesian_prod(at, at) for at in lines])

    def place(self, scale: int) -> slice:
        """Where the tokens of a scale stand among the L."""
        first = sum(side**2 for side in self.scales[:scale])
        return slice(first, first + self.scales[scale] ** 2)


class ScaleTokenizer(Scaled, nn.Module, PyTorchModelHubMixin):
    """Pictures [B, 3, p_K patch, p_K patch] in 0..1 <-> L tokens.

    channels: of a patch; overview: of the whole picture, beside them (C is their sum); layouts: how many the overview
    tells apart; shared: how many phis serve the K scales.
    """

    def __init__(self, codebook_size: int = 1536, scales: tuple[int, ...] = SCALES, channels: int = 16,
                 overview: int = 16, layouts: int = 512, hidden_size: int = 192, patch_size: int = 8, shared: int = 4):
        super().__init__()
        self.codebook_size, self.scales, self.patch_size = codebook_size, tuple(scales), patch_size
        self.local, self.channels, pixels = channels, channels + overview, 3 * patch_size**2
        self.entries = nn.Parameter(0.1 * torch.randn(codebook_size, self.channels))
        self.to_features = nn.Linear(pixels, channels)
        self.to_thumbnail = nn.Linear(overview, 3 * THUMB**2)
        self.to_pixels = nn.Sequential(nn.Linear(self.channels + 3, hidden_size), nn.GELU(),
                                       nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, pixels))
        self.phi = nn.ModuleList(Phi(self.channels) for _ in range(shared))
        self.layouts = nn.Parameter(torch.randn(layouts, 3 * THUMB**2), requires_grad=False)
        self.directions = nn.Parameter(torch.randn(3 * THUMB**2, overview), requires_grad=False)

    @property
    def side(self) -> int:
        """H = W = p_K."""
        return self.scales[-1]

    def phi_of(self, scale: int) -> Phi:
        """The phi of a scale counted from 0: the one whose tick is nearest to k / (K - 1)."""
        count = len(self.phi)
        ticks = torch.linspace(1 / 3 / count, 1 - 1 / 3 / count, count)
        return self.phi[int((ticks - scale / max(1, len(self.scales) - 1)).abs().argmin())]

    def features(self, images: Tensor) -> Tensor:
        """f [B, C, H, W] of pictures: patch by patch, and the overview at every place."""
        patches = F.pixel_unshuffle(images, self.patch_size).permute(0, 2, 3, 1)  # [B, H, W, pixels]
        layout = self.layouts[torch.cdist(thumbnails(images), self.layouts).argmin(-1)] @ self.directions
        layout = layout[:, None, None].expand(-1, *patches.shape[1:3], -1)
        return torch.cat([self.to_features(patches), layout], -1).permute(0, 3, 1, 2)

    def quantise(self, f: Tensor) -> Pyramid:
        """All maps of features [B, C, H, W]; gradients reach entries and phis through the sums."""
        rest, total = f.detach(), torch.zeros_like(f)
        ids, sums, wanted = [], [], []
        for scale in range(len(self.scales)):
            z = down(rest, self.scales[scale]).flatten(2).transpose(1, 2)  # [B, p * p, C]
            ids.append(self.nearest(z))
            wanted.append(z)
            step = self.increment(ids[-1], scale)
            rest, total = rest - step.detach(), total + step
            sums.append(total)
        return Pyramid(torch.cat(ids, 1), tuple(sums), torch.cat(wanted, 1))

    def nearest(self, z: Tensor) -> Tensor:
        """The nearest entries (plain Euclidean) of z [B, N, C]: int64 [B, N]."""
        return torch.cdist(z.flatten(0, 1), self.entries.detach()).argmin(-1).reshape(z.shape[:2])

    def increment(self, ids: Tensor, scale: int) -> Tensor:
        """What the map ids [B, p * p] of a scale adds to the features: [B, C, H, W]."""
        side = self.scales[scale]
        h = self.entries[ids].transpose(1, 2).unflatten(2, (side, side))
        return self.phi_of(scale)(up(h, self.side))

    def following(self, total: Tensor, scale: int) -> Tensor:
        """What the transformer reads before a scale: f_hat [B, C, H, W] of the coarser ones at this scale's size,
        [B, p * p, C]."""
        return down(total, self.scales[scale]).flatten(2).transpose(1, 2)

    def inputs(self, sums: tuple[Tensor, ...]) -> Tensor:
        """`following` for all scales but the first, in order: [B, L - 1, C]."""
        return torch.cat([self.following(total, scale) for scale, total in enumerate(sums[:-1], 1)], 1)

    def encode(self, images: Tensor) -> Tensor:
        """ids [B, L] of pictures."""
        return self.quantise(self.features(images)).ids

    def nothing(self, count: int) -> Tensor:
        """f_hat [count, C, H, W] before the first map."""
        return self.entries.new_zeros(count, self.channels, self.side, self.side)

    def sums(self, ids: Tensor) -> tuple[Tensor, ...]:
        """f_hat [B, C, H, W] after every map of ids [B, L]."""
        maps = ids.split([side**2 for side in self.scales], 1)
        return tuple(accumulate(self.increment(one, scale) for scale, one in enumerate(maps)))

    def paint(self, total: Tensor) -> Tensor:
        """Pictures [B, 3, ...] of features [B, C, H, W], complete or not; not clamped."""
        thumb = self.to_thumbnail(total[:, self.local :].mean((2, 3))).unflatten(1, (3, THUMB, THUMB))
        seen = torch.cat([total, F.interpolate(thumb, size=total.shape[2:], mode="nearest")], 1)
        patches = self.to_pixels(seen.permute(0, 2, 3, 1))
        return F.pixel_shuffle(patches.permute(0, 3, 1, 2), self.patch_size)

    def decode(self, ids: Tensor) -> Tensor:
        """Pictures [B, 3, ...] in 0..1 of ids [B, L]."""
        return self.paint(self.sums(ids)[-1]).clamp(0, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Pyramid]:
        """Reconstruction (gradients straight through the codes), the codebook's loss, and the pyramid."""
        f = self.features(images)
        found = self.quantise(f)
        loss = sum(F.mse_loss(total, f.detach()) + 0.25 * F.mse_loss(total.detach(), f) for total in found.sums)
        return self.paint(f + (found.sums[-1] - f).detach()), loss / len(self.scales), found


def down(x: Tensor, side: int) -> Tensor:
    """[B, C, H, W] to side x side by area means; as it is where that is its size."""
    return resized(x, side, "area")


def up(x: Tensor, side: int) -> Tensor:
    """[B, C, p, p] to side x side, bicubic; as it is where that is its size."""
    return resized(x, side, "bicubic")


def resized(x: Tensor, side: int, mode: str) -> Tensor:
    """torch's `interpolate` as two small products, which is some ten times as fast for maps of this size."""
    if x.shape[-1] == side:
        return x
    weights = axis(x.shape[-1], side, mode).to(x)
    return weights @ x @ weights.T


@lru_cache(maxsize=64)
def axis(size: int, side: int, mode: str) -> Tensor:
    """What each of `side` places takes from each of `size`: [side, size]."""
    with torch.inference_mode(False), torch.no_grad():
        line = torch.eye(size)[None, :, :, None]  # one channel per source
        return F.interpolate(line, size=(side, 1), mode=mode)[0, :, :, 0].T.contiguous()


def thumbnails(images: Tensor) -> Tensor:
    """The colour of every cell of 4 x 4 less the ground's, at one strength for all colours: [B, 48]."""
    ground = torch.tensor(scenes.BACKGROUND, device=images.device)[:, None, None] / 255
    return F.normalize(F.adaptive_avg_pool2d(images - ground, THUMB), dim=1, eps=0.02).flatten(1)
