"""Recipes whose networks paint scenes, on tiny stand-ins: what every one of them must do; the rest stands with each."""
import copy

import numpy as np
import pytest
import torch

from models.worlds import scenes
from tests.traps import caught, learns
from training import painted
from training.catalog import recipe
from training.trunks import scene_mgm

STARTING = ("scene-enat-1", "scene-var-1")  # from a trunk, whose stand-in is as small as they then are


def made(name, tiny, monkeypatch, seed=0):
    """A recipe in fp32, its tokenizer and its trunk being stand-ins, its batches small."""
    cls = recipe(name)
    for module in {scene_mgm.__name__, cls.__module__}:
        monkeypatch.setattr(f"{module}.read_shipped", lambda name: copy.deepcopy(tiny.bundle(name).model))
    found = cls(seed)
    if name == "scene-var-1":
        found.tokenizer, found.size, found.more = tiny.fresh("scene-mvq-1"), 2, 5
    else:
        found.prepare("")  # its codes say nothing: an untrained tokenizer sees one patch everywhere
        codes = np.random.default_rng(0).integers(0, found.tokenizer.codebook_size, (len(found.blocks), 4, 4))
        found.blocks, found.stages = dict(zip(found.blocks, codes)), ((1.0, 2, 4, 3),)
    found.autocast = False
    return found


@pytest.mark.parametrize("name", ["scene-mgm-1", *STARTING])
def test_a_batch_depends_on_seed_and_step_alone(name, tiny, monkeypatch):
    first, again, other, twin = (made(name, tiny, monkeypatch, seed).batch(step, 0.1)
                                 for seed, step in ((0, 3), (0, 3), (0, 4), (1, 3)))
    assert all(torch.equal(part, again[key]) for key, part in first.items())
    assert not torch.equal(first["ids"], other["ids"]) and not torch.equal(first["ids"], twin["ids"])


@pytest.mark.parametrize("name", STARTING)
def test_the_loss_falls_on_one_batch(name, tiny, monkeypatch):
    found = made(name, tiny, monkeypatch)
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
