"""photo-mae-1: masked autoencoder of 64x64 photos (ViTMAE, arXiv 2111.06377), raw pixel targets."""
import json

import numpy as np
import torch

from training import data
from training.export import figure
from training.trainer import Recipe, rng_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the library's processors use


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 or 0-255 float [B, 3, H, W] -> ImageNet-normalised float."""
    mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


class PhotoMAE(Recipe):
    name = "photo-mae-1"
    minutes, batch_size = 15.0, 128
    lr, lr_adam, weight_decay, decay, ema = 0.02, 2e-3, 0.02, 0.6, 0.999
    architecture = "ViTMAEForPreTraining, 64x64, patch 8, encoder 6 x 192, decoder 2 x 128, raw pixel targets"
    trained_on = "24,584 photos of 50 classes, 64x64 (photos64_train), random resized crops and flips"
    data_licence = "not stated; pictures from ImageNet, whose own terms are non-commercial research"
    weights_licence = "Apache-2.0 for the weights; the pictures they were trained on are for non-commercial research"
    weak_at = "Rebuilds colour and coarse shape; fine texture comes back blurred, as squared error asks."
    budget_fraction = "1.7 % of hpm's (30,000 steps of 256 pictures)"

    def prepare(self, folder):
        self.train = torch.from_numpy(data.photos("train")[0]).permute(0, 3, 1, 2).contiguous()
        self.val = normalise(torch.from_numpy(data.photos("val")[0]).permute(0, 3, 1, 2))

    def config(self):
        from transformers import ViTMAEConfig

        return ViTMAEConfig(
            image_size=64, patch_size=8, hidden_size=192, num_hidden_layers=6, num_attention_heads=4,
            intermediate_size=768, decoder_hidden_size=128, decoder_num_hidden_layers=2, decoder_num_attention_heads=4,
            decoder_intermediate_size=512, mask_ratio=0.75, norm_pix_loss=False)

    def build(self):
        from transformers import ViTMAEForPreTraining

        from models.backbones.vit_mae import set_positions

        model = ViTMAEForPreTraining(self.config())
        set_positions(model)
        return model

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        pixels = self.train[torch.from_numpy(rng.integers(len(self.train), size=self.batch_size))]
        return {"pixels": normalise(crop(pixels, rng)), "noise": torch.from_numpy(rng.random((self.batch_size, 64)))}

    def loss(self, model, batch, progress):
        return model(batch["pixels"], noise=batch["noise"]).loss, {}

    def quick(self, model):
        noise = fixed_noise(512)
        return {"masked mse": round(float(per_image(model, self.val[:512], noise).mean()), 4)}

    def evaluate(self, model):
        noise = fixed_noise(len(self.val))
        parts = zip(self.val.split(256), noise.split(256), strict=True)
        own = torch.cat([per_image(model, x, n) for x, n in parts]).numpy()
        flat, smooth = baselines(self.val, noise)
        n, unit = len(own), "mean squared error of masked patches, ImageNet-normalised pixels"
        paired = smooth - own
        gain = lambda other: figure(1 - own.mean() / other.mean(), "share below", n, 1 - own / other.mean())  # noqa: E731
        return {"metrics": {"masked-patch error": figure(own.mean(), unit, n, own),
                            "below the mean colour of visible patches": gain(flat),
                            "below bilinear inpainting": gain(smooth),
                            "paired gain over bilinear inpainting": figure(paired.mean(), unit, n, paired)},
                "trivial_baseline": {"mean colour of visible patches": figure(flat.mean(), unit, n, flat),
                                     "bilinear inpainting of visible patches": figure(smooth.mean(), unit, n, smooth)}}

    def save(self, model, folder):
        model.config.dtype = "float16"
        model.save_pretrained(folder)
        preprocessor(folder)


def preprocessor(folder) -> None:
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


def fixed_noise(n: int) -> torch.Tensor:
    """The evaluation masks [n, 64]: the same for every network and baseline."""
    return torch.from_numpy(np.random.default_rng(2024).random((n, 64)))


@torch.no_grad()
def per_image(model, pixels, noise) -> torch.Tensor:
    """Masked-patch error of each picture [B]."""
    out = model(pixels, noise=noise)
    error = (out.logits.float() - model.patchify(pixels)).pow(2).mean(-1)  # [B, L]
    return (error * out.mask).sum(1) / out.mask.sum(1)


def baselines(pixels: torch.Tensor, noise: torch.Tensor):
    """Errors [N] of the mean visible colour and of bilinear inpainting, over the masked patches.

    Inpainting: mean colours of the visible patches on the 8x8 grid, each hidden one the mean of its neighbours (the
    harmonic fill, solved exactly), then bilinear interpolation to 64x64.
    """
    hidden = noise.argsort(1).argsort(1) >= 16  # [N, 64] patches
    means = torch.nn.functional.avg_pool2d(pixels, 8).flatten(2).transpose(1, 2).double()  # [N, 64, 3]
    flat = (means * ~hidden[..., None]).sum(1, keepdim=True).float() / 16  # [N, 1, 3]
    filled = harmonic(means, hidden).float().transpose(1, 2).reshape(-1, 3, 8, 8)
    smooth = torch.nn.functional.interpolate(filled, size=(64, 64), mode="bilinear", align_corners=False)
    target = patchify(pixels)
    return tuple(((fill - target).pow(2).mean(-1) * hidden).sum(1).div(48).numpy()
                 for fill in (flat.repeat(1, 1, 64), patchify(smooth)))


def harmonic(means: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Patch colours [N, 64, 3] with each hidden one replaced by the mean of its 4 neighbours, all at once."""
    y, x = torch.arange(64) // 8, torch.arange(64) % 8
    near = ((y[:, None] - y).abs() + (x[:, None] - x).abs() == 1).double()
    near = near / near.sum(1, keepdim=True)
    eye = torch.eye(64, dtype=torch.float64)
    system = torch.where(hidden[..., None], eye - near, eye)  # [N, 64, 64]
    return torch.linalg.solve(system, torch.where(hidden[..., None], 0.0, means))


def patchify(pixels: torch.Tensor, size: int = 8) -> torch.Tensor:
    """[B, 3, H, W] -> [B, L, size * size * 3], colours last as in ViTMAE."""
    b, _, h, w = pixels.shape
    x = pixels.reshape(b, 3, h // size, size, w // size, size)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, 3 * size * size)
