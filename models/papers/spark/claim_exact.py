"""What SparK's encoder must equal: a submanifold sparse convolution that gathers kept positions and knows no others.

A list of sites, their features and one sum per kernel offset; nothing is computed in holes, so nothing can leak. Slow,
and written without the network's own layers. Letters: n sites, C channels, O channels out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def gather(x: Tensor, here: Tensor) -> Tensor:
    """Features [n, C] of the sites of a map [C, H, W]; here bool [H, W]."""
    return x[:, here].t()


def scatter(rows: Tensor, here: Tensor) -> Tensor:
    """The map [C, H, W] that holds the sites' features, zero elsewhere."""
    out = rows.new_zeros(rows.shape[1], *here.shape)
    out[:, here] = rows.t()
    return out


def convolve(rows: Tensor, inside: Tensor, outside: Tensor, conv: nn.Conv2d) -> Tensor:
    """[n, C] at the sites of `inside` bool [H, W] -> [m, O] at the sites of `outside` bool [h, w]."""
    number = torch.full(inside.shape, -1)
    number[inside] = torch.arange(len(rows))
    sites = outside.nonzero()  # [m, 2]
    out = rows.new_zeros(len(sites), conv.out_channels) + (0 if conv.bias is None else conv.bias)
    for dy, dx in np.ndindex(*conv.kernel_size):
        found = _numbers(number, sites * conv.stride[0] - conv.padding[0] + torch.tensor([dy, dx]))
        there = found >= 0
        out[there] += rows[found[there]] @ conv.weight[:, :, dy, dx].t()
    return out


def _numbers(number: Tensor, places: Tensor) -> Tensor:
    """The site number at every place [m, 2], -1 outside the picture or in a hole."""
    height, width = number.shape
    ok = (places >= 0).all(1) & (places[:, 0] < height) & (places[:, 1] < width)
    y, x = places.clamp(min=0).t()
    return torch.where(ok, number[y.clamp(max=height - 1), x.clamp(max=width - 1)], -1)


def normalise(rows: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm of sites [n, C] with the stored statistics."""
    return (rows - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def layers(encoder, photo: Tensor, kept: Tensor) -> list[Tensor]:
    """The map [C, h, w] after every layer, of one photo [3, S, S] and its kept cells bool [f, f]."""
    def sites(side: int) -> Tensor:
        return torch.from_numpy(np.kron(kept.numpy(), np.ones((side // len(kept),) * 2, bool)))

    here = sites(photo.shape[-1] // 2)
    full = sites(photo.shape[-1])
    rows = normalise(convolve(gather(photo, full), full, here, encoder.stem), encoder.norm).relu()
    found = [scatter(rows, here)]
    for block in encoder.blocks():
        there = sites(len(here) // block.first.stride[0])
        y = normalise(convolve(rows, here, there, block.first), block.norm).relu()
        y = normalise(convolve(y, there, there, block.second), block.norm_second)
        if block.shortcut is not None:
            rows = normalise(convolve(rows, here, there, block.shortcut), block.norm_shortcut)
        rows, here = (rows + y).relu(), there
        found.append(scatter(rows, here))
    return found
