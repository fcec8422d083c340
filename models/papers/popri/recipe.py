"""tale-ar-2 taught by preferences alone, in eight rounds of 64 pairs: at three budgets of privacy, and with pairs whose
order is random. The same rounds stopped after two and four are shipped beside, so that the page can walk through them.
"""
from __future__ import annotations

import math
from pathlib import Path

import torch

from models.papers.popri.federation import CLIENTS, Federation, candidates, private, topical
from models.papers.popri.rule import noise_for, pairs, recovered
from models.worlds.federation import openings
from models.worlds.world import END
from training import data
from training.export import figure, read_shipped
from training.kinds import FineTune
from training.preferences import answer_logp, batched, dpo
from training.trunks.tale_ar import TaleAR

PROMPTS, EACH, ROWS = 64, 8, 8  # candidates of a prompt; pairs of a step
STEPS = PROMPTS // ROWS  # of a round


class POPri(FineTune, TaleAR):  # --steps 64: eight rounds
    name, trunk, tune, ship = "tale-popri-1", "tale-ar-2", "lora:4", "rank:4"
    budget, beta, shuffled = 2.0, 0.1, False  # epsilon of all rounds
    compile, minutes, lr, lr_adam, look, warmup, decay, pack = False, 3.0, 0.0, 5e-4, 600.0, 0.0, 1e-9, 0
    asked = 256
    trained_on = "its own texts, in pairs made of noisy scores of 2,000 invented clients (models/worlds/federation.py)"
    weak_at = "Writes the beginnings of stories, of what the notes of invented clients are about."
    budget_fraction = "eight rounds of 512 candidates and 64 pairs; the paper makes up to 31 of 18,000 and 1,800"

    def prepare(self, folder):
        super().prepare(folder)
        self.base, self.sigma, self.seen = read_shipped(self.trunk).eval(), noise_for(self.budget), {}
        self.federation = Federation(self.base, self.tok)
        self.federation.vectors = torch.from_numpy(data.kept(Path(folder) / "popri-clients.npz", lambda: {
            "sums": self.federation.summed(private(self.tok, CLIENTS)).numpy()})["sums"])

    def build(self):
        self.net = super().build()
        return self.net

    def batch(self, step, progress):
        at = ROWS * (step % STEPS)
        if not at:
            self.lessons = self.round(step // STEPS)
        return {name: part[at : at + ROWS] for name, part in self.lessons.items()}

    @torch.no_grad()
    def round(self, number: int) -> dict[str, torch.Tensor]:
        """What the network of now writes, what the clients think of it, and the pairs that are made of that."""
        rows = candidates(self.net.eval(), self.tok, openings(PROMPTS), EACH, 1000 * self.seed + number)
        dice = torch.Generator().manual_seed(7919 * number + self.seed)
        phi = self.federation.phi(rows)
        clean, noisy = (one.view(PROMPTS, EACH) for one in self.federation.told(phi, self.sigma, dice))
        found = pairs(noisy, EACH // 2)
        self.seen = {"recovered": recovered(clean, found).float().mean(), "topics": topical(self.tok, rows).mean()}
        if self.shuffled:
            flip = torch.rand(PROMPTS, 1, generator=dice) < 0.5
            found = torch.where(flip, found.flip(1), found)
        taken = (found + EACH * torch.arange(PROMPTS)[:, None])[torch.randperm(PROMPTS, generator=dice)]  # [P, 2]
        ids, answer = batched([[END, *rows[i]] for i in taken.flatten().tolist()], 1 + len(self.encode(openings(1)[0])))
        said = answer_logp(self.base, ids, answer).view(PROMPTS, 2)  # before any change
        self.net.train()
        return {"ids": ids.view(PROMPTS, 2, -1), "answer": answer.view(PROMPTS, 2, -1), "reference": said}

    def loss(self, model, batch, progress):
        said = answer_logp(model, batch["ids"].flatten(0, 1), batch["answer"].flatten(0, 1)).view(-1, 2)
        loss, margin = dpo(said.T, batch["reference"].T, self.beta)
        return loss, {"margin": margin.detach().mean(), "agrees": (margin > 0).float().mean(), **self.seen}

    def state(self):
        return {**super().state(), "lessons": self.lessons}

    def load_state(self, state):
        super().load_state(state)
        self.lessons = state["lessons"]

    def evaluate(self, model):
        name = "texts of the clients' topics"
        mine, base = (topical(self.tok, candidates(net.eval(), self.tok, openings(self.asked), 1, 43))
                      for net in (model, self.base))
        return {"metrics": {name: figure(mine.mean(), "share", len(mine), mine)},
                "trivial_baseline": {f"{name}, {self.trunk}": figure(base.mean(), "share", len(base), base)}}


class AfterTwo(POPri):
    name = "tale-popri-second-1"  # --steps 16


class AfterFour(POPri):
    name = "tale-popri-fourth-1"  # --steps 32


class Noiseless(POPri):
    name, budget = "tale-popri-free-1", math.inf


class Tight(POPri):
    name, budget = "tale-popri-tight-1", 0.5


class Shuffled(POPri):  # a coin says which of a pair is the better one
    name, shuffled = "tale-popri-shuffled-1", True
