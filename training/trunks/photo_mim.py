"""photo-mim-1: SimMIM from photo-mae-2's encoder, mask tokens inside (arXiv 2111.09886). What it learns while it is
trained is kept photo by photo, so that arms that differ in one thing are compared on the same ones.
"""
import numpy as np
import torch

from models.backbones.simmim import SimMIMForPreTraining, heterogeneity, hiding
from models.backbones.vit_mae import set_positions
from models.claims.encoder_lab import mae_encoder, pooled
from models.claims.probe import in_batches, ridge
from models.loops.mask.photos import masked_count
from training.photos import normalise
from training.pretraining import PretrainingArm
from training.trunks.photo_mae import PhotoMAE

LEARN, CHECK = 1500, 1500  # photos of the probe at every look, fewer than in the exam


class PhotoMIM(PretrainingArm, PhotoMAE):
    name, start, warm_lr, ema, compile = "photo-mim-1", "photo-mae-2", 0.5, 0.0, False
    batch_size, steps, new, left = 64, 500, ("mask_token", "pixel_head"), ("decoder",)
    hidden = masked_count(64, 0.6)
    architecture = "SimMIM: photo-mae-2's encoder with mask tokens inside, one linear layer, L1 on hidden pixels"
    weak_at = "One linear layer paints patches from what 500 steps have taught."
    budget_fraction = "under 1 % of the plan's 20,000 steps of 256 photos, behind photo-mae-2"
    network = SimMIMForPreTraining

    def config(self):
        config = super().config()
        config.mask_ratio, config._attn_implementation = 0.6, "eager"  # its weights are needed, with gradients
        return config

    def build(self):
        return set_positions(self.network(self.config()))

    def rate(self, name):
        return 2.0 if name.startswith(self.new) else 1.0  # these begin untrained

    def loss(self, model, batch, progress):
        mask = hiding(batch["noise"], self.hidden)
        return model(batch["pixels"], mask).error(model.patchify(batch["pixels"]), mask).mean(), {}

    def answer(self, model, pixels, mask):
        return model(pixels, mask.bool()).patches

    def quick(self, model):
        mask = self.masks(256).bool()
        made = model(self.val[:256], mask)
        h = [float(heterogeneity(x[:16], mask[:16]).mean()) for x in made.states]
        norm = float(model.mask_token.norm() / made.z.norm(dim=-1).mean())
        return {"masked l1": round(float(made.error(model.patchify(self.val[:256]), mask).mean()), 4),
                "norm": round(norm, 3), "h": [round(x, 4) for x in h]}

    def point(self, model):
        """The exam's linear probe on fewer photos, with every photo's hit as a bit: curves are compared by photo."""
        learn, labels = self.train[:LEARN], self.labels[:LEARN].numpy()
        read = lambda pixels: mae_encoder(model).tokens(pixels).float()  # noqa: E731
        hits = ridge(pooled(in_batches(read, normalise(learn))), labels,
                     pooled(in_batches(read, self.val[:CHECK])), self.truth[:CHECK].numpy())
        return {**super().point(model), "probe": round(100 * float(hits.mean()), 3),
                "hits": np.packbits(hits > 0).tobytes().hex()}

    @torch.no_grad()
    def final(self, model):
        """The end is a point of the curve, too."""
        with torch.autocast(model.mask_token.device.type, torch.bfloat16, self.autocast):
            self.curve.append({"step": self.steps, **self.point(model.eval())})
        return super().final(model)
