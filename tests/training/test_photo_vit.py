"""The recipes of photo-vit-1 and photo-illama: one start for all arms, the schedule per step, and what is shipped."""

import json

import numpy as np
import pytest
import torch

from models.checkpoints.store import load
from models.papers.illama import recipe as photo_illama
from tests import tiny
from tests.photo_nets import filled
from training.trunks import photo_vit

ARMS = (photo_vit.PhotoViT, photo_illama.PhotoIllama, photo_illama.PhotoIllamaFirst,
        photo_illama.PhotoIllamaBidirectional)


def net_of(recipe):
    """A tiny network of the recipe's kind."""
    if type(recipe) is photo_vit.PhotoViT:
        return tiny.vit()
    return tiny.fresh("photo-illama-first-2" if recipe.cls_first else "photo-illama-1")


@pytest.mark.parametrize("arm", ARMS)
def test_all_arms_see_the_same_photos_and_learn_from_labels(arm, monkeypatch):
    recipe, again = filled(arm, monkeypatch), filled(photo_vit.PhotoViT, monkeypatch)
    net = net_of(recipe)
    one, other = recipe.batch(7, 0.5), again.batch(7, 0.5)
    assert torch.equal(one["pixels"], other["pixels"]) and torch.equal(one["labels"], other["labels"])
    loss, _ = recipe.loss(net, one, 0.5)
    loss.backward()
    assert sum(float(p.grad.abs().sum()) > 0 for p in net.parameters() if p.grad is not None) > 10


def test_the_mask_softens_per_step_and_only_in_the_arm_that_has_it(monkeypatch):
    soft, *others = (filled(arm, monkeypatch) for arm in ARMS[1:])
    values = [float(soft.batch(0, t)["a"]) for t in (0.0, 1 / 12, 1 / 6, 1.0)]
    np.testing.assert_allclose(values, [1, 0.5, 0, 0], atol=1e-6)
    assert [[float(arm.batch(0, t)["a"]) for t in (0.0, 1.0)] for arm in others] == [[0, 0], [1, 1]]


def test_a_run_leaves_its_curve_and_two_moments_of_the_schedule(monkeypatch, tmp_path):
    recipe, again = (filled(photo_illama.PhotoIllama, monkeypatch) for _ in range(2))
    net = net_of(recipe)
    for step in range(100):
        recipe.after_step(net, step, step / 100)
    assert len(recipe.curve) == photo_vit.LOOKS and recipe.curve[0]["a"] == 1 and recipe.curve[-1]["a"] == 0
    again.load_state(recipe.state())
    again.save(net.half(), tmp_path)
    assert len(json.loads((tmp_path / "curve.json").read_text())) == photo_vit.LOOKS
    notes = {folder.parent.name: json.loads(folder.read_text()) for folder in tmp_path.glob("*/snapshot.json")}
    assert {name: (note["a"], note["step"]) for name, note in notes.items()} == {
        "a-50-percent": (0.5, 9), "a-0-percent": (0.0, 17)}
    assert load(str(tmp_path / "a-50-percent")).model.cls_place == 64


def starts_alike(shift):
    """Positions of the class token and of the first patch, wherever they stand in the sequence."""
    first, last = (arm(0).build() for arm in (photo_illama.PhotoIllamaFirst, photo_illama.PhotoIllama))
    mae = photo_vit.read_shipped(photo_vit.START).vit.embeddings.position_embeddings
    for net in (first, last):
        places = net.position_embeddings.roll(0 if net is first else shift, 1)[0]
        torch.testing.assert_close(places[net.first_patch], mae[0, 1].float())
        torch.testing.assert_close(places[net.cls_place], mae[0, 0].float())
    for one, other in zip(first.layers, last.layers):
        assert torch.equal(one.self_attn.q_proj.weight, other.self_attn.q_proj.weight)


@pytest.mark.weights
def test_patches_keep_their_positions_when_the_class_token_moves():
    starts_alike(0)
    with pytest.raises(AssertionError):
        starts_alike(1)  # positions of the sequence, not of the patches
