"""The rule of a round: what clients tell, the noise on the sum of it, the pairs that are made of that, and the budget.

    u_c[i] = sum over the client's notes d of cos(phi(s_i), phi(d))       what client c thinks of candidate i
    u_c   <- z-score over the n candidates, then scaled to length 1       so that one client moves the sum by at most 1
    u~     = (sum_c u_c + N(0, sigma^2 I)) / clients                      all that the server learns
    pair   = of each prompt's candidates by u~: the first, and that of the middle rank

    epsilon(R) = min over a > 1 of  a r + ln(1 / delta) / (a - 1)  =  r + 2 sqrt(r ln(1 / delta)),   r = R / (2 sigma^2)
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST, DELTA, ROUNDS = 48, 1e-4, 8  # words of a text; delta is below 1 of 2,000; rounds that the budget is made for


def scores(candidates: Tensor, clients: Tensor) -> Tensor:
    """u [N, n], each row of length 1, from embeddings [n, D] and client vectors [N, D]."""
    told = clients @ candidates.T
    told = (told - told.mean(1, keepdim=True)) / told.std(1, keepdim=True, unbiased=False).clamp(min=1e-9)
    return told / told.norm(dim=1, keepdim=True).clamp(min=1.0)


def aggregated(told: Tensor, sigma: float, dice: torch.Generator) -> Tensor:
    """u~ [n]: the noise is on the sum, and one client more or less moves the sum by at most 1."""
    return (told.sum(0) + sigma * torch.randn(told.shape[1], generator=dice)) / len(told)


def pairs(values: Tensor, rejected: int) -> Tensor:
    """[P, 2]: of each prompt's candidates, values [P, J], the place of the first and of the one of this rank from 0."""
    return values.argsort(dim=1, descending=True, stable=True)[:, [0, rejected]]


def recovered(clean: Tensor, chosen: Tensor) -> Tensor:
    """Bool [P]: whether the clean values [P, J] order a pair as the noisy ones did; equal texts have no order."""
    return clean.gather(1, chosen).diff(dim=1)[:, 0] <= 0


def epsilon(sigma: float, rounds: int, delta: float = DELTA) -> float:
    """What so many rounds spend together, all clients taking part in each: Renyi DP of the Gaussian mechanism."""
    rho = rounds / (2 * sigma**2) if sigma else math.inf if rounds else 0.0
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def noise_for(budget: float, rounds: int = ROUNDS, delta: float = DELTA) -> float:
    """The sigma whose rounds spend this budget; 0 for one without end."""
    less = math.sqrt(math.log(1 / delta))
    return math.sqrt(rounds / 2) / (math.sqrt(budget + less**2) - less)


def exact_delta(budget: float, sigma: float, rounds: int) -> float:
    """The delta that goes with an epsilon: so many Gaussian mechanisms are one with sigma / sqrt(rounds), whose privacy
    is known exactly (arXiv 1805.06530). A second formula beside `epsilon`, which bounds it from above."""
    mu = math.sqrt(rounds) / sigma
    phi = [math.erfc((budget / mu + sign * mu / 2) / math.sqrt(2)) / 2 for sign in (-1, 1)]
    return phi[0] - math.exp(budget) * phi[1]
