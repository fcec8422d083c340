"""What transformers' ViTMAE lacks when it is built from a config."""

from __future__ import annotations

import torch
from transformers import ViTMAEForPreTraining
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding


def set_positions(model: ViTMAEForPreTraining) -> ViTMAEForPreTraining:
    """Writes the fixed sine-cosine positions of encoder and decoders, as far as it has these, in place, and returns the
    model.

    A ViTMAE built from a config in transformers 5.23 ends up with all of them zero (they are parameters, so a saved
    checkpoint has them right); without this a network trained from scratch cannot tell patches apart.
    """
    decoders = [getattr(model, name) for name in ("decoder", "loss_predictor") if hasattr(model, name)]  # HPM has two
    tables = [model.vit.embeddings.position_embeddings, *(one.decoder_pos_embed for one in decoders)]
    for table in tables:
        side = int((table.shape[1] - 1) ** 0.5)
        fixed = build_2d_sinusoidal_position_embedding(side, side, table.shape[2], cls_token=True)
        half = table.shape[2] // 2  # the published weights have columns before rows
        table.data.copy_(torch.cat([fixed[:, half:], fixed[:, :half]], 1)[None])
        table.requires_grad_(False)
    return model
