"""Reading a network's layers: which states, normed alone, the reference's autoencoder, and figures of features."""
import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm

from models.backbones import layer_lens
from models.backbones.layer_lens import LayerLens, residuals
from models.claims.probe import per_group, told_by_features
from models.engine.statistics import auc, aucs
from tests.traps import caught, learns, only_these_move

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = torch.randint(4, 40, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net(tiny):
    made = tiny.fresh("algo-othello-1").eval()
    torch.nn.init.uniform_(made.model.norm.weight, 0.5, 2.0)  # as after a training: normed twice is not normed once
    return made


def test_states_are_those_between_the_blocks_and_none_is_normed(net):
    """Mutants: transformers' own list, whose last is normed; and the list without what goes into the first block."""
    with torch.no_grad():
        given = net.model(IDS, output_hidden_states=True).hidden_states
        after = net.model(IDS).last_hidden_state

    def whole(states) -> bool:
        return states.shape[2] == 7 and torch.equal(states[:, :, 0], net.model.embed_tokens(IDS)) and torch.allclose(
            net.model.norm(states[:, :, -1]), after, atol=1e-5)

    found = residuals(net, IDS)
    caught(whole, found, torch.stack(given, 2), found[:, :, 1:])


def test_what_is_read_at_a_place_knows_nothing_of_later_ones(net, monkeypatch):
    """Mutant: a norm over the whole window, as the reference has it."""
    lens, other = LayerLens.beside(net), IDS.clone()
    other[:, 5:] = 8

    def earlier(norm) -> bool:
        monkeypatch.setattr(layer_lens, "even", norm)
        one, two = (lens.read(residuals(net, ids), "mine")[:, :5] for ids in (IDS, other))
        return bool(torch.allclose(one, two, atol=1e-4))

    caught(earlier, layer_lens.even, lambda states: layer_norm(
        states.float().transpose(1, 2), states.shape[1::2]).transpose(1, 2))


def test_the_dictionary_is_tied_and_each_of_its_rows_has_length_one(net):
    """Mutant: the usual norm, that of each feature's column."""
    lens, states = LayerLens.beside(net, features=12, runs=2), residuals(net, IDS).flatten(0, 1)

    def scored(dim: int) -> bool:
        total = 0.0
        for run, layer in np.ndindex(2, 7):
            codes = lens.codes[run, layer] / lens.codes[run, layer].norm(dim=dim, keepdim=True)
            x = layer_lens.even(states[:, layer])
            h = (x @ codes).relu()
            total += ((h @ codes.T - x) ** 2).mean() + layer_lens.SPARSE * h.mean()
        return bool(torch.isclose(total, lens.coder_loss(states)[0], rtol=1e-4))

    caught(scored, 1, 0)
    assert torch.allclose(lens.features(states[:, 3], 3, 1).mean(), torch.relu(layer_lens.even(
        states[:, 3]) @ torch.nn.functional.normalize(lens.codes[1, 3], dim=-1)).mean())


def test_probes_and_autoencoders_learn_apart(net):
    states = residuals(net, IDS).flatten(0, 1)
    lens = LayerLens.beside(net, readings=("mine", "colour"), features=12)
    classes = torch.randint(3, (len(states), 36), generator=torch.Generator().manual_seed(1))
    only_these_move(lens, lambda lens: lens.probe_loss(states, classes, "colour"), ["probes"])
    only_these_move(lens, lambda lens: lens.coder_loss(states)[0], ["codes", "bias"])
    learns(lens, lambda lens: lens.probe_loss(states, classes, "colour"), rate=0.1)
    lens.probe_loss(states, classes, "colour").backward()
    assert not lens.probes.grad[0].any() and lens.probes.grad[1].abs().amax((1, 2)).min() > 0  # every layer of one set


def test_figures_of_features_are_those_of_each_by_itself(net):
    rng, lens = np.random.default_rng(0), LayerLens.beside(net, features=5, runs=1)
    scores, truth = rng.integers(4, size=(60, 5)), rng.random((60, 4)) < 0.4
    each = np.array([[auc(score, kind) for kind in truth.T] for score in scores.T])
    np.testing.assert_allclose(aucs(scores, truth), each)
    states = torch.randn(60, 7, 32, generator=torch.Generator().manual_seed(2))
    found = told_by_features(lens, states, truth, 2)
    one = aucs(lens.features(states[:, 4], 4).detach().numpy(), truth)
    best = one[:, :2].argmax(0)
    np.testing.assert_allclose(found[:, 0, 4], one[[*best, *best], range(4)])  # the same features are asked twice
    rows = per_group(np.array([1.0, 3.0, 5.0, 9.0]), np.array([0, 0, 2, 2]), 3, np.array([True, True, True, False]))
    assert rows[0] == 2 and np.isnan(rows[1]) and rows[2] == 5
