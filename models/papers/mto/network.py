"""MTO's network (arXiv 2404.08330): SimMIM's, whose seen tokens weigh mask tokens anew in the first blocks."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTMAEConfig

from models.backbones.simmim import SimMIMForPreTraining
from models.backbones.stand_in import stirred
from models.backbones.vit_mae import set_positions
from models.papers.mto.losses import early

BEGINS = 0.98  # r before training


class MTOForPreTraining(SimMIMForPreTraining):
    """A learned weight r = sigmoid(rho) per head of the first K blocks (a quarter of the depth, rounded up)."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        self.early = early(config.num_hidden_layers)
        shape = self.early, config.num_attention_heads, 1, 1  # no matrix: Muon does not take it
        self.rho = nn.Parameter(torch.full(shape, math.log(BEGINS / (1 - BEGINS))))

    def bias(self, block: int, mask: Tensor) -> Tensor | None:
        """log r on the logits of seen queries (and [CLS]) towards mask tokens; queries of mask tokens stay as they are.
        """
        if block >= self.early:
            return None
        hidden = F.pad(mask, (1, 0))  # [B, N]
        pairs = ~hidden[:, None, :, None] & hidden[:, None, None]  # [B, 1, N, N]
        return pairs * F.logsigmoid(self.rho[block])  # [B, H, N, N]


def small(cls, bundle):
    """A stand-in of the shipped layout."""
    return set_positions(stirred(cls(bundle("photo-mae-1").model.config)))


STAND_INS = {"photo-mim-1": lambda bundle: small(SimMIMForPreTraining, bundle),
             "photo-mto-1": lambda bundle: small(MTOForPreTraining, bundle)}
