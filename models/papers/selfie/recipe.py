"""photo-selfie-1: pick the patch that belongs in the hole (Selfie, arXiv 1906.02940). Each step asks on both grids."""
import torch
from torch.nn.functional import cross_entropy

from models.papers.selfie.claim import BORDERS, NETWORK, filled
from models.papers.selfie.network import SIZES, SelfieNet, split
from training.export import figure
from training.kinds import PhotoArm
from training.trainer import Recipe, rng_of

LOOKED = 2024  # seed of the holes that are looked at in training; the claim's are others


class PhotoSelfie(PhotoArm):
    name = "photo-selfie-1"
    minutes, batch_size = 5.0, 32
    lr, lr_adam, weight_decay, decay = 0.02, 2e-3, 0.02, 0.6
    compile = False  # a few minutes of training
    pack = 6
    architecture = ("SelfieNet, 64x64, patches of 8 and 16 pixels: residual MLP of width 192 on each patch, 3 layers "
                    "of attention pooling with 3 heads; the hole's position is added to the pooled vector")
    weak_at = "One seed, some minutes of one core: it knows where in a photo a patch is likely, not what it shows."
    budget_fraction = "minutes of one core; the spec asks for 30,000 steps of 256 photos"
    save = Recipe.save  # our own layout

    def build(self):
        return SelfieNet()

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        found = {"pixels": self.some(rng)[0]}
        for size in SIZES:
            noise = torch.from_numpy(rng.random((self.batch_size, (64 // size) ** 2)))
            found[f"visible {size}"], found[f"holes {size}"] = split(noise)
        return found

    def loss(self, model, batch, progress):
        each = {}
        for size in SIZES:
            asked = model(batch["pixels"], batch[f"visible {size}"], batch[f"holes {size}"], size).float()  # [B, M, M]
            truth = torch.arange(asked.shape[1], device=asked.device).expand(asked.shape[:2])
            each[f"patches of {size}"] = cross_entropy(asked.flatten(0, 1), truth.flatten())
        return sum(each.values()), {name: value.detach() for name, value in each.items()}

    def quick(self, model):
        return {f"% right, patches of {size}": filled(model, self.val[:512], size, LOOKED)[NETWORK].mean()
                for size in SIZES}

    def evaluate(self, model):
        found = {name: {} for name in (NETWORK, BORDERS)}
        for size in SIZES:
            rates = filled(model, self.val, size, LOOKED)
            for name, figures in found.items():
                title = f"holes filled rightly, {64 // size} x {64 // size}" + ", by border colours" * (name == BORDERS)
                figures[title] = figure(rates[name].mean() / 100, "share of holes", len(rates[name]), rates[name] / 100)
        return {"metrics": found[NETWORK], "trivial_baseline": found[BORDERS]}
