"""Probes read what is in frozen features, choose their penalty on what they learn from, and give hits per photo."""

import numpy as np
import pytest
import torch

from models.claims import probe


def features(count: int, width: int, tell: float, seed: int):
    """[K, D] and labels of three classes; `tell` is how far apart the classes lie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    return rng.normal(size=(count, width)) + tell * np.eye(width)[labels], labels


def test_a_linear_probe_finds_what_is_there_and_nothing_where_nothing_is():
    for tell, least, most in ((4.0, 0.95, 1.0), (0.0, 0.2, 0.47)):
        (learn, labels), (check, truth) = (features(300, 20, tell, seed) for seed in (1, 2))
        found = probe.ridge(learn, labels, check, truth)
        assert set(found) <= {0.0, 1.0} and least <= found.mean() <= most


def test_the_penalty_is_chosen_by_cross_validation():
    """More features than photos: the smallest penalty fits noise, and the folds see it."""
    learn, labels = features(90, 72, 1.5, 3)
    scores = probe.validated(learn, np.eye(3)[labels], labels, 0)
    fitted = probe.answers(learn - learn.mean(0), np.eye(3)[labels], learn - learn.mean(0), probe.PENALTIES)
    assert (fitted[0] == labels).all() and scores.max() > scores[0] + 0.05, "mutant: chosen by how well it fits"


def test_one_decomposition_solves_every_penalty():
    learn, labels = features(60, 8, 1.0, 5)
    targets = np.eye(3)[labels]
    learn = learn - learn.mean(0)
    for penalty, found in zip((0.01, 1.0), probe.answers(learn, targets, learn, (0.01, 1.0))):
        right = np.linalg.solve(learn.T @ learn + penalty * 60 * np.eye(8), learn.T @ (targets - targets.mean(0)))
        np.testing.assert_array_equal(found, (learn @ right + targets.mean(0)).argmax(1))


def test_an_attentive_probe_finds_one_token_among_many():
    """The class stands in one token, marked by its last feature: a mean over tokens drowns it."""
    dice = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (500,), generator=dice)
    tokens = torch.randn(500, 16, 8, generator=dice)
    at = torch.randint(16, (500,), generator=dice)
    tokens[torch.arange(500), at] = torch.nn.functional.one_hot(labels, 8).float() * 4
    tokens[torch.arange(500), at, 7] = 8
    asked = (tokens[:400], labels[:400].numpy(), tokens[400:], labels[400:].numpy())
    found = probe.attentive(*asked, steps=300)
    mean = probe.ridge(tokens[:400].mean(1).numpy(), asked[1], tokens[400:].mean(1).numpy(), asked[3])
    assert found.mean() > 0.9 > mean.mean()
    with pytest.raises(AssertionError):  # mutant: labels that do not belong to the photos
        assert probe.attentive(asked[0], np.roll(asked[1], 1), *asked[2:], steps=50).mean() > 0.9


def test_hits_take_logits_or_something_that_has_them():
    pixels, truth = torch.eye(3).repeat(40, 1), np.tile([0, 1, 1], 40)
    box = type("Out", (), {})
    wrapped = lambda part: setattr(out := box(), "logits", part) or out  # noqa: E731
    assert probe.hits(lambda part: part, pixels, truth).mean() == pytest.approx(2 / 3)
    np.testing.assert_array_equal(probe.hits(wrapped, pixels, truth), probe.hits(lambda part: part, pixels, truth))
