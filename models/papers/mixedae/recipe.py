"""photo-mixed-1 and its control photo-mixed-naive-1: pictures that are mixed out of four photos, with homologous
recognition and without (arXiv 2303.17152). Both go on from photo-mae-2 on the batches of photo-mae-2-more.
"""
import torch

from models.backbones.vit_mae import set_positions
from models.papers.mixedae import mixtures as net
from models.papers.mixedae.network import MixedAEForPreTraining
from training.export import figure, mean_figure
from training.pretraining import PretrainingArm
from training.trainer import rng_of
from training.trunks.photo_mae import PhotoMAE

LAMBDA = 0.1  # weight of the contrast


class PhotoMixedNaive(PretrainingArm, PhotoMAE):
    name, start, control, warm_lr = "photo-mixed-naive-1", "photo-mae-2", "photo-mae-2-more", 0.5
    architecture = "ViTMAEForPreTraining as photo-mae-2, trained on pictures that are mixed out of four photos"
    weak_at = "The control of photo-mixed-1: mixing alone, siblings are not asked for."
    budget_fraction = "about 1 % of the plan's 30,000 steps of 256 photos, behind photo-mae-2"

    def batch(self, step, progress):
        made, groups = super().batch(step, progress), self.batch_size // net.SOURCES
        dice = torch.Generator().manual_seed(int(rng_of(self.seed, step).integers(2**40)))
        return made | {"m": net.mixing(groups, 64, dice), "told": torch.rand(groups, generator=dice) < 0.5}

    def place(self, device):
        if device.type == "cpu":  # the fused kernel's backward pass with a mask takes as long as all the rest
            torch.backends.cuda.enable_flash_sdp(False)

    def loss(self, model, batch, progress):
        target = model.patchify(batch["pixels"])
        return net.through(model, target, batch["m"]).error(target).mean(), {}

    def quick(self, model):
        error, kept, *_ = net.exam(model, self.val[:200])
        return {"mixed mse": round(float(error.mean()), 4), "siblings": [round(float(x), 1) for x in kept.mean(0)]}

    def evaluate(self, model):
        error, kept, *_ = net.exam(model, self.val[:2000])
        unit = "% are siblings, no segment vectors"
        return {"metrics": {**{name: mean_figure(one.numpy(), unit) for name, one in net.read(model, kept).items()},
                            "error of a mixture's photos": mean_figure(error.numpy(), "MSE of missing patches")},
                "trivial_baseline": {"by chance": figure(100 * 15 / 63, unit, len(kept))}}


class PhotoMixed(PhotoMixedNaive):
    name, control = "photo-mixed-1", PhotoMixedNaive.name
    architecture = "MixedAEForPreTraining: photo-mae-2, a vector per source of a mixed picture, a projection"
    weak_at = "64 x 64 photos, four to a picture: other sizes and ratios were not trained."
    new = "segment_embeddings", "projection"

    def build(self):
        return set_positions(MixedAEForPreTraining(self.config()))

    def rate(self, name):
        return 4.0 if name.startswith(self.new) else 1.0  # these begin untrained

    def loss(self, model, batch, progress):
        """Every second mixture, about, has no segment vectors, so that siblings have to be found."""
        target, m = model.patchify(batch["pixels"]), batch["m"]
        made = net.through(model, target, m, model.segment_embeddings[m] * batch["told"][:, None, None])
        rebuilt, alike = made.error(target).mean(), net.contrast(made.ends[-1], m)
        return rebuilt + LAMBDA * alike, {"rebuilt": rebuilt.detach(), "alike": alike.detach()}
