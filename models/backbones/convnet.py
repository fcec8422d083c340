"""A residual convnet that can skip hidden cells, shared by papers: maps at strides 2, 4, 8 of a photo.

Given a map of the kept cells, every convolution empties its output there again and every batch norm counts kept
positions only, as SparK's sparse encoder does (arXiv 2301.03580); without one it is an ordinary residual network.
Letters: B photos, f cells per side, C channels, S side of the photo in pixels.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu


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
