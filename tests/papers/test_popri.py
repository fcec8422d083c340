"""POPri: what a client tells is bounded, noise is on the sum, the middle rank is rejected, rounds add up; every trap
beside its mutants."""
import math

import pytest
import torch

from models.papers.popri import recipe as recipes
from models.papers.popri.rule import aggregated, epsilon, noise_for, pairs, recovered, scores
from tests.traps import caught, only_these_move

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, size in (("CLIENTS", 20), ("PROMPTS", 6), ("ROWS", 3), ("STEPS", 2)):
        monkeypatch.setattr(recipes, name, size)


def test_arms(arms, small):
    made = {kind: arms(kind) for kind in (recipes.POPri, recipes.Shuffled)}
    for one in made.values():
        model = one.build()
        batch = one.batch(0, 0.0)
        print({k: v.shape for k, v in batch.items()}, one.seen)
        loss, logs = one.loss(model, batch, 0.0)
        assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-4)
        only_these_move(model, lambda net: one.loss(net, batch, 0.0)[0], {n for n, _ in model.named_parameters() if ".change.up" in n})
