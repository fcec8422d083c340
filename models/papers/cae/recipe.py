"""photo-cae-1 and the arms beside it (arXiv 2202.03026): codes of hidden blocks, from guessed features alone, without
alignment, and from one decoder as in MAE. All go on from photo-mae-2 and name photo-vq-1's codes.
"""
import torch
from torch.nn import functional as F

from models.baselines.mae.method import masks
from models.papers.cae import guesses as net
from models.papers.cae.network import CaeForPreTraining, CodesMaeForPreTraining
from training.export import figure, mean_figure, read_shipped
from training.pretraining import PretrainingArm
from training.trainer import rng_of
from training.trunks.photo_mae import PhotoMAE


class PhotoCodesMAE(PretrainingArm, PhotoMAE):
    name, start, warm_lr, batch_size = "photo-cae-mae-1", "photo-mae-2", 0.5, 96
    new, left = ("decoder", "mask_token", "head"), ("decoder",)
    architecture = "CodesMaeForPreTraining: photo-mae-2's encoder, one decoder of 4 x 192 over visible and mask tokens"
    weak_at = "The control of photo-cae-1: the decoder may take from visible tokens what it wants."
    budget_fraction = "about 0.3 % of the plan's 40,000 steps of 256 photos, behind photo-mae-2"
    network = CodesMaeForPreTraining
    align = 0.0

    def prepare(self, folder):
        super().prepare(folder)
        self.codebook = read_shipped("photo-vq-1").requires_grad_(False)
        self.exam = masks("block", (8, 8), 32, len(self.val), torch.Generator().manual_seed(2024))

    def build(self):
        config = self.config()
        config.mask_ratio = 0.5
        return self.network(config)

    def rate(self, name):
        return 1.0 if name.startswith("vit.") else 3.0  # the rest begins untrained

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        pixels = self.some(rng)[0]
        dice = torch.Generator().manual_seed(int(rng.integers(2**40)))
        visible, hidden = masks("block", (8, 8), 32, len(pixels), dice)
        return {"pixels": pixels, "visible": visible, "hidden": hidden,
                "codes": self.codebook.encode_normalised(pixels).flatten(1).gather(1, hidden)}

    def loss(self, model, batch, progress):
        made = model(batch["pixels"], batch["visible"], batch["hidden"])
        named = F.cross_entropy(made.logits.float().flatten(0, 1), batch["codes"].flatten())
        if made.latents is None or not self.align:
            return named, {"named": named.detach()}
        off = F.mse_loss(made.latents.float(), model.target(batch["pixels"], batch["hidden"]).float())
        return named + self.align * off, {"named": named.detach(), "off": off.detach()}

    def found(self, model, count):
        visible, hidden = (part[:count] for part in self.exam)
        return net.examined(model, self.codebook, self.val[:count], visible, hidden)

    def quick(self, model):
        return {name: round(float(one.mean()), 3) for name, one in self.found(model, 200).items()}

    def evaluate(self, model):
        found = {name: mean_figure(one.numpy(), net.UNITS.get(name, "cosine")) for name, one in
                 self.found(model, 2000).items()}
        chance = figure(100 / net.CODES, net.UNITS[net.RIGHT], 2000)
        return {"metrics": found, "trivial_baseline": {"codes by chance": chance}}


class PhotoCAEAlone(PhotoCodesMAE):
    name, control = "photo-cae-alone-1", "photo-cae-mae-1"
    new = (*PhotoCodesMAE.new, "regressor", "centre")
    architecture = "CaeForPreTraining: photo-mae-2's encoder, a regressor of 2 x 192, a decoder of 2 x 192"
    weak_at = "The arm without alignment: nothing asks that guesses be the encoder's features."
    network = CaeForPreTraining

    @torch.no_grad()
    def final(self, model):
        model = super().final(model).eval()
        model.centre.copy_(net.said_of(model, self.val[:200], self.exam[1][:200]).mean((0, 1)))
        return model


class PhotoCAE(PhotoCAEAlone):
    name, control = "photo-cae-1", "photo-cae-mae-1"
    weak_at = "64 x 64 photos with 32 patches hidden in blocks: other shares were not trained."
    align = 2.0
