"""A small MAE with a second decoder whose weights are large enough to tell patches apart."""

from functools import cache

import numpy as np
import torch

from models.engine.method import find, prepare
from models.loops.mask.photos import photo
from tests.tiny import mae_config


@cache
def network():
    from models.backbones.vit_mae import set_positions
    from models.papers.hpm.network import HpmForPreTraining
    torch.manual_seed(5)
    model = HpmForPreTraining(mae_config())
    set_positions(model)
    for weight in model.parameters():
        if weight.requires_grad and weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.2)
    return model.eval().requires_grad_(False)


def picture(seed: int = 0, size: int = 64) -> np.ndarray:
    """Smooth colours with one busy corner."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    smooth = np.stack([x, y, 1 - x], -1) * 200
    smooth[: size // 2, : size // 2] += rng.normal(0, 50, (size // 2, size // 2, 3))
    return np.clip(smooth, 0, 255).astype(np.uint8)


@cache
def view(seed: int = 0):
    return photo(picture(seed), network())


def job_of(id: str, **options):
    """A prepared job whose network is `network()`."""
    import dataclasses
    job = prepare(find(id), **options)
    return dataclasses.replace(job, bundle=dataclasses.replace(job.bundle, model=network()))
