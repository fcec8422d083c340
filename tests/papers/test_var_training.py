"""The recipes of VAR: batches repeat, a part of a pyramid is enough for coarse maps, unused entries start again."""

import copy
import types

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.papers.var import recipe as scene_var
from models.papers.var.recipe import SceneMVQ, SceneVAR


@pytest.fixture
def recipe(tiny):
    made = SceneVAR(0)
    made.tokenizer, made.size, made.more = tiny.fresh("scene-mvq-1"), 2, 5
    return made


def test_a_batch_depends_on_the_step_alone(recipe):
    first, again, other = recipe.batch(3, 0.1), recipe.batch(3, 0.9), recipe.batch(4, 0.1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["ids"], other["ids"])
    assert first["features"].shape == (7, 129, 10) and first["cond"].shape == (7, 4)


def test_it_starts_from_the_masked_models_layers_words_and_places(recipe, tiny, monkeypatch):
    trunk = copy.deepcopy(tiny.bundle("scene-mgm-1").model)
    trunk.embed_rows, trunk.embed_columns = torch.nn.Embedding(16, 32), torch.nn.Embedding(16, 32)
    monkeypatch.setattr(scene_var, "read_shipped", lambda name: trunk)
    made = recipe.build()
    for name in ("layers", "norm", "embed_cond", "embed_slots"):
        theirs = getattr(trunk, name).state_dict()
        assert all(torch.equal(weight, theirs[key]) for key, weight in getattr(made, name).state_dict().items())
    last = trunk.embed_rows.weight[15] + trunk.embed_columns.weight[15]
    middle = trunk.embed_rows.weight[7] + trunk.embed_columns.weight[7]  # 8.5 of 16, rounded to even
    assert torch.allclose(made.embed_places.weight[-1], last) and torch.allclose(made.embed_places.weight[0], middle)


@torch.no_grad()
def test_pictures_cut_short_count_where_they_were_read(recipe, tiny):
    model, batch = tiny.fresh("scene-var-1").eval(), recipe.batch(0, 0)
    every = F.cross_entropy(model(batch["features"], batch["cond"]).transpose(1, 2), batch["ids"], reduction="none")
    for scale, found in enumerate(recipe.losses(model, batch, recipe.size)):
        rows = slice(0, 7 if scale < recipe.coarse else recipe.size)
        assert float(found) == pytest.approx(float(every[rows, model.place(scale)].mean()), abs=1e-4)
    whole = recipe.losses(model, batch)
    assert float(whole[5]) == pytest.approx(float(every[:, model.place(5)].mean()), abs=1e-4)


def test_a_scale_counts_with_its_side(recipe, tiny):
    model, batch = tiny.fresh("scene-var-1").eval(), recipe.batch(0, 0)
    total, logs = recipe.loss(model, batch, 0)
    sides = model.scales
    wanted = sum(side * float(logs[f"ce{side}"]) for side in sides) / sum(sides)
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-5)
    by_tokens = sum(side**2 * float(logs[f"ce{side}"]) for side in sides) / sum(side**2 for side in sides)
    assert by_tokens != pytest.approx(wanted, rel=1e-5), "the paper's weights are others"


@torch.no_grad()
def test_only_idle_entries_start_again(tiny):
    made, model = SceneMVQ(0), copy.deepcopy(tiny.fresh("scene-mvq-1"))
    made.idle = torch.zeros(model.codebook_size)
    made.idle[[4, 9]] = made.patience + 1
    made.missed = torch.full((6, 10), 7.0), torch.ones(6, 10)
    before = model.entries.clone()
    made.after_step(model, 0, 0.1)
    changed = (model.entries != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [4, 9] and (model.entries[[4, 9]] == 7).all() and not made.idle.any()
    made.idle[4] = made.patience + 1
    model.entries[4] = 0.0
    made.after_step(model, 0, 0.9)
    assert not model.entries[4].any(), "near the end the codebook stays as it is"


def test_the_loudest_are_drawn_by_their_error():
    points, error = torch.arange(4.0)[:, None], torch.tensor([[0.0], [0.0], [3.0], [0.0]])
    assert set(scene_var.loudest(points, error, 50)[:, 0].tolist()) == {2.0}


def test_a_poor_tokenizer_is_refused(monkeypatch):
    poor = types.SimpleNamespace(card={"metrics": {"parser score of reconstructions": {"value": 0.5}}}, model=None)
    monkeypatch.setattr(scene_var, "load", lambda *_, **__: poor)
    with pytest.raises(ValueError, match="train it to 0.95 first"):
        SceneVAR(0).prepare("")


def test_centres_of_points_that_are_few_are_the_points():
    points = torch.from_numpy(np.repeat(np.eye(3, dtype=np.float32), 4, axis=0))
    centres = scene_var.k_means(points, 8)
    assert torch.cdist(points, centres).amin(1).max() < 1e-5
