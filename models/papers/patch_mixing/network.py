"""The convnet of Patch Mixing's two families: SparK's dense encoder under a linear head. The other is photo-vit-1's.

Letters: B photos, S side of a photo in pixels, C classes, N cells, D features.
"""
from __future__ import annotations

from types import SimpleNamespace

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones.convnet import Encoder
from models.backbones.stand_in import stirred


class ConvClassifier(nn.Module, PyTorchModelHubMixin):
    """A residual encoder, the mean of its last map, one linear layer."""

    def __init__(self, image_size: int = 64, widths: tuple[int, ...] = (48, 96, 192), depth: int = 2,
                 classes: int = 50):
        super().__init__()
        self.config = SimpleNamespace(image_size=image_size, patch_size=2 ** len(widths), num_channels=3)
        self.encoder, self.classifier = Encoder(widths, depth), nn.Linear(widths[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [B, C] of normalised pixels [B, 3, S, S]."""
        return self.classifier(self.encoder(pixels)[-1].mean((2, 3)))


def answers(model, pixels: Tensor) -> Tensor:
    """Logits [B, C] of either family."""
    found = model(pixels)
    return getattr(found, "logits", found)


def features(model, pixels: Tensor) -> Tensor:
    """What either family has made of every cell in the end [B, N, D]."""
    if isinstance(model, ConvClassifier):
        return model.encoder(pixels)[-1].flatten(2).transpose(1, 2)
    return model.vit(pixels).last_hidden_state[:, 1:]


# ---- for tests: tiny random weights in the shipped layout

def tiny(bundle) -> ConvClassifier:
    torch.manual_seed(0)
    return stirred(ConvClassifier(widths=(8, 8, 16), depth=1, classes=5))


def tiny_vit(bundle):
    return bundle("photo-vit-1").model


STAND_INS = {"photo-conv-1": tiny, "photo-conv-plain-1": tiny, "photo-conv-mixing-1": tiny,
             "photo-vit-plain-1": tiny_vit, "photo-vit-mixing-1": tiny_vit}
