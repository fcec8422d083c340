"""SparK's network (arXiv 2301.03580): a residual convnet that skips hidden cells, and a light U-Net that repaints them.

The encoder is a plain dense network; given a map of the kept cells, every convolution empties its output there again
and every batch norm counts kept positions only. That equals a submanifold sparse convolution whose active positions
are fixed at each scale, and without a map the very same weights are the dense network for later use.

Densify, per scale: sparse norm, the scale's mask vector in the holes, projection to the decoder's width; all in both
modes, so that `sparse` is the one difference between SparK and its zero-filled control. A mask cell is as large as
the total stride, so each scale is cut exactly at its borders.

Not covered: the ConvNeXt-like encoder with its layer norms, pooling layers, drop-path.
Letters: B photos, f cells per side, L = f f cells, C channels, S side of the photo in pixels, P numbers per cell.
"""
from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones.convnet import Encoder, Norm, at
from models.backbones.pictures import patchify, unpatchify


class Upward(nn.Module):
    """One step of the light decoder: twice the resolution, half the width. It has no holes and knows no mask."""

    def __init__(self, width: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(width, width, 4, 2, 1)
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(),
            nn.Conv2d(width, width // 2, 3, 1, 1, bias=False), nn.BatchNorm2d(width // 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.up(x))


class SparkNet(nn.Module, PyTorchModelHubMixin):
    """Encoder, densify and decoder. sparse: False is the control, a dense encoder on the zero-filled photo."""

    def __init__(self, image_size: int = 64, widths: tuple[int, ...] = (48, 96, 192), depth: int = 2,
                 decoder_width: int = 128, sparse: bool = True):
        super().__init__()
        self.sparse, self.grid = sparse, (image_size >> len(widths),) * 2
        self.config = SimpleNamespace(image_size=image_size, patch_size=2 ** len(widths), num_channels=3)
        self.encoder = Encoder(widths, depth)
        scales = list(enumerate(reversed(widths)))  # coarse to fine
        narrow = [decoder_width >> i for i, _ in scales]
        self.densify_norms = nn.ModuleList(Norm(width) for _, width in scales)
        self.mask_vectors = nn.ParameterList(nn.Parameter(0.02 * torch.randn(1, width, 1, 1)) for _, width in scales)
        self.projections = nn.ModuleList(
            nn.Identity() if i == 0 and width == narrow[0] else
            nn.Conv2d(width, narrow[i], 1 if i == 0 else 3, padding=0 if i == 0 else 1) for i, width in scales)
        self.decoder = nn.ModuleList(Upward(width) for width in narrow)
        self.to_rgb = nn.Conv2d(narrow[-1] // 2, 3, 1)

    def forward(self, pixels: Tensor, kept: Tensor, sparse: bool | None = None,
                scales: Sequence[bool] | None = None) -> Tensor:
        """The repainted photo [B, 3, S, S] from pixels [B, 3, S, S] of which only the cells kept bool [B, L] are seen.

        sparse: a what-if, as trained by default. scales: fine to coarse, False feeds the mask vector everywhere.
        """
        active = kept.unflatten(1, self.grid)[:, None]
        inside = active if (self.sparse if sparse is None else sparse) else None
        maps = self.encoder(pixels * at(active, pixels), inside)
        return self.paint(self.densify(maps, active, inside, scales or (True,) * len(maps)))

    def densify(self, maps: Sequence[Tensor], active: Tensor, inside: Tensor | None,
                scales: Sequence[bool]) -> list[Tensor]:
        """Maps without holes at the decoder's widths, coarse to fine."""
        full = []
        for i, (x, use) in enumerate(zip(reversed(maps), reversed(scales), strict=True)):
            x = self.densify_norms[i](x, inside)
            filled = torch.where(at(active & bool(use), x), x, self.mask_vectors[i].to(x.dtype))
            full.append(self.projections[i](filled))
        return full

    def paint(self, full: Sequence[Tensor]) -> Tensor:
        """The decoder: each level adds the densified map of its resolution, if there is one."""
        x = 0
        for upward, dense in zip(self.decoder, full, strict=True):
            x = upward(x + dense)
        return self.to_rgb(x)

    def macs(self) -> tuple[int, int]:
        """Multiply-adds of one photo, computed densely: of the encoder, and of densify and the decoder."""
        def area(halvings: int) -> int:
            return (self.config.image_size >> halvings) ** 2

        encoder, deepest = self.encoder, len(self.encoder.stages)
        inside = _weights(encoder.stem) * area(1) + sum(
            _weights(stage) * area(1 + n) for n, stage in enumerate(encoder.stages))
        outside = sum(_weights(layer) * area(deepest - n) for n, layer in enumerate(self.projections)) + sum(
            _weights(upward.up) * area(deepest - n) + _weights(upward.mix) * area(deepest - n - 1)
            for n, upward in enumerate(self.decoder))
        return inside, outside + _weights(self.to_rgb) * area(0)

    def patchify(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, L, P]."""
        return patchify(pixels, self.config.patch_size).flatten(1, 2)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """[B, L, P] -> [B, 3, S, S]."""
        return unpatchify(patches.unflatten(1, self.grid), self.config.patch_size)


def _weights(module: nn.Module) -> int:
    """Weights of its convolutions: multiply-adds per position."""
    return sum(p.numel() for p in module.parameters() if p.dim() == 4)


def kept_count(count: int, mask_ratio: float) -> int:
    """How many of `count` cells stay: round(L (1 - ratio)), at least 1 and at most L - 1."""
    return min(max(round(count * (1 - mask_ratio)), 1), count - 1)


def kept_cells(noise: Tensor, kept: int) -> Tensor:
    """The cells bool [B, L] with the `kept` lowest noise values [B, L]."""
    return noise.argsort(dim=1, stable=True).argsort(1) < kept


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

def tiny(bundle, sparse: bool = True) -> SparkNet:
    """A stand-in for either arm."""
    torch.manual_seed(0)
    made = SparkNet(widths=(8, 8, 16), depth=2, decoder_width=16, sparse=sparse)
    for norm in filter(lambda module: isinstance(module, Norm), made.modules()):
        nn.init.uniform_(norm.bias, 1.0, 2.0)  # untrained norms would add nothing to a hole
    return made


STAND_INS = {"photo-spark-1": tiny, "photo-spark-zero-1": lambda bundle: tiny(bundle, sparse=False)}
