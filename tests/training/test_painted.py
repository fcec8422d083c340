"""Recipes whose networks paint scenes, on tiny stand-ins: what every one of them must do; the rest stands with each."""
import numpy as np
import pytest
import torch

from models.worlds import scenes
from tests.painters import painter
from tests.traps import caught, learns
from training import painted

STARTING = ("scene-enat-1", "scene-var-1")  # from a trunk, whose stand-in is as small as they then are


@pytest.mark.parametrize("name", ["scene-mgm-1", *STARTING])
def test_a_batch_depends_on_seed_and_step_alone(name, tiny, monkeypatch):
    first, again, other, twin = (painter(name, tiny, monkeypatch, seed).batch(step, 0.1)
                                 for seed, step in ((0, 3), (0, 3), (0, 4), (1, 3)))
    assert all(torch.equal(part, again[key]) for key, part in first.items())
    assert not torch.equal(first["ids"], other["ids"]) and not torch.equal(first["ids"], twin["ids"])


@pytest.mark.parametrize("name", STARTING)
def test_the_loss_falls_on_one_batch(name, tiny, monkeypatch):
    found = painter(name, tiny, monkeypatch)
    model, batch = found.build(), found.batch(1, 0.9)
    learns(model, lambda model: found.loss(model, batch, 0.9)[0], below=0.9)


def test_captions_are_told_in_any_order_and_some_not_at_all():
    asked = scenes.several(300, 1)
    plain = scenes.conditions(asked)

    def holds(words):
        kept = words.any(1)
        assert 0.85 < kept.mean() < 0.95 and not (words[kept] == plain[kept]).all()
        assert (np.sort(words[kept], 1) == np.sort(plain[kept], 1)).all()

    caught(holds, painted.told(asked, np.random.default_rng(0), 0.1), plain, painted.told(
        asked, np.random.default_rng(0), 0.9), np.zeros_like(plain))
