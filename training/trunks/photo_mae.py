"""photo-mae-1: masked autoencoder of 64x64 photos (ViTMAE, arXiv 2111.06377), raw pixel targets."""
import numpy as np
import torch

from training.export import figure
from training.kinds import PhotoArm
from training.trainer import rng_of


class PhotoMAE(PhotoArm):
    name = "photo-mae-1"
    minutes = 15.0
    lr, lr_adam, weight_decay, decay, ema = 0.02, 2e-3, 0.02, 0.6, 0.999
    architecture = "ViTMAEForPreTraining, 64x64, patch 8, encoder 6 x 192, decoder 2 x 128, raw pixel targets"
    weak_at = "Rebuilds colour and coarse shape; fine texture comes back blurred, as squared error asks."
    budget_fraction = "1.7 % of hpm's (30,000 steps of 256 pictures)"

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
        return {"pixels": self.some(rng)[0], "noise": torch.from_numpy(rng.random((self.batch_size, 64)))}

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
