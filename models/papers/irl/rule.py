"""The rule: a language model's raw logits are soft Q-values, and what it implies of a reward can be read off them.

A state is the text so far, an action the next word, and the text ends with <|endoftext|>, behind which nothing is worth
anything:

    Q(s, a) = logit of a          V(s) = log sum_a exp Q(s, a)          log pi(a | s) = Q(s, a) - V(s)
    r(s, a) = Q(s, a) - gamma V(s')                                     V = 0 behind the end
    loss    = mean over the words of the answer of  -(Q - V) + lambda r^2

Letters: B texts, T words.
"""
from __future__ import annotations

import torch
from torch import Tensor


def value_after(v: Tensor, end: Tensor, last: float = 0.0) -> Tensor:
    """V(s') [..., T] of each word from V(s) [..., T]: the next place's value, 0 behind the word that ends the text
    (end, bool). last: what stands behind the last place, where that is not the end."""
    after = torch.cat([v[..., 1:], torch.full_like(v[..., :1], last)], -1)
    return after.masked_fill(end, 0.0)


def objective(q: Tensor, v: Tensor, end: Tensor, answer: Tensor, gamma: float = 1.0, through: bool = True
              ) -> tuple[Tensor, Tensor]:
    """(maximum likelihood, temporal-difference penalty), means over the words of the answers; all [B, T].

    through: the gradient flows through V(s'), too, as IQLearn's does, which has no target network.
    """
    count, after = answer.sum(), value_after(v, end)
    r = q - gamma * (after if through else after.detach())
    return ((v - q) * answer).sum() / count, (r.square() * answer).sum() / count
