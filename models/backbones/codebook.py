"""A plain vector-quantising patch tokenizer: every code is one patch, and every patch takes the nearest code.

Source: vector quantisation as in VQ-VAE, arXiv 1711.00937, without an encoder network: the latent space is the pixels'
own, so the distance of two codes is exactly how differently they paint.
"""
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from models.backbones.pictures import MEAN, STD, patchify, unpatchify


class PatchCodebook(nn.Module, PyTorchModelHubMixin):
    """V codes for square patches of pictures [B, 3, H, W] in 0..1; `entries` [V, 3 * patch_size**2] are the patches."""

    def __init__(self, codebook_size: int, patch_size: int = 4):
        super().__init__()
        self.codebook_size, self.patch_size = codebook_size, patch_size
        self.entries = nn.Parameter(torch.rand(codebook_size, 3 * patch_size**2))

    def encode(self, images):
        """Nearest codes [B, h, w] (int64) of pictures [B, 3, H, W]; h = H / patch_size."""
        return self.nearest(patchify(images, self.patch_size))

    def encode_normalised(self, pixels):
        """The same of pictures as encoders take them, with ImageNet's mean and deviation."""
        mean, std = (torch.from_numpy(part)[:, None, None].to(pixels) for part in (MEAN, STD))
        return self.encode(pixels * std + mean)

    def nearest(self, patches):
        """Codes [...] of patches [..., 3 * patch_size**2] in 0..1, pixel by pixel, colours last."""
        return torch.cdist(patches.flatten(0, -2).float(), self.entries.float()).argmin(-1).reshape(patches.shape[:-1])

    def decode(self, ids):
        """Pictures [B, 3, H, W] in 0..1 of codes [B, h, w]."""
        return unpatchify(self.entries[ids], self.patch_size).clamp(0, 1)

    def forward(self, patches):
        """Squared distance [...] of each patch to its code; its gradient is the k-means step."""
        return (patches - self.entries[self.nearest(patches)]).pow(2).sum(-1)
