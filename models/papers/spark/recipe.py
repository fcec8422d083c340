"""photo-spark-1 and its control: a convnet that skips hidden cells (SparK, arXiv 2301.03580), and one that sees zeros.

Both arms share photos, masks, decoder and steps; only the encoder's way with holes differs. Raw pixel targets, as in
photo-mae-1, so that errors can be compared with fills; the reference normalises each patch.
"""
import torch

from training.trainer import Recipe, rng_of
from training.trunks.photo_mae import PhotoMAE


class PhotoSpark(PhotoMAE):
    name = "photo-spark-1"
    minutes, batch_size = 11.0, 64  # the arms are compared at equal steps: --steps 650
    lr_adam, ema = 2e-3, 0.0
    compile = False  # gathering kept positions has no fixed shape
    architecture = ("SparkNet, 64x64, residual encoder 48/96/192 at strides 2, 4, 8 with sparse convolutions and "
                    "norms, U-Net decoder 96, raw pixel targets")
    weak_at = "Fewer than two passes over the photos, one seed: colour and coarse shape return, texture stays blurred."
    budget_fraction = "0.5 % of spark's plan (30,000 steps of 256 pictures)"
    sparse, hidden = True, 38  # hidden: 60 % of the 64 cells
    save = Recipe.save

    def build(self):
        from models.papers.spark.network import SparkNet

        return SparkNet(decoder_width=96, sparse=self.sparse).to(memory_format=torch.channels_last)

    def batch(self, step, progress):
        from models.papers.spark.network import kept_cells

        rng = rng_of(self.seed, step)
        pixels = self.some(rng)[0].contiguous(memory_format=torch.channels_last)
        noise = torch.from_numpy(rng.random((self.batch_size, 64)))
        return {"pixels": pixels, "kept": kept_cells(noise, 64 - self.hidden)}

    def loss(self, model, batch, progress):
        return self.error(model, batch["pixels"], (~batch["kept"]).float()).mean(), {}

    def answer(self, model, pixels, mask):
        return model.patchify(model(pixels, mask == 0))


class PhotoSparkZero(PhotoSpark):
    name = "photo-spark-zero-1"
    architecture = ("SparkNet, 64x64, residual encoder 48/96/192 at strides 2, 4, 8, dense on the zero-filled photo, "
                    "U-Net decoder 96, raw pixel targets")
    sparse = False
