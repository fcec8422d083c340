"""Sparsifiner's recipes: what learns in which phase, the control's equal lessons, and what is left to look at."""

import json

import pytest
import torch
from torch.nn import functional as F

from models.papers.sparsifiner import network as net
from models.papers.sparsifiner import recipe as photo_sparsifiner
from tests import tiny
from tests.photo_nets import filled
from tests.traps import learns_beside
from training.trunks import photo_vit

pytestmark = pytest.mark.usefixtures("one_thread")


def phase_1(monkeypatch):
    recipe = filled(photo_sparsifiner.PhotoPredictor, monkeypatch)
    recipe.base, recipe.revision = tiny.vit().eval(), "0123"
    return recipe


def phase_2(monkeypatch, arm=photo_sparsifiner.PhotoSparsifiner):
    recipe, student = filled(arm, monkeypatch), tiny.vit()
    recipe.teacher, recipe.predictors = tiny.vit().eval(), tiny.fresh("photo-sparsifiner-predictor-1")
    recipe.keys = net.chosen(recipe.predictors.learned(), recipe.keep) if recipe.keep < 1 else None
    return recipe, student


def test_phase_1_teaches_predictors_alone_and_mass_rises(monkeypatch):
    recipe = phase_1(monkeypatch)
    model, batch = recipe.build(), recipe.batch(0, 0.0)
    assert model.trunk_revision == "0123" and recipe.lr == 0
    learns_beside(recipe, model, batch, steps=40, rate=0.01, below=1)
    kept = recipe.mass({"learned": model.learned(), "random": net.dice(torch.Generator().manual_seed(0)),
                        "oracle": net.oracle}, batch["pixels"])
    assert kept["random"].mean() < kept["learned"].mean() < kept["oracle"].mean()


def lessons(recipe, student, batch):
    """The three terms by hand."""
    told = recipe.teacher(batch["pixels"], output_hidden_states=True)
    last = net.states(student, batch["pixels"], recipe.keys)[-1]
    mine, theirs = student.vit.layernorm(last), recipe.teacher.vit.layernorm(told.hidden_states[-1])
    logits = student.classifier(mine[:, 0])
    p, q = told.logits.softmax(-1), logits.softmax(-1)
    kl = (p * (p.log() - q.log())).sum(-1).mean()
    return F.cross_entropy(logits, batch["labels"]) + 0.5 * kl + 0.5 * (mine[:, 1:] - theirs[:, 1:]).pow(2).mean()


@pytest.mark.parametrize("arm", (photo_sparsifiner.PhotoSparsifiner, photo_sparsifiner.PhotoSparsifinerDense))
def test_phase_2_teaches_the_trunk_alone(arm, monkeypatch):
    recipe, student = phase_2(monkeypatch, arm)
    batch = recipe.batch(3, 0.5)
    loss, logs = recipe.loss(student, batch, 0.5)
    torch.testing.assert_close(loss, lessons(recipe, student, batch))
    assert (float(logs["kl"]) < 1e-5) == (arm.keep == 1), "without a mask the student starts as its teacher"
    loss.backward()
    assert student.vit.layers[0].attention.q_proj.weight.grad.abs().sum() > 0
    frozen = [*recipe.predictors.parameters(), *recipe.teacher.parameters()]
    assert all(weight.grad is None for weight in frozen)


def test_the_control_differs_in_its_mask_alone(monkeypatch):
    sparse, dense = photo_sparsifiner.PhotoSparsifiner, photo_sparsifiner.PhotoSparsifinerDense
    for name in ("lr", "lr_adam", "decay", "warmup", "batch_size", "weight_decay", "clip"):
        assert getattr(sparse, name) == getattr(dense, name)
    one, other = (phase_2(monkeypatch, arm)[0].batch(5, 0.2) for arm in (sparse, dense))
    assert torch.equal(one["pixels"], other["pixels"]) and torch.equal(one["labels"], other["labels"])


def test_a_sweep_is_shipped_beside_the_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(photo_sparsifiner, "EXAM", 8)
    monkeypatch.setattr(photo_sparsifiner, "RATES", (0.1, 1.0))
    monkeypatch.setattr(photo_vit, "LABELS", tuple("abcde"))
    recipe, student = phase_2(monkeypatch)
    recipe.evaluate(student.eval())
    recipe.beside(tmp_path)
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert set(found) == set(net.KINDS) and len({points[1][1] for points in found.values()}) == 1, "all keys: one net"
