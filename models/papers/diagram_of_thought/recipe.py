"""tree-dot-1, and its controls of as many steps and tokens: tree-cot-1 writes the reductions of a tree one behind the
other, tree-dot-shuffled-1 reads a critic that speaks of another proposition."""
from __future__ import annotations

from functools import partial

import numpy as np
import torch

from models.worlds import trees
from models.worlds.dialogues import VOCABULARY, dialogue
from models.worlds.world import SPECIALS, World
from training.export import figure
from training.language import Shape, WorldLM


class Dialogue(WorldLM):
    """Proposer, critic and summariser in one stream."""

    name = "tree-dot-1"
    world = World(VOCABULARY, dialogue, trees.check, split="spaces")
    shape, rows, length, places, room = Shape(128, 4, 4, 4, 384), 14, 236, 256, 230
    minutes, lr, lr_adam, decay, look, pack = 8.0, 0.02, 3e-3, 0.5, 150.0, 6
    asked, warm_lr, target = 500, 0.5, 2.0  # never stopped by answers: they are right before the critic is
    architecture = "LlamaForCausalLM, 4 layers, width 128, 4 heads, tied embeddings, one token per word or number"
    trained_on = "streams of records on trees of 3 operations modulo 20 (models/worlds/trees.py), made by program"
    weak_at = "Knows these trees only, and slips as they were planted: one proposition in two."
    budget_fraction = "the spec asks for 20,000 to 40,000 steps on 200,000 streams of 6 to 10 operations modulo 100"

    def build(self):
        return circular(super().build())

    def evaluate(self, model):
        chance = {"a number at random": figure(1 / trees.SIZE, "share", 1)}
        return {**super().evaluate(model), "trivial_baseline": chance}

    def encoded(self, doc):
        ids, learned = super().encoded(doc)
        return ids[: self.length], learned[: self.length]  # the end of a few long ones is not read


class ShuffledCritic(Dialogue):
    """The critic's verdicts tell of another proposition; what follows them follows from them."""

    name = "tree-dot-shuffled-1"
    world = World(VOCABULARY, partial(dialogue, shuffled=True), trees.check, split="spaces")
    weak_at = "Its critic was taught by chance: a control."


class ChainOfThought(Dialogue):
    """Right reductions only, one behind the other: as many tokens a step in more, shorter texts."""

    name = "tree-cot-1"
    world = World(VOCABULARY, trees.chain, trees.check, split="spaces")
    rows, length, room = 74, 38, 24
    trained_on = "right reductions of trees of 3 operations modulo 20 (models/worlds/trees.py), made by program"
    weak_at = "Knows these trees only, and goes on from a slip as if it were right: a control."


def circular(model):
    """A network whose numbers begin on circles, as they are added modulo their count: the cosine and sine of every
    frequency. What a sum or a difference makes would else have to be learned pair by pair."""
    words = model.get_input_embeddings().weight.data
    first = len(SPECIALS) + VOCABULARY.index(trees.NUMBERS[0])
    angles = 2 * np.pi * np.outer(np.arange(trees.SIZE), np.arange(1, trees.SIZE // 2 + 1)) / trees.SIZE
    features = np.concatenate([np.cos(angles), np.sin(angles)], 1) * float(words.std()) * 2**0.5  # [20, 20]
    words[first : first + trees.SIZE, : features.shape[1]] = torch.from_numpy(features).float()
    return model
