"""One network of the family (arXiv 2502.03738): transformers' ViT, of which only the cut of the picture differs."""
from __future__ import annotations

from functools import partial

import torch
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from models.backbones.stand_in import stirred
from models.papers.patchification import tokens


def network(side: int, patch: int, names: tuple[str, ...], width: int = tokens.WIDTH, layers: int = tokens.LAYERS,
            heads: int = tokens.HEADS) -> ViTForImageClassification:
    """Untrained. Positions begin as sines and are learned; the projection begins so that tokens are as large whatever
    the patch size. ValueError where patches do not fill the picture."""
    tokens.count(side, patch)
    model = ViTForImageClassification(ViTConfig(
        image_size=side, patch_size=patch, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}))
    inside, grid = model.vit.embeddings, side // patch
    torch.nn.init.normal_(inside.patch_embeddings.projection.weight, std=(3 * patch**2) ** -0.5)
    places = build_2d_sinusoidal_position_embedding(grid, grid, width, cls_token=True)
    inside.position_embeddings.data.copy_(places[None] / 2)
    return model


def tiny(side: int, patch: int, bundle):
    """For tests; `bundle` gives other checkpoints' stand-ins."""
    return stirred(network(side, patch, tuple("abcdefghijklmnopqrst"), 32, 2, 2))


STAND_INS = {tokens.name(side, patch): partial(tiny, side, patch)
             for side, sizes in tokens.FAMILY.items() for patch in sizes}
