"""MixedAE's network (arXiv 2303.17152): an MAE and what homologous recognition needs. It runs in mixtures.py."""
from __future__ import annotations

import torch
from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from models.backbones.stand_in import stirred
from models.backbones.vit_mae import set_positions
from models.papers.mixedae.mixtures import SOURCES


def projection(config: ViTMAEConfig) -> nn.Module:
    """What the contrastive loss looks at the final tokens through."""
    return nn.Sequential(nn.Linear(config.hidden_size, config.hidden_size), nn.GELU(),
                         nn.Linear(config.hidden_size, config.decoder_hidden_size))


class MixedAEForPreTraining(ViTMAEForPreTraining):
    """ViTMAE, a vector for every source of a mixed picture, and the projection of the contrastive loss."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        self.segment_embeddings = nn.Parameter(torch.empty(SOURCES, config.hidden_size))
        self.projection = projection(config)
        nn.init.normal_(self.segment_embeddings, std=config.initializer_range)
        self.post_init()


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {
    "photo-mixed-1": lambda bundle: set_positions(stirred(MixedAEForPreTraining(bundle("photo-mae-1").model.config))),
    "photo-mixed-naive-1": lambda bundle: bundle("photo-mae-1").model}
