"""Attention distance and entropy: of whole rows, renormalised over the patches, in patches and bits."""

from types import SimpleNamespace

import numpy as np
import torch

from models.loops.attend.distance import AttentionSpread, last_third, spread, spread_charts, spread_facts
from models.loops.attend.reading import grid_layout
from tests.traps import caught

LAYOUT = grid_layout((2, 2), first=1)


def layer(rows):
    """What `observe` leaves of a layer whose attention is known: rows [B, H, S, S]."""
    return SimpleNamespace(rows_for=lambda asked: torch.as_tensor(rows)[:, :, asked])


def rows(*shares: float) -> np.ndarray:
    """Everybody gives [CLS] half, and patches 0, 1, 2, 3 these shares of the rest."""
    return np.tile(np.float32([0.5, *(np.array(shares) / 2)]), (1, 1, 5, 1))


def test_distance_is_the_mean_and_what_goes_to_the_class_token_counts_nowhere():
    found = spread([layer(rows(1, 0, 0, 0)), layer(rows(0.5, 0, 0, 0.5))], LAYOUT)
    assert found.distance.shape == (1, 2, 1, 4)
    far = 2**0.5

    def patch_0_looks(at):
        return np.allclose(found.distance[0, :, 0, 0], at, atol=1e-6)
    mutants = [0, far / 4], [0, 1.0], [0, 1.0 * 0.5]  # with [CLS] in the row; the root mean square; its half
    caught(patch_0_looks, [0, far / 2], *mutants)
    np.testing.assert_allclose(found.distance[0, 0, 0], [0, 1, 1, far], atol=1e-6)


def test_entropy_is_in_bits():
    def says(bits):
        return np.allclose(spread([layer(rows(0.5, 0.5, 0, 0))], LAYOUT).bits, bits, atol=1e-6)
    caught(says, 1.0, np.log(2), 1.5)  # mutants: nats; with [CLS] in the row
    assert spread([layer(rows(0, 1, 0, 0))], LAYOUT).bits.max() == 0


def test_charts_tell_layers_and_heads_of_every_network():
    one, two = (AttentionSpread(*np.random.default_rng(seed).random((2, 1, 6, 3, 4))) for seed in (0, 1))
    assert one.late("distance") == one.distance[:, 4:].mean() and len(last_third(np.arange(2), 0)) == 1
    by_layer, heads, *_ = spread_charts({"MAE": one, "LUT": two})
    assert set(by_layer.series) == {"MAE", "LUT"} and heads.rows[6] == "layer 1, LUT" and len(heads.rows) == 12
    np.testing.assert_allclose(by_layer.series["LUT"][:, 1], two.distance.mean((0, 2, 3)), rtol=1e-6)
    assert spread_facts({"MAE": one})["bits MAE"].value == one.late("bits")
