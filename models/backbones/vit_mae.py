"""What transformers' ViTMAE lacks when it is built from a config, and what it does not show."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
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


@torch.no_grad()
def decoder_states(model: ViTMAEForPreTraining, latents: Tensor, ids_restore: Tensor) -> list[Tensor]:
    """Tokens [B, 1 + L, D] at the input of an MAE's decoder and after each of its blocks: the first place where there
    are mask tokens. latents [B, 1 + visible, D], ids_restore [B, L], as photos.encode makes them."""
    decoder, order = model.decoder, F.pad(ids_restore + 1, (1, 0))  # [CLS] stays first
    x = decoder.decoder_embed(latents)
    x = torch.cat([x, decoder.mask_token.expand(len(x), order.shape[1] - x.shape[1], -1)], 1)
    states = [x.gather(1, order[..., None].expand_as(x)) + decoder.decoder_pos_embed]
    for layer in decoder.decoder_layers:
        states.append(layer(states[-1]))
    return states
