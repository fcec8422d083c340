"""A small network that solves reach-the-target puzzles aloud, and what reinforcement learning makes of it."""
from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from models.papers.kimi_k15.rule import reward, surrogate, worth
from models.worlds import targets
from models.worlds.world import END, exam
from training.export import figure, read_shipped
from training.kinds import FineTune
from training.language import Shape, WorldLM
from training.preferences import FromGroups, above_group, drawn_on

ROOM, EACH = 48, 8  # tokens of an answer, and answers to a puzzle


class Puzzles(WorldLM):
    """Thoughts of the world, short and long: supervised fine-tuning before anything is rewarded."""

    name = "target-sft-1"
    world, shape, rows, length, places, room = targets.WORLD, Shape(128, 3, 4, 4, 384), 32, 51, 64, ROOM
    minutes, lr, lr_adam, decay, look, pack = 4.0, 0.02, 3e-3, 0.6, 60.0, 6
    compile, autocast = False, False  # bf16 is no faster on this processor, and log-ratios need more digits
    asked = 300
    architecture = "LlamaForCausalLM, 3 layers, width 128, 4 heads, one token per number, sign or word"
    trained_on = "reach-the-target puzzles, all solved rightly: thoughts of 0-3 dead ways, then also answers alone"
    weak_at = "Solves one kind of puzzle, with slips; its thoughts have the fixed form of the puzzle's solver."
    budget_fraction = "5 minutes of one thread, stopped while it still errs; the paper's models are large and unnamed"

    def quick(self, model):
        right, tokens = self.judged(model, 50)
        return {"pass@1": round(float(right.mean()), 3), "tokens": round(float(tokens.mean()), 1)}

    def judged(self, model, n: int, seed: int = 11) -> tuple[np.ndarray, np.ndarray]:
        """(share right, mean tokens) [n] of EACH answers to each of n held-out puzzles, drawn at temperature 1."""
        generator, asked = torch.Generator().manual_seed(seed), [doc.prompt for doc in exam(targets.WORLD, seed, n)]
        rows = [[END, *self.encode(prompt)] for prompt in asked for _ in range(EACH)]
        made = [new[len(row) :] for row, new in zip(rows, drawn_on(model, rows, ROOM, generator), strict=True)]
        right = [self.reward(asked[i // EACH], ids) for i, ids in enumerate(made)]
        return tuple(np.reshape(of, (n, EACH)).mean(1) for of in (right, [len(ids) for ids in made]))

    def reward(self, prompt: str, ids: list[int]) -> float:
        return reward(self.tok, prompt, ids)

    def evaluate(self, model):
        right, tokens = self.judged(model, self.asked)
        chance = np.mean([doc.truth.chance for doc in exam(targets.WORLD, 11, self.asked)])
        return {"metrics": {"pass@1 at temperature 1": figure(right.mean(), "share", len(right), right),
                            "tokens of an answer": figure(tokens.mean(), "tokens", len(tokens), tokens)},
                "trivial_baseline": {"signs at random": figure(chance, "share", self.asked)}}


class ShortThoughts(FineTune, Puzzles):
    """Trained on in solutions without a dead way: plain short fine-tuning."""

    name, trunk, tune, ship = "target-sft-short-1", "target-sft-1", "lora:8", "rank:8"
    world = replace(targets.WORLD, sample=partial(targets.sample, most=0, direct=0.0))
    minutes, lr, lr_adam, pack = 1.0, 0.0, 1e-3, 0
    trained_on = "solutions of reach-the-target puzzles without a dead way"
    budget_fraction = "a minute of one thread"


class MirrorDescent(FineTune, FromGroups, Puzzles):
    name = "target-rl-1"
    trunk, tune, ship = "target-sft-1", "lora:8", "rank:8"
    tau, weight, begins = 0.5, 0.0, 1 / 3  # of the length bonus: its weight, and when it begins
    minutes, lr, lr_adam, decay, look, pack = 2.0, 0.0, 8e-4, 0.8, 90.0, 0
    trained_on = "its own answers to reach-the-target puzzles, rewarded where they are right"
    budget_fraction = "a few minutes of one thread; the paper's amount is not stated"

    def credit(self, rewards, tokens, progress):
        return above_group(worth(rewards, tokens, self.weight if progress >= self.begins else 0.0))

    def objective(self, logp, before, advantage):
        return surrogate(logp, before, advantage, self.tau)


class WithLengthPenalty(MirrorDescent):
    name, weight = "target-rl-short-1", 0.5


class WithoutRatio(MirrorDescent):
    """REINFORCE with the mean of the group as its baseline."""

    name, tau = "target-reinforce-1", 0.0


class BestOfGroup(MirrorDescent):
    """ReST: only the best answer of a group is fitted, the first where several are right; none is pushed away."""

    name, tau = "target-rest-1", 0.0

    def credit(self, rewards, tokens, progress):
        return rewards * torch.zeros_like(rewards).scatter(-1, rewards.argmax(-1, keepdim=True), 1.0)


class Averaged(FineTune, Puzzles):
    """Long2short without training: the mean of the weights of a long model and a short one."""

    name, trunk, ship = "target-averaged-1", "target-sft-1", "rank:16"
    minutes, pack = 0.1, 0
    trained_on = "nothing: the mean of the weights of target-rl-1 and target-sft-short-1"
    budget_fraction = "no training"

    def build(self):
        model, short = read_shipped(MirrorDescent.name), read_shipped(ShortThoughts.name).state_dict()
        model.load_state_dict({name: (long + short[name]) / 2 for name, long in model.state_dict().items()})
        return model
