"""LUT's network (arXiv 2310.13593): an MAE, a projector and a predictor; the losses are in context.py."""
from __future__ import annotations

from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from models.backbones.stand_in import stirred
from models.backbones.vit_mae import set_positions
from models.papers.lut.context import HIDDEN


def mlp(width: int) -> nn.Sequential:
    """Two layers without bias, nothing behind the last one."""
    return nn.Sequential(nn.Linear(width, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN), nn.ReLU(),
                         nn.Linear(HIDDEN, width, bias=False))


class LutForPreTraining(ViTMAEForPreTraining):
    """ViTMAE, the projector H and the predictor P."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        self.projector, self.predictor = mlp(config.hidden_size), mlp(config.hidden_size)
        self.post_init()


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {
    "photo-lut-1": lambda bundle: set_positions(stirred(LutForPreTraining(bundle("photo-mae-1").model.config))),
    "photo-lut-same-1": lambda bundle: bundle("photo-mae-1").model}
