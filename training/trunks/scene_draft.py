"""scene-ar-draft-1: a one-layer drafter on the frozen scene-ar-1 (EAGLE, arXiv 2401.15077, as LANTERN uses it)."""
import numpy as np
import torch

from models.backbones.drafter import FeatureDrafter, lesson, losses
from training.export import mean_figure, read_shipped
from training.kinds import Beside
from training.trainer import rng_of
from training.trunks.scene_ar import CodeWorld


class SceneDraft(Beside):
    name, trunk, network = "scene-ar-draft-1", "scene-ar-1", FeatureDrafter
    minutes, lr, lr_adam, decay, ema = 2.5, 0.01, 3e-3, 0.7, 0.99
    size, noise = 12, 0.1
    architecture = "FeatureDrafter: one causal Llama layer over input and last state of scene-ar-1 (not included)"
    trained_on = "procedurally drawn scenes, half of them lit; states and targets are scene-ar-1's"
    data_licence = "none: made by program"
    weak_at = "Fits one target only (its revision is in config.json); later drafts of a round build on its own guesses."
    budget_fraction = "some 350 steps against the 10,000 of the plan"

    def prepare(self, folder):
        super().prepare(folder)
        self.world = CodeWorld(read_shipped("scene-vq-2"))

    def batch(self, step, progress):
        return self.world.batch(rng_of(self.seed, step), self.size, 0.1, 0.5)

    def loss(self, model, batch, progress):
        states, words = losses(self.base, *lesson(self.base, model, batch["ids"], batch["cond"], self.noise))
        return states + words, {"states": states.detach(), "words": words.detach()}

    def quick(self, model):
        return {name: round(float(self.agreement(model, lit)[0].mean()), 3) for name, lit in (("clean", 0), ("lit", 1))}

    @torch.no_grad()
    def agreement(self, model, lit: float, n: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per picture: chance that exact verification takes a first draft that is drawn, sum of min(p, q); one that is
        the drafter's favourite, q(argmax p); and one that repeats the code before."""
        batch = self.world.batch(np.random.default_rng(71), n, 0.0, lit)
        guessed, true = lesson(self.base, model, batch["ids"], batch["cond"])
        p, q = (self.base.head(states).float().softmax(-1) for states in (guessed, true))
        best, last = p.argmax(-1, keepdim=True), batch["ids"].roll(1, 1)[..., None]
        found = torch.minimum(p, q).sum(-1), q.gather(-1, best)[..., 0], q.gather(-1, last)[..., 0]
        return tuple(values.mean(1).cpu().numpy() for values in found)

    def evaluate(self, model):
        metrics, simple = {}, {}
        for name, lit in (("clean", 0.0), ("lit", 1.0)):
            drawn, best, last = self.agreement(model, lit, 64)
            metrics[f"first draft accepted, {name}, drawn"] = mean_figure(drawn, "share")
            metrics[f"first draft accepted, {name}, favourite"] = mean_figure(best, "share")
            simple[f"the code before, {name}"] = mean_figure(last, "share")
        return {"metrics": metrics, "trivial_baseline": simple,
                "headline": "first draft accepted, lit, drawn", "headline_beside": "the code before, lit"}
