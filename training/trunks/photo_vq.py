"""photo-vq-1: 512 tiles of 8 x 8 pixels, k-means of photos' patches; a photo in 64 codes (`--export-only`)."""
import numpy as np
import torch

from models.backbones.codebook import PatchCodebook
from models.backbones.pictures import patchify
from training.export import figure, mean_figure
from training.kinds import PhotoArm
from training.photos import MEAN, STD, crop
from training.trainer import Recipe, rng_of


class PhotoVQ(PhotoArm):
    """Moved by whole k-means steps, not by gradients, so a run has no steps."""

    name, pack = "photo-vq-1", 6
    codes, patches, rounds = 512, 120_000, 40
    architecture = "PatchCodebook: 512 entries of 8 x 8 pixels, nearest entry wins"
    weak_at = "A tile for every patch: pictures come back in squares, without fine texture."
    budget_fraction = "1 (120,000 patches, 40 rounds of k-means)"
    save = Recipe.save

    def build(self):
        """Lloyd's algorithm; a tile that no patch takes moves onto the patch that is painted worst."""
        made, rng = PatchCodebook(self.codes, 8).requires_grad_(False), rng_of(self.seed, 0)
        chosen = torch.from_numpy(rng.integers(len(self.train), size=self.patches // 64))
        found = patchify(crop(self.train[chosen], rng) / 255, 8).flatten(0, 2)  # [N, 192]
        made.entries.copy_(found[torch.from_numpy(rng.permutation(len(found))[: self.codes])])
        for _ in range(self.rounds):
            near = made.nearest(found)
            count = torch.bincount(near, minlength=self.codes)
            total = torch.zeros_like(made.entries).index_add_(0, near, found)
            worst = (found - made.entries[near]).pow(2).sum(1).topk(int((count == 0).sum())).indices
            made.entries.copy_(total / count.clamp(min=1)[:, None])
            made.entries[count == 0] = found[worst]
        return made.requires_grad_(True)

    @torch.no_grad()
    def evaluate(self, model):
        mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
        patches = patchify(self.val * std + mean, 8).flatten(1, 2)  # [K, 64, 192]
        codes = model.nearest(patches)
        error = (patches - model.entries[codes]).pow(2).mean((1, 2)).numpy()
        flat = (patches - patches.mean((0, 1))).pow(2).mean((1, 2)).numpy()
        share = np.bincount(codes.flatten(), minlength=self.codes) / codes.numel()
        entropy = -(share * np.log2(share, where=share > 0, out=np.zeros_like(share))).sum()
        unit = "mean squared error, pixels from 0 to 1"
        return {"metrics": {"error of a photo in tiles": mean_figure(error, unit),
                            "codes in use": figure(int((share > 0).sum()), f"codes of {self.codes}", len(error)),
                            "entropy of the codes": figure(float(entropy), "bits of 9", len(error))},
                "trivial_baseline": {"one tile for all": mean_figure(flat, unit)}}
