"""Trainings: the policy over block sizes at two prices of a pass."""
from __future__ import annotations

import numpy as np
import torch

from models.claims.tale_lab import word_nats
from models.loops.unmask.blocks import Choose, by_blocks, by_size, texts
from models.papers.ctrldiff.network import BlockPolicy
from models.papers.ctrldiff.rule import block_costs, by_policy, returns
from models.worlds.tales.headings import LENGTH, WORLD
from models.worlds.world import END, Doc, drawn, exam
from training.export import mean_figure, read_shipped
from training.preferences import reinforce
from training.trainer import Recipe, rng_of


class Sizes(Recipe):
    """The policy over block sizes, by REINFORCE on texts that the frozen block diffusion writes with it. A call costs
    `penalty` nats."""

    name, penalty = "tale-sizes-1", 0.5
    minutes, lr, lr_adam, decay, look, rows, warmup = 3.0, 0.0, 1e-2, 0.5, 90.0, 32, 0.0
    compile = autocast = False
    architecture = "BlockPolicy, two layers on 192 + 16 numbers; 5 block sizes, and a value beside them"
    trained_on = "what tale-blocks-1 writes under the headings of short stories, judged by tale-ar-2"
    data_licence = "none: made by program"
    weak_at = "Knows one base, one judge and the table of passes that it was trained with."
    budget_fraction = "3 minutes of one thread, about 1,000 texts; the spec has 3,000 to 5,000"

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.rho, self.curve = None, []

    def prepare(self, folder):
        self.tok = WORLD.tokenizer()
        self.base, self.judge = (read_shipped(name).requires_grad_(False) for name in ("tale-blocks-1", "tale-ar-2"))

    def build(self):
        return BlockPolicy(self.base.model.config.hidden_size)

    def batch(self, step, progress):
        return {"step": torch.full((self.rows,), step)}  # the texts are written in the loss

    def loss(self, model, batch, progress):
        step = int(batch["step"][0])
        rng, dice = rng_of(self.seed, step), torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        prompts = [self.prompt(drawn(WORLD, rng)) for _ in range(len(batch["step"]))]
        seen: list = []
        costs = self.costs(prompts, by_policy(model, dice, seen), dice)
        nats, calls, words = (float(one) for one in np.concatenate(costs).sum(0))
        price = (nats + self.penalty * calls) / words
        self.rho = price if self.rho is None else 0.8 * self.rho + 0.2 * price
        self.curve.append([round(nats / words, 3), round(calls / words, 3)])
        seen.sort(key=lambda one: one[0])  # text by text, and in a text block by block
        state, entropy, size = map(torch.stack, zip(*(one[1:] for one in seen), strict=True))
        gains = torch.tensor(np.concatenate([returns(one, self.penalty, self.rho) for one in costs])).float()
        gains = gains / gains.std()
        spread, value = torch.distributions.Categorical(logits=model(state, entropy)), model.value(state, entropy)
        loss = reinforce(spread.log_prob(size), (gains - value).detach()) - 0.01 * spread.entropy().mean()
        return loss + 0.5 * (gains - value).square().mean(), {"nats": nats / words, "calls": calls / words,
                                                              "entropy": spread.entropy().mean().detach()}

    def prompt(self, doc: Doc) -> list[int]:
        return [END, *self.tok.encode(doc.pieces[0]).ids]

    def costs(self, prompts, choose, dice) -> list[np.ndarray]:
        made = texts(by_blocks(self.base, prompts, choose, dice, LENGTH), len(prompts))
        return list(map(block_costs, made, word_nats(self.judge, prompts, [one.ids for one in made])))

    def state(self):
        return {"rho": torch.tensor(self.rho), "curve": torch.tensor(self.curve)}

    def load_state(self, state):
        self.rho, self.curve = float(state["rho"]), state["curve"].tolist()

    def judged(self, n: int, **ways: Choose) -> dict[str, np.ndarray]:
        """Nats and calls per word of n texts under held-out headings, in sizes that are chosen in these ways."""
        prompts, found = [self.prompt(doc) for doc in exam(WORLD, 41, n)], {}
        for name, choose in ways.items():
            sums = np.stack([one.sum(0) for one in self.costs(prompts, choose, torch.Generator().manual_seed(2))])
            found |= {f"{what}, {name.replace('_', ' ')}": sums[:, at] / sums[:, 2]
                      for at, what in enumerate(("nats", "calls"))}
        return found

    def quick(self, model):
        return {name: round(float(rows.mean()), 3)
                for name, rows in self.judged(32, likeliest_sizes=by_policy(model)).items()}

    def evaluate(self, model):
        mine = self.judged(100, likeliest_sizes=by_policy(model),
                           drawn_sizes=by_policy(model, torch.Generator().manual_seed(1)))
        return {"metrics": {name: mean_figure(rows, "per word") for name, rows in mine.items()}, "curve": self.curve,
                "trivial_baseline": {name: mean_figure(rows, "per word")
                                     for name, rows in self.judged(100, blocks_of_4=by_size(2)).items()}}


class CheapSizes(Sizes):
    name, penalty = "tale-sizes-cheap-1", 2.0
