"""The policy over block sizes. Letters: B texts, D width, L sizes."""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones.block_diffusion import LONGEST, SIZES
from models.backbones.stand_in import stirred


class BlockPolicy(nn.Module, PyTorchModelHubMixin):
    """pi(size | h): of the clean state of the last word that stands [B, D] and the entropies of the next 16 [B, 16]."""

    def __init__(self, width: int = 192, hidden: int = 64):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width + LONGEST, hidden), nn.Tanh(), nn.Linear(hidden, len(SIZES)))
        self.baseline = nn.Linear(width + LONGEST, 1)  # what the return is on average: for training alone

    def forward(self, state: Tensor, entropies: Tensor) -> Tensor:
        """Scores [B, L]."""
        return self.layers(self.features(state, entropies))

    def value(self, state: Tensor, entropies: Tensor) -> Tensor:
        return self.baseline(self.features(state, entropies))[:, 0]

    def features(self, state: Tensor, entropies: Tensor) -> Tensor:
        return torch.cat([self.norm(state), entropies], -1)


STAND_INS = dict.fromkeys(("tale-sizes-1", "tale-sizes-cheap-1"), lambda bundle: stirred(BlockPolicy(32)))
