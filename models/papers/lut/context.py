"""LUT's loss (arXiv 2310.13593): the visible tokens of an MAE must say what the whole picture is about.

    perm = one random order of the patches; view u shows perm[0:k], view v perm[k:2k]   # disjoint
    q = P(H(mean of a view's visible patch tokens)),  y = H~(mean of all patch tokens of the complete view)
    L = L_mae(u) + 0.25 * mean of 2 - 2 cos(q_u, y_v) and 2 - 2 cos(q_v, y_u)

f~ and H~ are a moving average of the student and see both views complete; only view u is decoded.

Letters: B photos, L patches, k visible ones, D width.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.loops.mask.photos import encode_whole, hidden_mean, patch_error

HIDDEN = 512  # units of projector and predictor; the authors have 4,096 behind 384 to 1,024
WEIGHT = 0.25  # of the broader context


def two_orders(noise: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Places [B, L] of every patch in view u's order and in view v's, of which the lowest k stay visible: one random
    order for both, v's begins where u's visible patches end."""
    place = noise.argsort(1).argsort(1)
    return place, (place - k) % noise.shape[1]


def context_of(latents: Tensor) -> Tensor:
    """Mean patch token [B, D]; the class token, which stands first, is left out."""
    return latents[:, 1:].mean(1)


def guesses(model: nn.Module) -> bool:
    """Whether it was trained to say what a whole view is about; of others the mean tokens stand as they are."""
    return hasattr(model, "projector")


def guess(model: nn.Module, latents: Tensor) -> Tensor:
    """q [B, D]: what the visible patches of a view say of the whole."""
    return model.predictor(model.projector(context_of(latents))) if guesses(model) else context_of(latents)


@torch.no_grad()
def told(teacher: nn.Module, pixels: Tensor) -> Tensor:
    """y [B, D] of complete views."""
    mean = context_of(encode_whole(teacher, pixels))
    return teacher.projector(mean) if guesses(teacher) else mean


def away(q: Tensor, y: Tensor) -> Tensor:
    """2 - 2 cos, mean over photos."""
    return (2 - 2 * F.cosine_similarity(q.float(), y.float(), dim=-1)).mean()


def losses(model: nn.Module, teacher: nn.Module, u: Tensor, v: Tensor, noise: Tensor
           ) -> tuple[Tensor, Tensor]:
    """L_mae and L_bc of views [B, 3, S, S] of the same photos."""
    count = len(u)
    orders = two_orders(noise, int(noise.shape[1] * (1 - model.config.mask_ratio)))
    seen = model.vit(torch.cat([u, v]), noise=torch.cat(orders))
    z_u, z_v = seen.last_hidden_state.split(count)  # [B, 1 + k, D] each
    rebuilt = patch_error(model.decoder(z_u, seen.ids_restore[:count]).logits, model.patchify(u))  # [B, L]
    q_u, q_v = (guess(model, z) for z in (z_u, z_v))  # a batch norm for each view
    y_u = told(teacher, u)
    y_v = y_u if v is u else told(teacher, v)
    return hidden_mean(rebuilt, seen.mask[:count]).mean(), (away(q_u, y_v) + away(q_v, y_u)) / 2
