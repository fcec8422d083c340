"""photo-jepa-1 and photo-dmt-1: I-JEPA, and DMT-JEPA, whose targets are made of likest neighbours (arXiv 2405.17995).

Both go on from photo-mae-2's encoder, without its class token, on the same photos, drawn scenes and masks. What is
shipped is the moving average of the whole network: its encoder and head make the targets, and its predictor is averaged
with them, so that one file can both predict and make targets.
"""
import torch

from models.backbones.pictures import normalise as scene_pixels
from models.engine.statistics import effective_rank
from models.loops.mask.multiblock import multiblock
from models.papers.dmt_jepa import neighbours as near
from models.papers.dmt_jepa import network as net
from models.worlds import scenes
from training.export import figure, mean_figure
from training.kinds import Taught
from training.pretraining import PretrainingArm
from training.trainer import rng_of
from training.trunks.photo_mae import PhotoMAE

SCENES = 0.25  # of every batch
STAYS = 0.96  # of the average at first, 1 at the end; with the spec's 0.99 a sixth of the start is left after 350 steps
LEAST_RANK = 0.1  # of the width: below it a run is stopped as collapsed


class PhotoJepa(PretrainingArm, Taught, PhotoMAE):
    name, start, warm_lr = "photo-jepa-1", "photo-mae-2", 0.5
    batch_size, aggregates, compile = 96, 0, False  # the size of a block changes from step to step
    new = ("predictor.",)
    left = ("decoder.",)
    architecture = "JepaForPreTraining: photo-mae-2's encoder without class token, a predictor of 3 x 96 (I-JEPA)"
    trained_on = PhotoMAE.trained_on + "; a quarter of every batch are drawn scenes"
    weak_at = "The control of photo-dmt-1: a target is the patch's own latent. It paints no pixels."
    budget_fraction = "about 0.3 % of the spec's 40,000 steps of 256 pictures, behind photo-mae-2"
    rank = 1.0  # the least that the last look found, as a share of the width

    def config(self):
        made = super().config()
        made.update({"decoder_hidden_size": 96, "decoder_num_hidden_layers": 3, "decoder_intermediate_size": 384,
                     "aggregates": self.aggregates})
        return made

    def build(self):
        return self.with_teacher(net.JepaForPreTraining(self.config()))

    def rate(self, name):
        return 2.0 if name.startswith(self.new) else 1.0  # these begin untrained

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        pixels, drawn = self.some(rng)[0], round(SCENES * self.batch_size)
        pixels[:drawn] = scene_pixels(scenes.pictures(scenes.several(drawn, rng)))
        return {"pixels": pixels, **multiblock(self.batch_size, rng)._asdict()}

    def loss(self, model, batch, progress):
        target = near.picked(self.teacher.targets(batch["pixels"]), batch["blocks"])
        return near.errors(model(**batch), target.detach()).mean(), {}

    def stays(self, step, progress):
        return STAYS + (1 - STAYS) * progress

    def final(self, model):
        return self.teacher

    def quick(self, model):
        """Loss, deviation and effective rank of the average's features and targets, on photos and scenes."""
        pixels = torch.cat([self.val[:48], scene_pixels(scenes.pictures(scenes.several(16, 77)))])
        error, target, _ = self.held_out(self.teacher, pixels)
        ranks = {name: effective_rank(one.flatten(0, 1)[None].float().numpy())[0]
                 for name, one in (("features", self.teacher.features(pixels)), ("targets", target))}
        self.rank = min(ranks.values()) / target.shape[-1]
        found = {"loss": error.mean(), "deviation": target.float().std((0, 1)).mean(), **ranks}
        return {name: round(float(one), 4) for name, one in found.items()}

    def held_out(self, model, pixels):
        """Errors of the predictions [B], targets [B, N, D], and errors of the mean target in their place [B]."""
        masks, target = multiblock(len(pixels), rng_of(77, 0)), model.targets(pixels)
        truth = near.picked(target, masks.blocks)
        flat = target.mean((0, 1)).expand_as(truth)
        error, mean = (near.errors(one, truth).mean((1, 2)) for one in (model(pixels, *masks), flat))
        return error, target, mean

    def stop(self):
        return self.rank < LEAST_RANK

    def evaluate(self, model):
        error, target, flat = self.held_out(model, self.val[:600])
        rank = float(effective_rank(target[:200].flatten(0, 1)[None].numpy())[0])
        unit = "smooth-L1 of the target blocks' patches"
        return {"metrics": {"error of the predictions": mean_figure(error.numpy(), unit),
                            "effective rank of targets": figure(rank, "of 192 dimensions", 200)},
                "trivial_baseline": {"the mean target everywhere": mean_figure(flat.numpy(), unit)}}


class PhotoDmt(PhotoJepa):
    name, control, aggregates = "photo-dmt-1", PhotoJepa.name, 2
    new = "predictor.", "aggregator."
    architecture = "JepaForPreTraining: as photo-jepa-1, and a head of two cross-attention blocks (DMT-JEPA)"
    weak_at = "One seed, some minutes of one core on 64 x 64 photos and drawn scenes. It paints no pixels."
