"""The recipes of the adapters: where masks stand, whose tokens they learn, and that nothing but the adapters moves."""

import copy

import numpy as np
import pytest
import torch

from models.papers.mtp_future import recipe as mtp
from models.papers.mtp_future.recipe import LONG, PAD, AlgoMTP, TextMTP, continued, kept

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def made(tiny):
    """The recipe of sums on the tiny base, without files."""
    recipe = AlgoMTP(seed=3)
    recipe.autocast, recipe.rows, recipe.per_text = False, 4, 8
    recipe.base, recipe.revision = copy.deepcopy(tiny.bundle("algo-arithmetic-1").model), "tiny"
    recipe.tok, recipe.stop_word = None, 10
    rng = np.random.default_rng(0)
    recipe.texts = rng.integers(20, 60, (6, recipe.length)).astype(np.uint16)
    recipe.texts[:, 12], recipe.texts[:, 40:] = 10, PAD
    recipe.held = recipe.texts
    return recipe


def test_blocks_stay_inside_the_text_and_batches_depend_on_the_step_alone(made):
    first, again, other = made.batch(4, 0.0), made.batch(4, 0.9), made.batch(5, 0.0)
    assert torch.equal(first["ids"], again["ids"]) and torch.equal(first["anchors"], again["anchors"])
    assert not torch.equal(first["anchors"], other["anchors"])
    for step in range(20):
        anchors = made.batch(step, 0.0)["anchors"]
        assert len(set(anchors.tolist())) == 8 and int(anchors.max()) + LONG + 1 < made.length
        assert int(anchors.min()) >= made.first


def test_only_the_solution_counts(made):
    counted = made.counts(torch.from_numpy(made.texts.astype(np.int64)))[0]
    assert counted[:13].sum() == 0 and counted[13:40].all() and counted[40:].sum() == 0


def test_the_loss_falls_and_only_adapters_move(made):
    model, batch = made.build(), made.batch(0, 0.0)
    before = {name: weight.clone() for name, weight in made.base.named_parameters()}
    optimiser, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(10):
        loss, logs = made.loss(model, batch, 0.0)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0] and set(logs) == {"masks", "sampler", "consistency"}
    assert all(torch.equal(weight, before[name]) for name, weight in made.base.named_parameters())
    assert all(weight.grad is not None and float(weight.grad.abs().sum()) > 0 for weight in model.parameters())
    ahead, plain = made.runs(model, made.held)
    assert ahead.shape == plain.shape == (6,) and 0 <= float(ahead.min()) and float(ahead.max()) <= mtp.SHORT


def test_own_texts_are_the_bases_greedy_ones_and_end_in_padding(made):
    ids = torch.tensor([[0, 30, 31], [0, 40, 41]])
    texts = continued(made.base, ids, 20)
    assert texts.shape == (2, 20) and (texts[:, :3] == ids.numpy()).all()
    step = made.base(torch.from_numpy(texts[:, :8].astype(np.int64))).logits[:, -1].argmax(-1)
    assert (texts[:, 8] == step.numpy()).all()
    ended = (texts[:, 3:] == 0).cumsum(1) - (texts[:, 3:] == 0) > 0
    assert (texts[:, 3:][ended] == PAD).all()


def test_texts_are_written_once(tmp_path):
    made = []

    def write():
        made.append(1)
        return np.zeros((1, 2), np.uint16), np.ones((1, 2), np.uint16)

    for _ in range(2):
        texts, held = kept(tmp_path / "own.npz", write)
    assert made == [1] and texts.sum() == 0 and held.sum() == 2


def test_half_of_the_stories_are_books(made, monkeypatch):
    recipe = TextMTP(seed=1)
    recipe.rows, recipe.train = 6, np.full(4000, 7, np.uint16)
    recipe.texts = np.full((5, recipe.length), 9, np.uint16)
    ids = recipe.chosen(np.random.default_rng(0), 0)
    assert ids.shape == (6, recipe.length) and (ids == 7).all(1).sum() == 3 and (ids == 9).all(1).sum() == 3
