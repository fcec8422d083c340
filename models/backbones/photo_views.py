"""A second view of a photo: the first one moved and mirrored a little, in other colours. Plain tensors, own dice.

As in LUT (arXiv 2310.13593): crop after a reflected border, flip, colour jitter (0.4, 0.4, 0.2, 0.1) for 8 in 10, then
one of grey, solarise and blur (the three of arXiv 2204.07118). Their 4 pixels of 224 are 1 of 64; the blur shrinks
alike. The jitter's four changes follow one another in this order, theirs in a random one.

Letters: B photos, S picture side in pixels.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from models.backbones.pictures import MEAN, STD

BORDER = 1  # pixels that a view may be moved
JITTER = 0.4, 0.4, 0.2, 0.1  # of brightness, contrast, saturation, and of a turn of hues
RADIUS = 0.1 * 64 / 224, 2 * 64 / 224  # of the blur, in pixels
GREY = 0.299, 0.587, 0.114
YIQ = (GREY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))  # hues turn in the last two


def second_view(pixels: Tensor, dice: torch.Generator, strength: float = 1.0) -> Tensor:
    """View v [B, 3, S, S] of photos as view u shows them, both ImageNet-normalised. strength: of the colours' change, 1
    as in training, 0 only moved and mirrored."""
    mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (MEAN, STD))
    colours = (moved(pixels, dice) * std + mean).clamp(0, 1)
    jittered = torch.where(torch.rand(len(pixels), 1, 1, 1, generator=dice) < 0.8, jitter(colours, dice), colours)
    return (colours + strength * (one_of_three(jittered, dice) - colours) - mean) / std


def moved(pixels: Tensor, dice: torch.Generator) -> Tensor:
    """A crop of the photo with a reflected border, every second one mirrored."""
    count, side = len(pixels), torch.arange(pixels.shape[-1])
    wide = F.pad(pixels, (BORDER,) * 4, mode="reflect")
    rows, columns = (torch.randint(2 * BORDER + 1, (count, 1), generator=dice) + side for _ in range(2))  # [B, S]
    columns = torch.where(torch.rand(count, 1, generator=dice) < 0.5, columns.flip(1), columns)
    photo, channel = torch.arange(count)[:, None, None, None], torch.arange(3)[:, None, None]
    return wide[photo, channel, rows[:, None, :, None], columns[:, None, None]]


def jitter(colours: Tensor, dice: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue, each of a photo's own; colours 0 to 1."""
    spread = (2 * torch.rand(4, len(colours), 1, 1, 1, generator=dice) - 1)
    light, contrast, depth, turn = (much * one for much, one in zip(JITTER, spread))
    made = (colours * (1 + light)).clamp(0, 1)
    middle = grey(made).mean((1, 2, 3), keepdim=True)
    made = (middle + (1 + contrast) * (made - middle)).clamp(0, 1)
    made = (grey(made) + (1 + depth) * (made - grey(made))).clamp(0, 1)
    return hues(made, 2 * math.pi * turn)


def hues(colours: Tensor, turn: Tensor) -> Tensor:
    """Every hue turned by so many radians [B, 1, 1, 1], brightness as it was."""
    there = torch.tensor(YIQ)
    y, i, q = torch.einsum("kc,bchw->bkhw", there, colours).unbind(1)
    cos, sin = turn[:, 0].cos(), turn[:, 0].sin()
    turned = torch.stack([y, cos * i - sin * q, sin * i + cos * q], 1)
    return torch.einsum("ck,bkhw->bchw", there.inverse(), turned).clamp(0, 1)


def one_of_three(colours: Tensor, dice: torch.Generator) -> Tensor:
    """Grey, solarised or blurred."""
    kind = torch.randint(3, (len(colours), 1, 1, 1), generator=dice)
    solarised = torch.where(colours >= 0.5, 1 - colours, colours)
    made = torch.where(kind == 1, solarised, blurred(colours, dice))
    return torch.where(kind == 0, grey(colours).expand_as(colours), made)


def grey(colours: Tensor) -> Tensor:
    return torch.einsum("c,bchw->bhw", torch.tensor(GREY), colours)[:, None]


def blurred(colours: Tensor, dice: torch.Generator) -> Tensor:
    """A Gaussian of each photo's own radius."""
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * torch.rand(len(colours), 1, generator=dice)
    near = torch.exp(-(torch.arange(-2, 3) ** 2) / (2 * radius**2))  # [B, 5]
    near = near / near.sum(1, keepdim=True)
    wide = F.pad(colours, (2, 2, 2, 2), mode="reflect").transpose(0, 1)  # [3, B, ...]: one kernel a photo
    count = len(colours)
    wide = F.conv2d(wide, near[:, None, :, None], groups=count)
    return F.conv2d(wide, near[:, None, None], groups=count).transpose(0, 1)
