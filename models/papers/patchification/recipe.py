"""The family of classifiers that differ in patch size alone (arXiv 2502.03738), at two picture sizes.

Every one begins with random weights of its own and sees the same crops of the same photos for as many steps. The two
`more` arms are the sceptic's: large patches, trained until they have cost as many multiply-adds as small ones.
"""
import json

import torch
from torch.nn.functional import avg_pool2d, cross_entropy

from models.papers.patchification import tokens
from models.papers.patchification.network import network
from training.export import SHIPPED, mean_figure
from training.photos import normalise
from training.trunks.photo_vit import LABELS, PhotoViT

LOOKS = 10  # points of a training curve


class Cut64by16(PhotoViT):
    name = "photo-cut-64by16-1"
    side, patch = 64, 16  # pixels
    steps, batch_size, pack = tokens.STEPS, tokens.BATCH, 6
    trained_on = ("8,242 photos of 20 classes (of photos64_train, without its first 4,000), random resized crops and "
                  "flips; smaller pictures are means over squares of the 64x64 ones")
    weak_at = "Two passes over the photos, one seed. One arm of a comparison."
    budget_fraction = "500 steps of 32 photos; the paper has 300 epochs of ImageNet"

    @property
    def architecture(self):
        return (f"ViTForImageClassification: pictures of {self.side} pixels in patches of {self.patch}, "
                f"{tokens.count(self.side, self.patch)} tokens and a class token, {tokens.LAYERS} layers of width "
                f"{tokens.WIDTH} with {tokens.HEADS} heads, 20 classes")

    def prepare(self, folder):
        super().prepare(folder)
        held, truth = normalise(self.train[: tokens.HELD]), self.labels[: tokens.HELD]
        some, self.labels = tokens.some_of(self.labels[tokens.HELD :])
        self.train = self.train[tokens.HELD :][some]
        some, self.truth = tokens.some_of(torch.cat([truth, self.truth]))
        self.val = torch.cat([held, self.val])[some]

    def build(self):
        return network(self.side, self.patch, tuple(LABELS[kind] for kind in tokens.CLASSES))

    def logits(self, model, pixels, batch):
        return model(avg_pool2d(pixels, 64 // self.side)).logits

    def after_step(self, model, step, progress):
        if step % (self.steps // LOOKS) == 0:
            super().after_step(model, step, progress)

    @torch.no_grad()
    def answers(self, model):
        """Logits [K, C] of the photos that are held out."""
        return torch.cat([self.logits(model, part, {}).float() for part in self.val.split(128)])

    def evaluate(self, model):
        found = self.answers(model)
        self.losses = cross_entropy(found, self.truth, reduction="none").numpy()
        hit, common = (100.0 * (one == self.truth).numpy()
                       for one in (found.argmax(1), self.labels.bincount().argmax()))
        prior = (self.labels.bincount() / len(self.labels)).log()
        floor = -prior[self.truth].numpy()
        return {"metrics": {"held-out loss": mean_figure(self.losses, "nats"),
                            "accuracy": mean_figure(hit, "% of photos")},
                "trivial_baseline": {"shares of the classes": mean_figure(floor, "nats"),
                                     "always the commonest class": mean_figure(common, "% of photos")}}

    def save(self, model, folder):
        super().save(model, folder)
        path = folder / "preprocessor_config.json"
        size = {"height": self.side, "width": self.side}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"size": size}, indent=2) + "\n")


class Cut64by32(Cut64by16):
    name, patch = "photo-cut-64by32-1", 32


class Cut64by8(Cut64by16):
    name, patch = "photo-cut-64by8-1", 8


class Cut64by4(Cut64by16):
    name, patch = "photo-cut-64by4-1", 4


class Cut16by8(Cut64by16):
    name, side, patch = "photo-cut-16by8-1", 16, 8


class Cut16by4(Cut64by16):
    name, side, patch = "photo-cut-16by4-1", 16, 4


class Cut16by2(Cut64by16):
    name, side, patch = "photo-cut-16by2-1", 16, 2


class Cut16by1(Cut64by16):
    name, side, patch = "photo-cut-16by1-1", 16, 1


class Cut64by16More(Cut64by16):
    """Its weights are not shipped: what they answered is kept beside photo-cut-64by16-1."""

    name, like = "photo-cut-64by16-more-1", 8  # like: the patch size whose multiply-adds it reaches
    steps = tokens.as_costly(16, 8)

    def beside(self, folder):
        kept = {"steps": self.steps, "seed": self.seed, "curve": self.curve,
                "losses": [round(float(one), 4) for one in self.losses]}
        path = SHIPPED / tokens.name(self.side, self.patch) / f"{self.name}.json"
        path.write_text(json.dumps(kept) + "\n")


class Cut64by8More(Cut64by16More):
    name, patch, like = "photo-cut-64by8-more-1", 8, 4
    steps = tokens.as_costly(8, 4)
