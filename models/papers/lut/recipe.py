"""photo-lut-1, and photo-lut-same-1, the sceptic's control: its two views are one and the same (arXiv 2310.13593). Both
go on from photo-mae-2 on the batches of photo-mae-2-more.
"""
import math

import torch

from models.backbones.photo_views import second_view
from models.backbones.vit_mae import set_positions
from models.loops.mask.photos import encode
from models.papers.lut import context as net
from models.papers.lut.network import LutForPreTraining
from training.export import mean_figure
from training.kinds import Taught
from training.pretraining import PretrainingArm
from training.trainer import Recipe, rng_of
from training.trunks.photo_mae import PhotoMAE

MOMENTUM = 0.99  # of the teacher at first, 1 at the end; the authors' 0.996 is for 1,600 epochs


class PhotoLUT(PretrainingArm, Taught, PhotoMAE):
    name, start, control, warm_lr = "photo-lut-1", "photo-mae-2", "photo-mae-2-more", 0.5
    new = "projector", "predictor"
    architecture = "LutForPreTraining: photo-mae-2, a projector and a predictor of 512 hidden units each"
    weak_at = "64 x 64 photos, 350 steps of 128, batch norm over 128 photos of a view: the authors have 4,096 a step."
    budget_fraction = "about 1 % of the plan's 30,000 steps of 256 photos, behind photo-mae-2"
    ema, final, quick = PhotoMAE.ema, Recipe.final, PhotoMAE.quick  # shipped like its control, not the teacher

    def build(self):
        return self.with_teacher(set_positions(LutForPreTraining(self.config())))

    def stays(self, step, progress):
        return 1 - (1 - MOMENTUM) * (1 + math.cos(math.pi * progress)) / 2

    def rate(self, name):
        return 2.0 if name.startswith(self.new) else 1.0  # these begin untrained: the rates of a new network

    def batch(self, step, progress):
        made = super().batch(step, progress)
        dice = torch.Generator().manual_seed(int(rng_of(self.seed, step).integers(2**40)))
        return made | {"second": second_view(made["pixels"], dice)}

    def loss(self, model, batch, progress):
        u = batch["pixels"]
        rebuilt, context = net.losses(model, self.teacher, u, batch.get("second", u), batch["noise"])
        return rebuilt + net.WEIGHT * context, {"rebuilt": rebuilt.detach(), "context": context.detach()}

    def evaluate(self, model):
        """Beside the MAE's figures: how near the guess from a quarter of view u is to what the whole view v says."""
        u, dice = self.val[:1000], torch.Generator().manual_seed(3)
        q = net.guess(model, encode(model, u, self.masks(len(u)), self.hidden)[0])
        y = net.told(model, second_view(u, dice))
        own, other = (torch.cosine_similarity(q, one, dim=-1).numpy() for one in (y, y.roll(1, 0)))
        figures, unit = super().evaluate(model), "cosine of q_u and y_v, both read by the shipped weights"
        figures["metrics"]["agreement of two views"] = mean_figure(own, unit)
        figures["trivial_baseline"]["agreement with another photo"] = mean_figure(other, unit)
        return figures


class PhotoLutSame(PhotoLUT):
    name, ship = "photo-lut-same-1", "delta2:64"
    architecture = "ViTMAEForPreTraining as photo-mae-2; projector and predictor of its training are left out"
    weak_at = "The sceptic's control of photo-lut-1: both views are the photo that its MAE sees, in its own colours."

    def batch(self, step, progress):
        return PhotoMAE.batch(self, step, progress)

    def final(self, model):
        plain = PhotoMAE.build(self)
        plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
        return plain

    evaluate = PhotoMAE.evaluate
