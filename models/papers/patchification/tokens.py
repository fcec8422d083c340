"""What a patch size is (arXiv 2502.03738): how many tokens a picture becomes, what they cost and what they retain.

    L = (S / p)^2 tokens;  token = W x + b, x the 3 p^2 numbers of a patch, W [D, 3 p^2]   # everything else is the same

Letters: S picture side and p patch side in pixels, L patches, D width, K photos.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, fold

WIDTH, LAYERS, HEADS = 96, 4, 3  # of every network
STEPS, BATCH = 500, 32  # of every training
FAMILY = {64: (32, 16, 8, 4), 16: (8, 4, 2, 1)}  # picture side -> the patch sizes that were trained
CLASSES = (0, 2, 3, 4, 6, 7, 8, 9, 10, 20, 21, 28, 29, 30, 34, 36, 37, 40, 45, 48)  # of the 50 of photo-vit-1
HELD = 4000  # of the first training photos, nobody learns from these
SIDE, UNTRAINED = 64, 2  # pixels of the larger pictures; the patches that make 1,024 tokens of them


def name(side: int, patch: int) -> str:
    """Of the checkpoint."""
    return f"photo-cut-{side}by{patch}-1"


def count(side: int, patch: int) -> int:
    """L. ValueError where patches do not fill the picture."""
    if side % patch:
        raise ValueError(f"patches of {patch} pixels do not fill a picture of {side}; choose a divisor of it")
    return (side // patch) ** 2


def macs(side: int, patch: int, width: int = WIDTH, layers: int = LAYERS, classes: int = len(CLASSES)) -> int:
    """Multiply-adds of one picture: patch projection, layers (D^2 for each token, D for each pair), head."""
    patches = count(side, patch)
    sequence = patches + 1  # the class token
    layer = 12 * sequence * width**2 + 2 * sequence**2 * width
    return patches * 3 * patch**2 * width + layers * layer + classes * width


def macs_of(model: nn.Module) -> int:
    """The same of a network."""
    c = model.config
    return macs(c.image_size, c.patch_size, c.hidden_size, c.num_hidden_layers, c.num_labels)


def as_costly(patch: int, other: int) -> int:
    """Steps in which patches of this size cost what STEPS steps of the other size do."""
    return round(STEPS * macs(SIDE, other) / macs(SIDE, patch))


def some_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which photos are of CLASSES, bool [K], and the place of each of these among CLASSES."""
    mine = labels[:, None] == torch.tensor(CLASSES)
    return mine.any(1), mine[mine.any(1)].int().argmax(1)


@torch.no_grad()
def retained(projection: nn.Conv2d, pixels: Tensor) -> Tensor:
    """What the tokens of pixels [B, 3, S, S] say of them, [B, 3, S, S] float64: x of least squares, W x = token - b.

    Exact where 3 p^2 <= D and W has full rank; beyond that what lies outside the rows of W is lost.
    """
    w, p = projection.weight.double(), projection.kernel_size[0]
    told = conv2d(pixels.double(), w, stride=p).flatten(2)  # [B, D, L], the tokens without their bias
    return fold(torch.linalg.pinv(w.flatten(1)) @ told, pixels.shape[-2:], p, stride=p)


def psnr(mine: Tensor, true: Tensor) -> float:
    """Decibels of pictures in 0..1, higher is better; 100 stands for exact."""
    wrong = float((mine - true).double().square().mean())
    return -10 * torch.tensor(max(wrong, 1e-10)).log10().item()
