"""photo-spark-1 and its control: a convnet that skips hidden cells (SparK, arXiv 2301.03580), and one that sees zeros.

Both arms share photos, masks, decoder and steps; only the encoder's way with holes differs. Raw pixel targets, as in
photo-mae-1, so that errors can be compared with fills; the reference normalises each patch.
"""
import torch

from training.export import figure, save_hub
from training.trainer import rng_of
from training.trunks.photo_mae import PhotoMAE, fixed_noise

RATIO = 0.6  # of the cells are hidden


class PhotoSpark(PhotoMAE):
    name = "photo-spark-1"
    minutes, batch_size = 11.0, 64  # the arms are compared at equal steps: --steps 650
    lr_adam, ema = 2e-3, 0.0
    compile = False  # gathering kept positions has no fixed shape
    architecture = ("SparkNet, 64x64, residual encoder 48/96/192 at strides 2, 4, 8 with sparse convolutions and "
                    "norms, U-Net decoder 96, raw pixel targets")
    weak_at = "Fewer than two passes over the photos, one seed: colour and coarse shape return, texture stays blurred."
    budget_fraction = "0.5 % of spark's plan (30,000 steps of 256 pictures)"
    sparse = True

    def build(self):
        from models.papers.spark.network import SparkNet

        return SparkNet(decoder_width=96, sparse=self.sparse).to(memory_format=torch.channels_last)

    def batch(self, step, progress):
        from models.papers.spark.network import kept_cells, kept_count

        rng = rng_of(self.seed, step)
        pixels = self.some(rng)[0].contiguous(memory_format=torch.channels_last)
        noise = torch.from_numpy(rng.random((self.batch_size, 64)))
        return {"pixels": pixels, "kept": kept_cells(noise, kept_count(64, RATIO))}

    def loss(self, model, batch, progress):
        return per_photo(model, batch["pixels"], batch["kept"]).mean(), {}

    def quick(self, model):
        return {"masked mse": round(float(per_photo(model, self.val[:512], fixed_masks(512)).mean()), 4)}

    def evaluate(self, model):
        from models.loops.mask.photos import inpaint, mean_fill
        from models.papers.spark.network import masked_error

        kept = fixed_masks(len(self.val))
        own, smooth, flat = [], [], []
        for pixels, seen in zip(self.val.split(128), kept.split(128), strict=True):
            target, hidden = model.patchify(pixels), (~seen).float()
            own.append(per_photo(model, pixels, seen))
            smooth.append(masked_error(inpaint(model, target, hidden), target, seen))
            flat.append(masked_error(mean_fill(target, hidden), target, seen))
        own, smooth, flat = (torch.cat(part).numpy() for part in (own, smooth, flat))
        n, paired = len(own), smooth - own
        unit = f"mean squared error of masked cells ({RATIO:.0%} hidden), ImageNet-normalised pixels"
        return {"metrics": {"masked-patch error": figure(own.mean(), unit, n, own),
                            "paired gain over bilinear inpainting": figure(paired.mean(), unit, n, paired)},
                "trivial_baseline": {"mean colour of visible patches": figure(flat.mean(), unit, n, flat),
                                     "bilinear inpainting of visible patches": figure(smooth.mean(), unit, n, smooth)}}

    def save(self, model, folder):
        save_hub(model, folder)


class PhotoSparkZero(PhotoSpark):
    name = "photo-spark-zero-1"
    architecture = ("SparkNet, 64x64, residual encoder 48/96/192 at strides 2, 4, 8, dense on the zero-filled photo, "
                    "U-Net decoder 96, raw pixel targets")
    sparse = False


def per_photo(model, pixels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Masked error of each photo [B]."""
    from models.papers.spark.network import masked_error

    return masked_error(model.patchify(model(pixels, kept)), model.patchify(pixels), kept)


def fixed_masks(n: int) -> torch.Tensor:
    """The evaluation masks bool [n, 64]: the same for both arms and the fills."""
    from models.papers.spark.network import kept_cells, kept_count

    return kept_cells(fixed_noise(n), kept_count(64, RATIO))
