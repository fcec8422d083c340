"""photo-hpm-1: hard patches mining on photo-mae's trunk, arm (c) of the paper (arXiv 2312.13714): alpha 0 -> 0.5."""
import torch

from models.backbones.vit_mae import set_positions
from models.claims.probe import in_batches
from models.engine.statistics import spearman_rows
from models.loops.mask.photos import patch_error
from models.papers.hpm.method import hard_mask, hard_ratio, true_difficulty
from models.papers.hpm.network import HpmForPreTraining, relative_loss
from training.export import mean_figure
from training.kinds import Moments, Taught
from training.trainer import rng_of
from training.trunks.photo_mae import PhotoMAE

DECAY = (0.95, 0.99)  # of the teacher, linear over the first half; the paper's 0.999 is scaled to some 1,000 steps
SNAPSHOT = 0.34  # progress at which the early teacher is kept


class PhotoHPM(Taught, Moments, PhotoMAE):
    name = "photo-hpm-1"
    architecture = "HpmForPreTraining: photo-mae's trunk and a second decoder with one score per patch; the EMA teacher"
    weak_at = "One seed, 1,000 steps of 128 pictures: it ranks patches for this data and size only, and paints blurred."

    def build(self):
        model = self.with_teacher(set_positions(HpmForPreTraining(self.config())))
        self.score = torch.compile(self.teacher.difficulty, dynamic=False) if self.compile else self.teacher.difficulty
        return model

    def batch(self, step, progress):
        made = super().batch(step, progress)
        device = next(self.teacher.parameters()).device
        with torch.autocast(device.type, dtype=torch.bfloat16):
            scores = self.score(made["pixels"].to(device))
        generator = torch.Generator().manual_seed(int(rng_of(self.seed, step).integers(2**40)))
        made["noise"], _ = hard_mask(scores.float().cpu(), hard_ratio(progress), generator=generator)
        return made

    def loss(self, model, batch, progress):
        pixels, scores, mask = model.both(batch["pixels"], batch["noise"])
        hidden = mask.topk(48, dim=1).indices  # [B, M] masked patches
        losses = patch_error(pixels, model.patchify(batch["pixels"])).gather(1, hidden)  # [B, M]
        rebuilt, order = losses.mean(), relative_loss(scores.gather(1, hidden), losses)
        return rebuilt + order, {"rebuilt": rebuilt.detach(), "order": order.detach()}

    def stays(self, step, progress):
        return DECAY[0] + (DECAY[1] - DECAY[0]) * min(1.0, progress / 0.5)

    def after_step(self, model, step, progress):
        super().after_step(model, step, progress)
        if not self.moments and progress >= SNAPSHOT:
            self.keep(f"at-{round(100 * progress)}-percent", self.teacher, progress=round(progress, 3),
                      of="the same run's teacher")

    def agreement(self, model, count: int, masks: int):
        """Rank correlations [K] of the true difficulty with the predicted one and with patch variance."""
        pixels = self.val[:count]
        truth, _ = true_difficulty(model, pixels, 0.75, torch.Generator().manual_seed(7), masks=masks)
        guesses = in_batches(model.difficulty, pixels).float(), model.patchify(pixels).var(-1)
        return tuple(spearman_rows(guess, truth) for guess in guesses)

    def quick(self, model):
        found, rho = super().quick(model), self.agreement(self.teacher, 48, 4)[0]
        return found | {"rho": round(float(rho.mean()), 3)}

    def evaluate(self, model):
        figures = super().evaluate(model)
        rho, plain = (mean_figure(one, "rho") for one in self.agreement(model, 500, 16))
        figures["metrics"]["Spearman, predicted and true difficulty"] = rho
        figures["trivial_baseline"]["Spearman, patch variance and true difficulty"] = plain
        return figures

    def save(self, model, folder):
        super().save(model, folder)
        self.save_moments(folder, 6)
