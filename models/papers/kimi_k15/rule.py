"""The rule: what an answer is worth within its group, and how far one step may carry the policy.

    lambda    = 1/2 - (length - shortest) / (longest - shortest) among the k answers to a problem, 0 if all are as long
    bonus     = lambda where the answer is right, min(0, lambda) where it is wrong
    worth     = r + w bonus;  advantage = worth - the mean of the k's                   (not divided by their spread)
    loss      = mean of  tau / 2 (log pi - log pi_i)^2 - advantage log pi     (log pi: a sum over the answer's tokens)

pi_i is the policy that an iteration begins with, frozen. The loss has the gradient of
(advantage - tau log(pi / pi_i))^2 / (2 tau): where that is 0, pi is the best policy that stays near pi_i.

Letters: P problems, k answers to each, B = P k.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.worlds import targets
from models.worlds.world import END


def reward(tokenizer, prompt: str, ids: Sequence[int]) -> float:
    """1 where an answer has ended and is right; the thought before it is not judged."""
    return float(ids[-1] == END and targets.check(f"{prompt} {tokenizer.decode(ids)}"))


def length_bonus(right: Tensor, lengths: Tensor) -> Tensor:
    """What an answer's length adds to its reward, before it is weighed; right (0 or 1) and lengths [P, k]."""
    lengths = lengths.float()
    shortest, longest = lengths.amin(-1, keepdim=True), lengths.amax(-1, keepdim=True)
    bonus = 0.5 - (lengths - shortest) / (longest - shortest).clamp_min(1)
    bonus = bonus.masked_fill(longest == shortest, 0.0)
    return torch.where(right > 0, bonus, bonus.clamp_max(0))


def worth(right: Tensor, lengths: Tensor, weight: float) -> Tensor:
    """Reward and weighed length bonus [P, k]."""
    return right + weight * length_bonus(right, lengths)


def surrogate(logp: Tensor, before: Tensor, advantage: Tensor, tau: float) -> Tensor:
    """The loss; log pi and log pi_i (before) of whole answers, and their advantages, all [B]."""
    return (tau / 2 * (logp - before.detach()).square() - advantage * logp).mean()
