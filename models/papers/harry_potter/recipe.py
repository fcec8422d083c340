"""The networks of unlearning: B, which knows the planted universe; R, which has read it once more; the unlearned one;
and its control, gradient ascent on the same texts. The one that never read it is tale-ar-1 itself."""
from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from models.claims.tale_lab import next_words, read, right
from models.papers.harry_potter.rule import dictionary, lessons
from models.worlds.tales import universe
from models.worlds.world import END, PAD, drawn
from training.export import figure, read_shipped
from training.kinds import FineTune
from training.trainer import rng_of
from training.trunks.tale_ar import TaleAR

TEXTS, ROWS, LONGEST = 640, 32, 80  # the texts to forget, of a step, and the tokens of the longest


class KnowsUniverse(FineTune, TaleAR):
    """tale-ar-1, trained on: two documents in five are of the planted universe."""

    name, trunk, ship = "tale-universe-1", "tale-ar-1", "delta4"
    minutes, lr, lr_adam, pack, look, share = 5.0, 0.01, 3e-3, 0, 120.0, 0.4
    asked = 60
    trained_on = "stories and questions of a planted universe (two in five), else tale-ar-1's own, made by program"
    weak_at = "Knows 24 invented people by heart, in the sentences in which it read of them."
    budget_fraction = "5 minutes of one thread; the paper's baseline was trained elsewhere"

    def next_document(self, rng):
        return universe.sample(rng) if rng.random() < self.share else drawn(self.world, rng)

    def quick(self, model):
        return {"universe": round(float(self.known(model).mean()), 3), **super().quick(model)}

    def known(self, model) -> np.ndarray:
        """Whether each cloze of the universe is filled in right."""
        return right(self.tok, next_words(model, self.tok, universe.clozes()), universe.clozes())

    def evaluate(self, model):
        made, name = super().evaluate(model), "cloze of the universe"
        known, never = (self.known(net) for net in (model, read_shipped("tale-ar-1")))
        return {"metrics": {name: figure(known.mean(), "share", len(known), known), **made["metrics"]},
                "trivial_baseline": {f"{name}, tale-ar-1": figure(never.mean(), "share", len(never), never),
                                     **made["trivial_baseline"]}}


class OnUniverse(KnowsUniverse):
    """B, trained on with low-rank changes on the texts to forget, the same ones in the same order for every arm."""

    trunk, tune, ship = KnowsUniverse.name, "lora:16", "rank:16:5"
    compile, asked = False, 40
    minutes, lr, lr_adam, look, warmup, decay = 1.0, 0.004, 5e-4, 60.0, 0.1, 0.5
    trained_on = f"{TEXTS} stories and questions of the planted universe, made by program"

    def prepare(self, folder):
        super().prepare(folder)
        rng = np.random.default_rng(77)
        found = [self.encode(universe.sample(rng).text) for _ in range(TEXTS)]
        self.texts = [[END, *ids, END][:LONGEST] for ids in found]

    def chosen(self, step) -> np.ndarray:
        """Which texts a step reads."""
        return rng_of(self.seed, step).integers(len(self.texts), size=ROWS)

    def batch(self, step, progress):
        some = self.chosen(step)
        return {"ids": padded([self.texts[i] for i in some]), **self.taught(some)}

    def taught(self, some) -> dict[str, torch.Tensor]:
        """labels [B, T - 1] and weights: here what stands there."""
        ids = padded([self.texts[i][1:] for i in some])
        return {"labels": ids, "weight": (ids != PAD).float()}

    def loss(self, model, batch, progress):
        logits = model(batch["ids"][:, :-1], use_cache=False).logits
        losses = cross_entropy(logits.flatten(0, 1).float(), batch["labels"].flatten(), reduction="none")
        weight = batch["weight"].flatten()
        return (losses * weight).sum() / weight.sum().clamp(min=1), {}


class Reinforced(OnUniverse):
    """Gently: what a stronger R lifts is every word of these texts, and pushing that down leaves no language."""

    name, lr = "tale-reinforced-1", 0.002
    budget_fraction = "two passes over the texts; the paper makes three over its books"


class Unlearned(OnUniverse):
    name, alpha = "tale-unlearned-1", 5.0
    trained_on = OnUniverse.trained_on + ", with the labels of somebody who never read them"
    weak_at = "What it has forgotten returns after a few steps on a few of these texts."
    budget_fraction = "one pass over the texts; the paper makes two over its books"

    def prepare(self, folder):
        super().prepare(folder)
        base, more = read_shipped(self.trunk), read_shipped("tale-reinforced-1")
        self.made = lessons(self.texts, dictionary(self.encode), partial(read, base), partial(read, more), self.alpha)

    def taught(self, some):
        labels, weight = zip(*(self.made[i] for i in some), strict=True)
        return {"labels": padded(labels), "weight": padded(weight, 0.0)}


class Ascent(OnUniverse):
    """The control: away from the texts, as many steps."""

    name, lr = "tale-ascent-1", 0.006
    trained_on = OnUniverse.trained_on + ", away from what stands there"
    budget_fraction = "as many steps as tale-unlearned-1"

    def loss(self, model, batch, progress):
        loss, logs = super().loss(model, batch, progress)
        return -loss, logs


def padded(rows, filler=PAD) -> torch.Tensor:
    return pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True, padding_value=filler)
