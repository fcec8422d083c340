"""A patch tokenizer with finite scalar quantisation: pictures <-> a grid of discrete codes.

Source: finite scalar quantisation, arXiv 2309.15505 (bound each channel, round it, pass gradients straight through).
Every patch is encoded and decoded on its own by a small MLP, so one code always paints the same patch.
"""
import math

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from models.backbones.pictures import patchify, unpatchify


class FsqTokenizer(nn.Module, PyTorchModelHubMixin):
    """Codes of square patches. V = product of `levels`; pictures are float [B, 3, H, W] in 0..1."""

    def __init__(self, patch_size: int = 4, hidden_size: int = 256, levels: tuple[int, ...] = (8, 5, 5, 5),
                 image_size: int = 64):
        super().__init__()
        if min(levels) < 2:
            raise ValueError("every entry of levels must be at least 2")
        self.patch_size, self.levels, self.image_size = patch_size, tuple(levels), image_size
        self.codebook_size = math.prod(levels)
        size = 3 * patch_size**2
        self.encoder = _mlp(size, hidden_size, len(levels))
        self.decoder = _mlp(len(levels), hidden_size, size)
        self.register_buffer("steps", torch.tensor(levels, dtype=torch.float32), persistent=False)
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("basis", torch.tensor(basis), persistent=False)

    def encode(self, images):
        """Codes [B, h, w] (int64) of pictures [B, 3, H, W]; h = H / patch_size."""
        digits = self.quantise(self.encoder(self.patchify(images)))  # [B, h, w, channels], integers as floats
        return (digits.round().long() * self.basis).sum(-1)

    def decode(self, ids):
        """Pictures [B, 3, H, W] in 0..1 of codes [B, h, w]."""
        digits = ids[..., None] // self.basis % self.steps.long()
        return self.unpatchify(self.paint(digits.to(self.decoder[0].weight.dtype))).clamp(0, 1)

    def forward(self, images):
        """Reconstruction with gradients straight through the rounding: [B, 3, H, W], not clamped."""
        return self.unpatchify(self.paint(self.quantise(self.encoder(self.patchify(images)))))

    def quantise(self, z):
        """Real channels -> digits 0 .. levels - 1: bounded by a sigmoid, rounded, straight-through gradient."""
        z = torch.sigmoid(z) * (self.steps - 1)
        return z + (z.round() - z).detach()

    def paint(self, digits):
        """Digits [..., channels] -> patch pixels [..., 3 * patch_size**2]."""
        return self.decoder(digits / (self.steps - 1) * 2 - 1)

    def patchify(self, images):
        """[B, 3, H, W] -> [B, h, w, 3 * patch_size**2]."""
        height, width, p = *images.shape[2:], self.patch_size
        if height % p or width % p:
            raise ValueError(f"the picture is {height} x {width}: both sides must be multiples of {p}")
        return patchify(images, p)

    def unpatchify(self, patches):
        """[B, h, w, 3 * patch_size**2] -> [B, 3, H, W]."""
        return unpatchify(patches, self.patch_size)


def _mlp(inner: int, hidden: int, outer: int):
    return nn.Sequential(nn.Linear(inner, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
                         nn.Linear(hidden, outer))
