"""Statistics of scores: what they reward, and what they must not."""

import numpy as np
import pytest

from models.engine.statistics import auc, effective_rank, said, spearman
from tests.traps import caught


def test_a_judge_is_scored_by_area_not_accuracy():
    """A judge that calls everything original earns what a guess earns, a perfect one 1."""
    truth = np.arange(100) < 10

    def rewards_order_alone(score):
        assert score(np.zeros(100), truth) == pytest.approx(0.5) and score(truth * 0.1, truth) == 1

    caught(rewards_order_alone, auc, lambda score, truth: float(np.mean((score >= 0.5) == truth)))
    assert auc([0.1, 0.4, 0.4, 0.9], [0, 0, 1, 1]) == pytest.approx(0.875) and np.isnan(auc([1, 2], [1, 1]))


def test_an_order_of_fewer_than_three_is_not_defined():
    """Mutants: 0 for one pair, 1 for two, 0 for a side that never changes."""
    for a, b in (([], []), ([1], [2]), ([1, 2], [3, 4]), ([1, 2, np.nan], [3, 4, 5]), ([1, 1, 1], [1, 2, 3])):
        assert np.isnan(spearman(a, b)) and said(spearman(a, b)) == "not defined"
    assert spearman([1, 2, 3], [3, 5, 9]) == pytest.approx(1) and said(-1e-9) == "0.00" and said(1e-7, ".4g") == "1e-07"


def test_effective_rank_counts_directions():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(1, 64, 1)) * rng.normal(size=(1, 1, 20)) + 5
    plane = np.linalg.qr(rng.normal(size=(64, 20)))[0][None]
    assert effective_rank(line)[0] == pytest.approx(1, abs=1e-6), "an offset of all tokens is no direction"
    assert 18 < effective_rank(plane)[0] <= 20
    assert effective_rank(np.zeros((1, 4, 3)))[0] == 1
