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

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

from models.backbones.pictures import patchify, unpatchify


def at(active: Tensor, like: Tensor) -> Tensor:
    """The kept cells bool [B, 1, f, f] at the resolution of `like` (nearest): [B, 1, H, W]."""
    times = like.shape[-1] // active.shape[-1]
    return active.repeat_interleave(times, 2).repeat_interleave(times, 3)


class Conv(nn.Conv2d):
    """A convolution that leaves holes empty: without the second line its kernel would reach in, and its bias too."""

    def forward(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        return y if active is None else y * at(active, y)

    def paths(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """The same connections with every weight 1, on one channel: ways [B, 1, H, W] to a position -> [B, 1, h, w]."""
        y = conv2d(x, x.new_ones(1, 1, *self.kernel_size), stride=self.stride, padding=self.padding)
        return y if active is None else y * at(active, y)


class Norm(nn.BatchNorm2d):
    """Batch norm whose statistics ignore holes: kept positions are gathered, normalised and put back between zeros."""

    def forward(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        if active is None:
            return super().forward(x)
        where = at(active, x)[:, 0]  # [B, H, W]
        rows = x.permute(0, 2, 3, 1)[where]  # [positions, C]
        rows = super().forward(rows.t()[None, :, :, None])[0, :, :, 0].t()  # as one column of a picture
        empty = torch.zeros(*where.shape, rows.shape[1], dtype=rows.dtype, device=rows.device)
        return empty.index_put((where,), rows).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (ResNet's basic block)."""

    def __init__(self, inside: int, width: int, stride: int):
        super().__init__()
        self.first, self.norm = Conv(inside, width, 3, stride, 1, bias=False), Norm(width)
        self.second, self.norm_second = Conv(width, width, 3, 1, 1, bias=False), Norm(width)
        self.shortcut, self.norm_shortcut = None, None
        if stride > 1 or inside != width:
            self.shortcut, self.norm_shortcut = Conv(inside, width, 1, stride, bias=False), Norm(width)

    def forward(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        y = relu(self.norm(self.first(x, active), active))
        y = self.norm_second(self.second(y, active), active)
        if self.shortcut is not None:
            x = self.norm_shortcut(self.shortcut(x, active), active)
        return relu(x + y)

    def paths(self, x: Tensor, active: Tensor | None = None) -> Tensor:
        """As `Conv.paths`, through both branches."""
        far = self.second.paths(self.first.paths(x, active), active)
        return far + (x if self.shortcut is None else self.shortcut.paths(x, active))


class Encoder(nn.Module):
    """A stem of stride 2 and stages of blocks, each further stage at half the resolution: maps at strides 2, 4, 8."""

    def __init__(self, widths: Sequence[int], depth: int):
        super().__init__()
        self.stem, self.norm = Conv(3, widths[0], 3, 2, 1), Norm(widths[0])
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(wide if i == 0 else width, width, 2 if n and i == 0 else 1) for i in range(depth))
            for n, (wide, width) in enumerate(zip((widths[0], *widths), widths)))
        self.names = ("the stem", *(f"stage {n + 1}, block {i + 1}" for n in range(len(widths)) for i in range(depth)))

    def layers(self, x: Tensor, active: Tensor | None = None) -> Iterator[Tensor]:
        """The map [B, C, H, W] after the stem and after every block, in the order of `names`."""
        x = relu(self.norm(self.stem(x, active), active))
        yield x
        for block in self.blocks():
            x = block(x, active)
            yield x

    def blocks(self) -> Iterator[Block]:
        return (block for stage in self.stages for block in stage)

    def norm_inputs(self, x: Tensor, active: Tensor | None = None) -> list[Tensor]:
        """What the first norm of every layer is given."""
        into = [block.first(y, active) for block, y in zip(self.blocks(), self.layers(x, active))]
        return [self.stem(x, active), *into]

    def forward(self, x: Tensor, active: Tensor | None = None) -> list[Tensor]:
        """The last map of every stage, fine to coarse."""
        found = list(self.layers(x, active))
        depth = len(self.stages[0])
        return found[depth::depth]

    def paths(self, seen: Tensor, active: Tensor | None = None) -> list[Tensor]:
        """For every layer, in how many ways its positions [B, 1, h, w] are connected to the seen pixels bool
        [B, 1, S, S], up to one factor for all."""
        found = [self.stem.paths(seen.double(), active)]
        for block in self.blocks():
            ways = block.paths(found[-1], active)
            found.append(ways / ways.amax().clamp(min=1))
        return found

    def reach(self, seen: Tensor) -> list[Tensor]:
        """For every layer, where a dense encoder carries information about the seen pixels: bool [B, 1, h, w]."""
        return [ways > 0 for ways in self.paths(seen)]


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
