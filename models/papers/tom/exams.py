"""What is asked of a network: every story at every number of infills, and three answerers who know nothing of minds.

The signs that the paper reports are coefficients of one logistic regression on the cells of the exam:

    log odds of a right answer = a + b infills + c order + d [model is B]
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

import kernels
from models.engine.statistics import logistic
from models.papers.tom.materials import LEVELS, BeliefItem, answers, right, unread, words

NONE, INFILLS, ORDER, MODEL = range(4)  # coefficients


def sat(model, tokenizer, asked: Sequence[Sequence[BeliefItem]], seed: int, levels=LEVELS) -> np.ndarray:
    """[K, 3 orders, levels, 3]: the likeliest word is right, p(right) at temperature 1, entropy in nats."""
    found = np.zeros((len(asked), 3, len(levels), 3))
    for order in range(3):
        items = [some[order] for some in asked]
        places = words(tokenizer, [item.answer for item in items])
        for at, level in enumerate(levels):
            told = [unread(item, level, seed) for item in items]
            logits = answers(model, tokenizer, [item.prompt(some) for item, some in zip(items, told, strict=True)])
            stats = kernels.vocab_stats(logits, top_k=1, chosen=places.to(logits.device))
            found[:, order, at] = torch.stack([torch.from_numpy(right(tokenizer, logits, items)),
                                               stats.chosen_logp.exp().cpu(), stats.entropy.cpu()], 1)
    return found


def trivial(asked: Sequence[Sequence[BeliefItem]]) -> dict[str, np.ndarray]:
    """Who answers without a mind: right answers [K], mean over orders."""
    usual = Counter(item.answer for some in asked for item in some).most_common(1)[0][0]
    said = {"where it really is": lambda item: item.own, "where it was first": lambda item: item.first,
            "the usual word": lambda item: usual}
    return {name: np.array([np.mean([of(item) == item.answer for item in some]) for some in asked])
            for name, of in said.items()}


def cells(orders: int, levels: Sequence[int], models: int) -> np.ndarray:
    """The regressors [models x orders x levels, 2 to 4] of the cells, in the order of a flattened exam."""
    made = [[1.0, level, order, model] for model in range(models) for order in range(orders) for level in levels]
    return np.array(made)[:, : 4 if models > 1 else 3]


def coefficient(which: int, levels: Sequence[int], models: int = 1):
    """The statistic of rows [K, cells]: one coefficient of the regression on their mean."""
    design = cells(3, levels, models)
    return lambda rows: float(logistic(rows.mean(0), design)[which])


def slope_apart(levels: Sequence[int]):
    """The statistic of rows [K, 2 x cells]: the coefficient of infills in the first half minus that in the second."""
    one = coefficient(INFILLS, levels)
    return lambda rows: one(rows[:, : rows.shape[1] // 2]) - one(rows[:, rows.shape[1] // 2 :])
