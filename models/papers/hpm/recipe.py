"""photo-hpm-1: hard patches mining on photo-mae's trunk, arm (c) of the paper (arXiv 2312.13714): alpha 0 -> 0.5."""
import copy
import json

import numpy as np
import torch

from models.claims.probe import in_batches
from training.export import figure
from training.kinds import Taught
from training.trainer import rng_of
from training.trunks.photo_mae import PhotoMAE, fixed_noise, per_image

DECAY = (0.95, 0.99)  # of the teacher, linear over the first half; the paper's 0.999 is scaled to some 1,000 steps
SNAPSHOT = 0.34  # progress at which the early teacher is kept


class PhotoHPM(Taught, PhotoMAE):
    name = "photo-hpm-1"
    architecture = "HpmForPreTraining: photo-mae's trunk and a second decoder with one score per patch; the EMA teacher"
    weak_at = "One seed, 1,000 steps of 128 pictures: it ranks patches for this data and size only, and paints blurred."

    early, early_progress = None, SNAPSHOT

    def build(self):
        from models.backbones.vit_mae import set_positions
        from models.papers.hpm.network import HpmForPreTraining

        model = HpmForPreTraining(self.config())
        set_positions(model)
        return self.with_teacher(model)

    def batch(self, step, progress):
        from models.papers.hpm.network import hard_mask, hard_ratio

        made = super().batch(step, progress)
        device = next(self.teacher.parameters()).device
        with torch.autocast(device.type, dtype=torch.bfloat16):
            scores = self.score(made["pixels"].to(device))
        generator = torch.Generator().manual_seed(int(rng_of(self.seed, step).integers(2**40)))
        made["noise"], _ = hard_mask(scores.float().cpu(), hard_ratio(progress), generator=generator)
        return made

    def score(self, pixels):
        """The teacher's difficulty [B, L], compiled on first use."""
        if not hasattr(self, "_score"):
            score = self.teacher.difficulty
            self._score = torch.compile(score, dynamic=False) if self.compile else score
        return self._score(pixels)

    def loss(self, model, batch, progress):
        from models.loops.mask.photos import patch_error
        from models.papers.hpm.network import relative_loss

        pixels, scores, mask = model.both(batch["pixels"], batch["noise"])
        hidden = mask.topk(48, dim=1).indices  # [B, M] masked patches
        losses = patch_error(pixels, model.patchify(batch["pixels"])).gather(1, hidden)  # [B, M]
        rebuilt, order = losses.mean(), relative_loss(scores.gather(1, hidden), losses)
        return rebuilt + order, {"rebuilt": rebuilt.detach(), "order": order.detach()}

    def stays(self, step, progress):
        return DECAY[0] + (DECAY[1] - DECAY[0]) * min(1.0, progress / 0.5)

    def after_step(self, model, step, progress):
        super().after_step(model, step, progress)
        if self.early is None and progress >= SNAPSHOT:
            self.early = copy.deepcopy(self.teacher.state_dict())
            self.early_progress = progress

    def state(self):
        return {**super().state(), "early": self.early, "early_progress": self.early_progress}

    def load_state(self, state):
        super().load_state(state)
        self.early, self.early_progress = state["early"], state["early_progress"]

    def quick(self, model):
        from models.papers.hpm.trials import by_trial, correlations

        some, error = self.val[:48], per_image(self.teacher, self.val[:256], fixed_noise(256)).mean()
        rho = correlations(self.teacher.difficulty(some).float(), by_trial(self.teacher, some, 4, 0.75)[0])
        return {"masked mse": round(float(error), 4), "rho": round(float(rho.mean()), 3)}

    def evaluate(self, model):
        from models.papers.hpm.trials import by_trial, correlations, mined

        figures, n = super().evaluate(model), 500
        pixels = self.val[:n]
        truth, _ = by_trial(model, pixels, 16, 0.75)
        scores = in_batches(model.difficulty, pixels)
        rho, plain = correlations(scores, truth), correlations(model.patchify(pixels).var(-1), truth)
        harder = mined(model, pixels, scores, 0.75, 1) / per_image(model, pixels, fixed_noise(n)).numpy() - 1
        figures["metrics"] |= {
            "Spearman, predicted and true difficulty": figure(np.mean(rho), "rho", n, rho),
            "loss of HPM's mask above random masks": figure(harder.mean(), "share", n, harder)}
        figures["trivial_baseline"]["Spearman, patch variance and true difficulty"] = figure(
            np.mean(plain), "rho", n, plain)
        return figures

    def save(self, model, folder):
        super().save(model, folder)
        if self.early is None:
            return
        early = copy.deepcopy(model)
        early.load_state_dict(self.early)
        name = f"at-{round(100 * self.early_progress)}-percent"
        super().save(early.half(), folder / name)
        note = {"progress": round(self.early_progress, 3), "of": "the same run's teacher"}
        (folder / name / "snapshot.json").write_text(json.dumps(note) + "\n")
