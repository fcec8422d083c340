"""scene-enat-1: ENAT's encoder of new tokens and decoder of MASK tokens, on scenes (arXiv 2411.06959)."""
import math

import numpy as np
import torch

from models.claims.scene_lab import turns
from models.loops.unmask.evaluation import indices
from models.papers.enat.method import Reusing
from models.papers.enat.network import EnatTransformer
from training.export import read_shipped
from training.kinds import Taught
from training.trainer import rng_of
from training.trunks.scene_mgm import SceneMGM

TRUNK = "scene-mgm-1"
REUSE = 0.5  # share of batches that simulate earlier passes, as in the paper
EARLIER = 8  # at most so many of them; the paper simulates one and samples in 8 steps, here features age longer


class SceneENAT(Taught, SceneMGM):
    name = "scene-enat-1"
    minutes, lr, lr_adam = 22.0, 0.01, 1.5e-3  # half the trunk's rates
    average = 0.999
    # The trunk's embeddings know the whole canvas, so the small ones only teach the layers their new parts.
    stages = ((0.05, 1, 96, 1), (0.2, 2, 48, 3), (1.0, 4, 16, 4))
    compile = False  # as many shapes as numbers of tokens
    architecture = ("EnatTransformer, 4 encoder and 2 decoder layers, width 192, caption words as supporting tokens, "
                    "2-D rotary positions; starts from scene-mgm-1")
    trained_on = SceneMGM.trained_on + "; mask ratios half Beta(12, 3), half a cosine, no label smoothing"
    weak_at = ("Loses count: too few or too many objects in more than half of the pictures. Only this world's 36 "
               "objects, at most four at a time.")

    def build(self):
        return self.with_teacher(EnatTransformer.beside(read_shipped(TRUNK)))

    def batch(self, step, progress):
        """One number of MASK tokens for the whole batch. rank [B, N]: the order in which tokens would be revealed;
        seen [K]: how many each pass sees, ascending, the last one being the pass that learns."""
        rng = rng_of(self.seed, step)
        ids, cond = self.captioned(rng, progress)
        tokens = ids.shape[1]
        # half the paper's Beta(12, 3), half MaskGIT's cosine: the first has hardly an empty or a nearly full canvas
        ratio = rng.beta(12, 3) if rng.random() < 0.5 else math.cos(math.pi / 2 * rng.random())
        visible = tokens - min(tokens, max(1, math.ceil(ratio * tokens)))
        passes = int(rng.integers(1, EARLIER + 1)) if visible > 1 and rng.random() < REUSE else 0
        seen = np.unique(rng.integers(1, max(2, visible), passes))
        rank = rng.random(ids.shape).argsort(1).argsort(1)
        return {name: torch.from_numpy(part) for name, part in
                {"ids": ids, "cond": cond, "rank": rank, "seen": np.append(seen, visible)}.items()}

    def loss(self, model, batch, progress):
        before, (*earlier, now) = None, batch["seen"].tolist()
        for count in earlier:
            before = self.glance(batch, count, before)
        hidden = batch["rank"] >= now
        look = model(batch["ids"].masked_fill(hidden, model.mask_token_id), batch["cond"], before)
        logits = model.head(look.hidden).flatten(0, 1).float()
        return torch.nn.functional.cross_entropy(logits, batch["ids"].gather(1, indices(hidden)).flatten()), {}

    @torch.no_grad()
    def glance(self, batch, count: int, before):
        """What the teacher leaves of a pass that sees `count` tokens; its decoder would add nothing to that."""
        shown = batch["rank"] < count
        ids = batch["ids"].masked_fill(~shown, self.teacher.mask_token_id)
        return self.teacher.encode(*self.teacher.parts(ids, batch["cond"]), shown, before)

    def after_step(self, model, step, progress):
        super().after_step(model, step, progress)
        self.side = self.stage(progress)[0]

    def stays(self, step, progress):
        return min(self.average, (1 + step) / (10 + step))

    def generate(self, model, cond, generator, **setting):
        """The Unmask loop itself, with reuse."""
        *_, last = turns(model, cond, generator=generator, evaluate=Reusing, **setting)
        return last.ids
