"""Eight photos of noise, and recipes that train on them."""

import numpy as np
import torch

from tests.tiny import mae_config
from training.trunks import photo_vit
from training.trunks.photo_mae import PhotoMAE


def photos(count: int = 3) -> torch.Tensor:
    """Normalised pixels [K, 3, 64, 64]."""
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def filled(arm, monkeypatch):
    """A recipe of this kind with eight photos, four a step; nothing is compiled. A masked autoencoder's is small."""
    monkeypatch.setattr(photo_vit, "LOOK", 4)
    recipe, rng = arm(0), np.random.default_rng(0)
    recipe.batch_size, recipe.compile, recipe.curve = 4, False, []
    recipe.train = torch.from_numpy(rng.integers(0, 255, (8, 3, 64, 64), dtype=np.uint8))
    recipe.labels = recipe.truth = torch.arange(8) % 5
    recipe.val = photo_vit.normalise(recipe.train)
    if getattr(arm, "config", None) is PhotoMAE.config:
        recipe.config = mae_config
    return recipe
