"""Statistics of scores: what they reward, and what they must not."""

import numpy as np
import pytest

from models.engine.statistics import auc
from tests.traps import caught


def test_a_judge_is_scored_by_area_not_accuracy():
    """A judge that calls everything original earns what a guess earns, a perfect one 1."""
    truth = np.arange(100) < 10

    def rewards_order_alone(score):
        assert score(np.zeros(100), truth) == pytest.approx(0.5) and score(truth * 0.1, truth) == 1

    caught(rewards_order_alone, auc, lambda score, truth: float(np.mean((score >= 0.5) == truth)))
    assert auc([0.1, 0.4, 0.4, 0.9], [0, 0, 1, 1]) == pytest.approx(0.875) and np.isnan(auc([1, 2], [1, 1]))
