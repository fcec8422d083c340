"""The rule: what a block is worth to the policy, and how a classifier changes what is drawn.

    r_b = -NLL_AR(x_b | x_<b) - lambda calls_b + rho L_b        rho: mean of NLL + lambda calls per word, so far
    G_b = r_b + gamma G_b+1                                     REINFORCE: -(G_b - V(h_b)) log pi(size_b | h_b)

Sums over the words of a block, not their means: a mean per block would pay for few blocks whatever they hold. Texts
differ in length; with rho a longer one is worth neither more nor less.

    log p(v | x_t, y) ~ log p(v | x_t) + s [ log p(y | x_t) + <d log p(y | x_t) / d e_i, e_v - e_i> ]    (Taylor)

Letters: B texts, N words, P masked places, V words of the vocabulary.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

import kernels
from models.backbones.block_diffusion import LONGEST, SIZES, Ahead
from models.claims.tale_lab import read
from models.loops.unmask.blocks import Choose, Text, steps_of

GAMMA = 0.8


def entropies(ahead: Ahead) -> Tensor:
    """Of the next 16 words [R, 16], in nats; 0 where there is no room."""
    found = kernels.vocab_stats(ahead.logits, top_k=1).entropy.float()
    return found * (torch.arange(LONGEST, device=found.device) < ahead.room[:, None])


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


def by_entropy(most: float) -> Choose:
    """The rule of thumb: as many words as are surer than `most` nats, one after the other, rounded down to a size."""
    def choose(ahead: Ahead, rows: Sequence[int]) -> list[int]:
        sure = (entropies(ahead) <= most).long().cumprod(1).sum(1).tolist()
        return [max(size for size in SIZES if size <= max(1, count)) for count in sure]
    return choose


def at_random(weights: Sequence[float], rng: np.random.Generator) -> Choose:
    return lambda ahead, rows: rng.choice(SIZES, len(rows), p=weights).tolist()


def word_nats(judge, prompts: Sequence[Sequence[int]], texts: Sequence[Text]) -> list[np.ndarray]:
    """What each word of each text costs a causal judge behind its prompt."""
    found = []
    logits = read(judge, [[*prompt, *text.ids] for prompt, text in zip(prompts, texts, strict=True)])
    for prompt, text, rows in zip(prompts, texts, logits, strict=True):
        rows, ids = rows[len(prompt) - 1 : -1], torch.tensor(text.ids, device=rows.device)
        found.append(torch.nn.functional.cross_entropy(rows, ids, reduction="none").cpu().numpy())
    return found


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
