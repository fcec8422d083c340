"""The rule: what a block is worth to the policy.

    r_b = -NLL_AR(x_b | x_<b) - lambda calls_b + rho L_b        rho: mean of NLL + lambda calls per word, so far
    G_b = r_b + gamma G_b+1                                     REINFORCE: -(G_b - V(h_b)) log pi(size_b | h_b)

Sums over the words of a block, not their means: a mean per block would pay for few blocks whatever they hold. Texts
differ in length; with rho a longer one is worth neither more nor less.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

import kernels
from models.backbones.block_diffusion import SIZES, Ahead
from models.loops.unmask.blocks import Choose, Text, entropies, steps_of

GAMMA = 0.8
BASE, GUIDE, JUDGE, WRITER = "tale-blocks-1", "tale-guide-1", "tale-judge-1", "tale-ar-2"
POLICIES = {"policy": "tale-sizes-1", "frugal": "tale-sizes-cheap-1"}


def by_policy(policy, dice: torch.Generator | None = None, seen: list | None = None) -> Choose:
    """The likeliest size, or a draw; seen: takes what the policy saw and which size it drew, for training."""
    @torch.no_grad()
    def choose(ahead: Ahead, rows: Sequence[int]) -> list[int]:
        told = ahead.state.clone(), entropies(ahead).clone()
        scores = policy(*told)
        picked = scores.argmax(-1) if dice is None else kernels.draw(scores, kernels.Sampler(), dice)
        if seen is not None:
            seen.extend(zip(rows, *told, picked))
        return [SIZES[at] for at in picked.tolist()]
    return choose


def block_costs(text: Text, nats: np.ndarray) -> np.ndarray:
    """Of each block: nats, calls, and words that stand before the end [blocks, 3]."""
    ends = np.minimum(np.cumsum(text.sizes), len(text.ids))
    parts = np.split(nats, ends[:-1])
    return np.array([[part.sum(), steps_of(size) + 1, len(part)] for part, size in zip(parts, text.sizes)])


def returns(costs: np.ndarray, penalty: float, rho: float) -> np.ndarray:
    """G_b of one text from its blocks' costs."""
    worth, found = rho * costs[:, 2] - costs[:, 0] - penalty * costs[:, 1], np.zeros(len(costs))
    ahead = 0.0
    for at in reversed(range(len(costs))):
        found[at] = ahead = worth[at] + GAMMA * ahead
    return found
