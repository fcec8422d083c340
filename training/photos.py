"""What every recipe on photos shares: colours as the libraries' processors normalise them, random crops."""
import json
from pathlib import Path

import numpy as np
import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the library's processors use


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 or 0-255 float [B, 3, H, W] -> ImageNet-normalised float."""
    mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def preprocessor(folder: Path) -> None:
    """How transformers prepares a photo for these weights."""
    found = {"image_processor_type": "ViTImageProcessor", "do_resize": True,
             "size": {"height": 64, "width": 64}, "resample": 3, "do_rescale": True,
             "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(found, indent=2) + "\n")


def crop(pixels: torch.Tensor, rng: np.random.Generator, smallest: float = 0.4) -> torch.Tensor:
    """Random resized crop (area `smallest` to 1, aspect kept) and horizontal flip, bilinear: [B, 3, H, W] float."""
    b = len(pixels)
    size = np.sqrt(rng.uniform(smallest, 1, b))
    flip = np.where(rng.random(b) < 0.5, -1.0, 1.0)
    theta = np.zeros((b, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1] = size * flip, size
    theta[:, :, 2] = rng.uniform(-1, 1, (b, 2)) * (1 - size)[:, None]
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta), pixels.shape, align_corners=False)
    return torch.nn.functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
