"""Patch Mixing's arms (arXiv 2306.17848): a convnet and a vision transformer, each trained on with it and without.

Both families first learn plainly: photo-conv-1 from photo-spark-1's encoder, photo-vit-1 as it is shipped. Then every
arm goes on for the same steps on the same photos, with the same draws; the partner of a photo is its neighbour in the
batch. photo-sparsifiner-dense-1 is no arm here: it was told photo-vit-1's own answers, too. CutMix is kept as numbers.
"""
import json

import torch

from models.checkpoints.registry import SHIPPED
from models.papers.patch_mixing import exam, mixing
from models.papers.patch_mixing.network import ConvClassifier
from training.export import mean_figure, read_shipped
from training.photos import preprocessor
from training.pretraining import PretrainingArm
from training.trainer import Recipe, rng_of
from training.trunks.photo_vit import LABELS, PhotoViT

LOOKED, DRAWS = 500, 1_000_003  # photos of a curve; added to the seed, so that masks are drawn apart from photos
PASTED = "random patches of another photo in every second one, labels mixed by area"


class PhotoConv(PhotoViT):
    name = "photo-conv-1"
    steps, pack, warmup = 1400, 6, 0.02
    architecture = "ConvClassifier: residual encoder 48/96/192 at strides 2, 4, 8, mean, one linear layer, 50 classes"
    trained_on = f"{PhotoViT.trained_on.partition(';')[0]}; the encoder starts from photo-spark-1's"
    budget_fraction = "less than four passes over the photos; the paper trains for 300"

    def build(self):
        model = ConvClassifier()
        model.encoder.load_state_dict(read_shipped("photo-spark-1").encoder.state_dict())
        return model

    def logits(self, model, pixels, batch):
        return model(pixels)

    def loss(self, model, batch, progress):
        pixels, labels = batch["pixels"], batch["labels"]
        mask = batch.get("mask", torch.zeros_like(pixels[:, 0], dtype=torch.bool))
        seen = mixing.pasted(pixels, pixels.roll(1, 0), mask)
        asked = mixing.mixed_labels(labels, labels.roll(1, 0), mask, len(LABELS))
        return mixing.soft_cross_entropy(self.logits(model, seen, batch), asked), {}

    def save(self, model, folder):
        Recipe.save(self, model, folder)
        self.save_curve(folder)
        preprocessor(folder)


class ConvPlain(PretrainingArm, PhotoConv):
    """What all arms share; without a mask it is the control."""

    name, start = "photo-conv-plain-1", PhotoConv.name
    steps, warm_lr, looks, pack = 300, 0.5, 8, 0
    trained_on = f"{PhotoConv.trained_on}, on from {PhotoConv.name}"
    weak_at = "One seed, a few hundred steps: wrong more often than right."
    budget_fraction = "less than five passes over the photos, photo-conv-1's included; the paper trains for 300"
    mask = None  # (shares, rng) -> what is pasted, bool [B, S, S]

    def batch(self, step, progress):
        made, rng = super().batch(step, progress), rng_of(self.seed + DRAWS, step)
        if self.mask is None:
            return made
        return made | {"mask": self.mask(mixing.shares(len(made["labels"]), rng), rng)}

    @torch.no_grad()
    def after_step(self, model, step, progress):
        if progress >= len(self.curve) / self.looks:
            PhotoViT.after_step(self, model, step, progress)

    def evaluate(self, model):
        found, truth = super().evaluate(model), self.truth.numpy()
        right = exam.right(model, self.val, truth, "foreign") / 100
        self.curves = exam.curves(model, self.val[:LOOKED], truth[:LOOKED])
        found["metrics"]["accuracy, 30 % foreign patches"] = mean_figure(right, "share")
        return found

    def beside(self, folder):
        (folder / "attacks.json").write_text(json.dumps(self.curves) + "\n")


class ConvMixing(ConvPlain):
    name, control = "photo-conv-mixing-1", ConvPlain.name
    trained_on = f"{ConvPlain.trained_on}; {PASTED}"
    mask = staticmethod(mixing.scattered)


class ConvCutMix(ConvPlain):
    name, control = "photo-conv-cutmix-1", ConvPlain.name
    trained_on = f"{ConvPlain.trained_on}; a rectangle of another photo in every second one"
    mask = staticmethod(mixing.rectangle)

    def beside(self, folder):
        """Its weights are not shipped: the curves lie beside photo-conv-mixing-1."""
        (SHIPPED / ConvMixing.name).mkdir(exist_ok=True)
        (SHIPPED / ConvMixing.name / f"{self.name}.json").write_text(json.dumps(self.curves) + "\n")


class VitPlain(ConvPlain):
    name, start = "photo-vit-plain-1", "photo-vit-1"
    architecture = PhotoViT.architecture
    budget_fraction = "about three passes over the photos, photo-vit-1's included; the paper trains for 300"
    trained_on = f"{PhotoViT.trained_on}, on from photo-vit-1"
    build, logits, save = PhotoViT.build, PhotoViT.logits, PhotoViT.save


class VitMixing(VitPlain):
    name, control = "photo-vit-mixing-1", VitPlain.name
    trained_on = f"{VitPlain.trained_on}; {PASTED}"
    mask = staticmethod(mixing.scattered)
