"""MaskAlign's network (arXiv 2211.08887): an encoder and its Dynamic Alignment. What it does stands in alignment.py."""
from __future__ import annotations

from transformers import ViTMAEConfig, ViTMAEForPreTraining

from models.backbones.stand_in import stirred
from models.papers.maskalign.alignment import LEVELS, DynamicAlignment


class MaskAlignForPreTraining(ViTMAEForPreTraining):
    """photo-mae's encoder, W and the heads; no decoder, no mask token. config.levels 0 leaves the encoder alone."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        del self.decoder
        levels = min(getattr(config, "levels", LEVELS), config.num_hidden_layers)
        self.heads = DynamicAlignment(config.num_hidden_layers, config.hidden_size, levels) if levels else None
        self.post_init()


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

def stand_in(config: ViTMAEConfig, levels: int) -> MaskAlignForPreTraining:
    return stirred(MaskAlignForPreTraining(type(config)(**config.to_dict() | {"levels": levels})))


STAND_INS = {"photo-align-1": lambda bundle: stand_in(bundle("photo-mae-1").model.config, LEVELS),
             "photo-align-rebuilt-1": lambda bundle: stand_in(bundle("photo-mae-1").model.config, 0)}
