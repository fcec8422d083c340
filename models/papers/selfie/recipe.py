"""photo-selfie-1: pick the patch that belongs in the hole (Selfie, arXiv 1906.02940). Each step asks on both grids."""
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.loops.mask.photos import by_borders
from models.papers.selfie.network import SIZES, SelfieNet, split
from training.export import figure
from training.kinds import PhotoArm
from training.trainer import Recipe, rng_of

HIDDEN = 0.25  # of the patches; from memory, the paper's figure has 3 of 9


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

    def holes(self, rng: np.random.Generator, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Visible and hidden patches of `count` photos."""
        patches = (64 // size) ** 2
        return split(torch.from_numpy(rng.random((count, patches))), round(HIDDEN * patches))

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        found = {"pixels": self.some(rng)[0]}
        for size in SIZES:
            found[f"visible {size}"], found[f"holes {size}"] = self.holes(rng, self.batch_size, size)
        return found

    def loss(self, model, batch, progress):
        each = {}
        for size in SIZES:
            asked = model(batch["pixels"], batch[f"visible {size}"], batch[f"holes {size}"], size).float()  # [B, M, M]
            truth = torch.arange(asked.shape[1], device=asked.device).expand(asked.shape[:2])
            each[f"patches of {size}"] = cross_entropy(asked.flatten(0, 1), truth.flatten())
        return sum(each.values()), {name: value.detach() for name, value in each.items()}

    def right(self, model, size: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Share of the holes [K] in which the network and the border colours put the right patch."""
        visible, holes = self.holes(np.random.default_rng(2024), count, size)
        parts = list(zip(*(one.split(256) for one in (self.val[:count], visible, holes))))
        picks = torch.cat([model(*part, size).argmax(2) for part in parts])
        rule = torch.cat([by_borders(*part, size).argmin(2) for part in parts])
        return tuple((one == torch.arange(holes.shape[1])).double().mean(1) for one in (picks, rule))

    def quick(self, model):
        return {f"right, patches of {size}": round(float(self.right(model, size, 512)[0].mean()), 4) for size in SIZES}

    @torch.no_grad()
    def evaluate(self, model):
        own, rule = {}, {}
        for size in SIZES:
            for found, one in zip((own, rule), self.right(model, size, len(self.val))):
                found[f"holes filled rightly, {64 // size} x {64 // size}"] = figure(
                    one.mean(), "share of holes", len(one), one.numpy())
        return {"metrics": own, "trivial_baseline": {f"{name}, by border colours": one for name, one in rule.items()}}
