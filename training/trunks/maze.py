"""Paths through mazes (models/worlds/mazes.py): what is drawn and measured, and maze-ar-1, which says the next cell."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.claims.maze_lab import by_chance, first_forks, walked, whole
from models.worlds import mazes
from models.worlds.mazes import PREFIX
from models.worlds.world import PAD, SPECIALS
from training.export import figure, mean_figure
from training.language import Shape, WorldLM
from training.trainer import Recipe, rng_of

DEPTH = 12  # layers, in whichever stacks they stand
SHAPE = Shape(64, DEPTH, 4, 4, 160)


def composed(model, words: torch.Tensor):
    """A network whose openings begin as the sum of their two cells. Who is beside whom would else have to be learned
    opening by opening."""
    first = len(SPECIALS)
    with torch.no_grad():
        for number, (one, other) in enumerate(mazes.PAIRS):
            words[first + len(mazes.CELLS) + number] = words[first + one] + words[first + other]
    return model


class MazePaths(Recipe):
    """The same mazes in the same order, whoever learns from them; judged on mazes that are kept."""

    minutes, lr, lr_adam, decay, look, pack, rows = 12.0, 0.02, 3e-3, 0.6, 100.0, 6, 48
    autocast = False  # rotary angles in half precision hurt
    trained_on, data_licence = "mazes of 4 x 4 cells (models/worlds/mazes.py), made by program", "none"
    weak_at = "Knows mazes of one size without circles, and paths of at most 12 cells."
    budget_fraction = "4,500 steps of 48 mazes on one core; the paper: 300 and more epochs of 100,000 mazes of 10 x 10"
    asked = 500

    def prepare(self, folder):
        self.tok = mazes.WORLD.tokenizer()

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        return {"ids": torch.from_numpy(np.stack([mazes.ids(mazes.maze(rng, kept=False)) for _ in range(self.rows)]))}

    def quick(self, model):
        asked = mazes.mazes(31, 100)
        return {"full paths": round(float(whole(asked, walked(model, asked)).mean()), 3),
                "first forks": round(float(first_forks(model, asked).mean()), 3)}

    def evaluate(self, model):
        asked = mazes.mazes(31, self.asked)
        found = {"full paths": whole(asked, walked(model, asked)), "first forks": first_forks(model, asked)}
        return {"metrics": {name: mean_figure(each, "share") for name, each in found.items()},
                "trivial_baseline": {"a way at random at every fork": figure(by_chance(asked).mean() / 100, "share",
                                                                                  len(asked))}}


class MazeAR(MazePaths, WorldLM):
    name, world, shape, places = "maze-ar-1", mazes.WORLD, SHAPE, 64
    architecture = "LlamaForCausalLM, 12 layers, width 64, 4 heads, tied embeddings; a token per cell or opening"
    save = WorldLM.save

    def build(self):
        model = super().build()
        return composed(model, model.model.embed_tokens.weight)

    def loss(self, model, batch, progress):
        """On the path alone; what is asked carries no loss."""
        ids = batch["ids"]
        logits, wanted = model(ids[:, :-1], use_cache=False).logits[:, PREFIX - 1 :], ids[:, PREFIX:]
        return cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD), {}
