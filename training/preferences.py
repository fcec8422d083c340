"""Learning from answers that a model drew itself: groups of answers to one prompt, and what they are worth against
their group or against one another.

    drawn_on       the next tokens of many texts, drawn at temperature 1 with a key-value cache
    answer_logp    log pi of the answers to prompts, summed over their tokens (models/loops/sample/cached_lm.py)
    above_group    rewards minus the mean of their group, not normalised
    reinforce      the loss whose gradient is that of REINFORCE with such an advantage
    dpo            the loss that prefers one answer to another, held to a reference
    FromGroups     a recipe that learns from groups

Letters: P prompts, k answers to each, B = P k texts, T tokens.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from models.loops.sample.cached_lm import answer_logp, batched
from models.worlds.world import END, drawn
from training.language import WorldLM, alike, continued
from training.trainer import rng_of

__all__ = ["FromGroups", "above_group", "answer_logp", "batched", "dpo", "drawn_on", "reinforce"]


@torch.no_grad()
def drawn_on(model, rows: Sequence[Sequence[int]], count: int, generator: torch.Generator) -> list[list[int]]:
    """Every text with up to `count` more tokens, <|endoftext|> the last of them where it came. The texts may be begun
    answers: nothing is asked again."""
    found: list[list[int]] = [[] for _ in rows]
    for places, ids in alike(rows):
        made, _ = continued(model, ids, count, 1.0, generator)
        for place, new in zip(places, made.tolist(), strict=True):
            found[place] = [*rows[place], *(new[: new.index(END) + 1] if END in new else new)]
    return found


def above_group(rewards: Tensor) -> Tensor:
    """Rewards [P, k] minus the mean of the k answers to the same prompt."""
    return rewards - rewards.mean(-1, keepdim=True)


def reinforce(logp: Tensor, advantage: Tensor) -> Tensor:
    """Its gradient is minus the mean of advantage times the gradient of log pi; both [B]."""
    return -(advantage * logp).mean()


def dpo(policy: Tensor, reference: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Direct preference optimisation (arXiv 2305.18290): (loss, margin [B]). policy, reference: log pi [2, B] of the
    chosen and of the rejected answers to the same prompts.

        loss = -log sigmoid(margin)    margin = beta [ (log pi(y+) - log ref(y+)) - (log pi(y-) - log ref(y-)) ]
    """
    gain = policy - reference.detach()
    margin = beta * (gain[0] - gain[1])
    return -logsigmoid(margin).mean(), margin


class FromGroups(WorldLM):
    """Learns from groups of its own answers. Stands before a WorldLM: class Mine(FineTune, FromGroups, Puzzles).

    An iteration has `steps` steps and optimisers that begin anew. The policy of its beginning draws up to `budget` more
    tokens of every answer that has not ended, new or from the iteration before (partial rollouts); the prompts whose
    answers have all ended are learned from. All prompts have as many tokens.

    What stands behind it says reward(prompt, ids) of an answer; credit and objective may be others.
    """

    prompts, each, steps, budget = 16, 8, 4, 24  # new prompts of an iteration, and answers to each
    lr, warmup, compile, autocast = 0.0, 0.0, False, False  # AdamW alone; ratios need more digits than bf16 has

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.waiting, self.curve = [], []  # answers [P][k][T] that have not all ended; [reward, tokens] of iterations
        self.now = {}  # what this iteration learns from: ids and answer [B, T]; reward, advantage and log pi_i [B]

    def credit(self, rewards: Tensor, tokens: Tensor, progress: float) -> Tensor:
        """Advantages [P, k]."""
        return above_group(rewards)

    def objective(self, logp: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        """The loss of answers [B]; before: log pi_i, of the policy that the iteration began with."""
        return reinforce(logp, advantage)

    def fresh(self, step):
        return step % self.steps == 0

    def batch(self, step, progress):
        rng = rng_of(self.seed, step // self.steps)
        asked = [[END, *self.encode(drawn(self.world, rng).prompt)] for _ in range(self.prompts)]
        return {"asked": torch.tensor(asked), "step": torch.tensor(step)}

    def loss(self, model, batch, progress):
        step = int(batch["step"])
        if self.fresh(step):
            self.iterate(model, batch["asked"].tolist(), step, progress)
        group = torch.arange(len(self.now["ids"])) // self.each
        mine = group % 2 == step % 2  # every second prompt, or the one there is
        some = {name: of[mine if mine.any() else ~mine] for name, of in self.now.items()}
        loss = self.objective(answer_logp(model, some["ids"], some["answer"]), some["before"], some["advantage"])
        return loss, {"reward": self.now["reward"].mean(), "tokens": self.now["answer"].sum(-1).float().mean()}

    @torch.no_grad()
    def iterate(self, model, asked: list[list[int]], step: int, progress: float) -> None:
        """New answers, and what pi_i says of those that are learned from now."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        groups, done, told = [*self.waiting, *([row] * self.each for row in asked)], [], len(asked[0])
        while not done:  # in the first iteration it may take the whole room
            groups = self.carried_on(model, groups, told, generator)
            done = [group for group in groups if all(self.ended(row, told) for row in group)]
        self.waiting = [group for group in groups if group not in done]
        self.learn_from(model, [row for group in done for row in group], told, progress)

    def carried_on(self, model, groups, told: int, generator):
        """Every answer that has not ended goes on from where it stands."""
        open_rows = [row for group in groups for row in group if not self.ended(row, told)]
        made = iter(drawn_on(model, open_rows, self.budget, generator))
        return [[row if self.ended(row, told) else next(made) for row in group] for group in groups]

    def ended(self, row: list[int], told: int) -> bool:
        return row[-1] == END or len(row) >= told + self.room

    def learn_from(self, model, rows: list[list[int]], told: int, progress: float) -> None:
        ids, answer = batched(rows, told)
        rewards = torch.tensor([self.reward(self.tok.decode(row[1:told]), row[told:]) for row in rows])
        tokens = answer.sum(-1)
        advantage = self.credit(rewards.view(-1, self.each), tokens.view(-1, self.each), progress).flatten()
        self.now = {"ids": ids, "answer": answer, "reward": rewards, "advantage": advantage,
                    "before": answer_logp(model, ids, answer)}
        self.curve.append([round(float(rewards.mean()), 3), round(float(tokens.float().mean()), 1)])

    def state(self):
        return {**super().state(), "waiting": self.waiting, "curve": self.curve, "now": self.now}

    def load_state(self, state):
        super().load_state(state)
        self.waiting, self.curve, self.now = state["waiting"], state["curve"], state["now"]

    def evaluate(self, model):
        """The curve in 30 points at most goes into the card."""
        size = -(-len(self.curve) // 30)
        parts = [self.curve[at : at + size] for at in range(0, len(self.curve), size)]
        return {**super().evaluate(model), "curve": [np.mean(part, 0).round(3).tolist() for part in parts],
                "iterations": len(self.curve)}
