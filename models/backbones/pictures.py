"""Pictures as networks take them: cut to a square, normalised.

Letters: B pictures, S picture side in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])  # ImageNet's


def from_uint8(pictures: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in 0..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def to_uint8(images: Tensor) -> np.ndarray:
    """[B, 3, H, W] in 0..1 -> uint8 [B, H, W, 3]."""
    return (images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()


def patchify(images: Tensor, size: int) -> Tensor:
    """[B, 3, H, W] -> patches [B, h, w, 3 * size * size], row by row, colours last as in ViTMAE."""
    high, wide = images.shape[2] // size, images.shape[3] // size
    cells = images.reshape(len(images), 3, high, size, wide, size)
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3)


def unpatchify(patches: Tensor, size: int) -> Tensor:
    """Patches [B, h, w, 3 * size * size] -> [B, 3, H, W]."""
    cells = patches.unflatten(3, (size, size, 3))  # [B, h, w, y, x, 3]
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def square(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a picture as uint8 [size, size, 3] (Lanczos)."""
    from PIL import Image
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = Image.fromarray(image[top:top + side, left:left + side])
    return np.asarray(cut if side == size else cut.resize((size, size), Image.Resampling.LANCZOS))


def normalise(shown: np.ndarray, model=None) -> Tensor:
    """uint8 [B, S, S, 3] -> float [B, 3, S, S] with ImageNet's mean and deviation, or those that the model names."""
    own = getattr(model, "pixels", None) or {"mean": MEAN, "std": STD}
    scaled = (shown.astype(np.float32) / 255 - np.float32(own["mean"])) / np.float32(own["std"])
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()


def cut(image: np.ndarray, model, size: int = 0) -> tuple[np.ndarray, Tensor]:
    """The picture as the network sees it: shown uint8 [S, S, 3] and pixels [1, 3, S, S]. size: S, its own by default.
    """
    shown, like = square(image, size or model.config.image_size), next(model.parameters())
    return shown, normalise(shown[None], model).to(like.device, like.dtype)
