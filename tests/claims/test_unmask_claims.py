"""The claims of the Unmask tab run end to end on a small sample, and their arithmetic is right."""

import importlib

import numpy as np
import pytest

from models.baselines.mdm import claim as text_claim
from models.claims import Lab, place, scene_lab
from models.papers.enat import claim as enat_claim


@pytest.mark.parametrize("id", ["maskgit", "mdm", "enat", "var"])
def test_a_claim_measures_and_states_a_verdict(id, tiny):
    found = importlib.import_module(place(id)).measure(Lab(quick=True))
    rows = [*found.rows, *getattr(found, "context", ())]
    assert found.method == id and len(rows) > 4 and found.reason and all(np.isfinite(r.value) for r in rows)


def test_equal_budget_is_read_off_the_bases_curve():
    full = {4: np.array([0.0, 0.2]), 8: np.array([1.0, 0.6])}
    cost = {4: 40.0, 8: 80.0}
    versus = scene_lab.versus
    assert versus("", np.array([0.5, 0.5]), full, cost, 60.0).value == pytest.approx(0.5 - 0.45)
    assert versus("", np.array([1.0, 1.0]), full, cost, 200.0).value == pytest.approx(1 - 0.8), "no extrapolation"


def test_random_order_and_nelbo_agree_on_a_uniform_model(tiny):
    """Both must give log2 of the vocabulary per token, whatever is masked."""
    bundle = tiny.bundle("text-mdm-1")
    import torch
    uniform = type("B", (), {"device": "cpu", "tokenizer": bundle.tokenizer, "model": type("M", (), {
        "mask_token_id": bundle.model.mask_token_id,
        "__call__": lambda self, ids: torch.zeros(*ids.shape, len(bundle.tokenizer))})()})()
    texts = text_claim.passages(bundle.tokenizer, 2)
    wanted = text_claim.HOLE * np.log2(len(bundle.tokenizer) - len(text_claim.specials(uniform)))
    for order in text_claim.ORDERS:
        assert text_claim.chain_bits(uniform, texts, order) == pytest.approx(wanted, rel=1e-4)
    assert text_claim.nelbo_bits(uniform, texts, 4) == pytest.approx(wanted, rel=1e-4)


def test_shuffled_cells_are_over_represented_once():
    """The permutation of ENAT's claim: by chance the lift is 1, whatever the number of new cells."""
    for fresh in (1, 7, 100):
        lifts = enat_claim.chance(np.random.default_rng(0), fresh, 256, 40)
        assert lifts.shape == (enat_claim.SHUFFLES, 40) and lifts.mean() == pytest.approx(1, abs=0.05)


def test_the_control_without_its_projection_hands_features_on(tiny):
    import torch
    model, x = tiny.bundle("scene-enat-1").model, torch.randn(2, 5, 32)
    assert torch.equal(enat_claim.unprojected(model).reuse(x), x)
    assert not torch.allclose(model.reuse(x), x, atol=0.01), "the shipped one is left as it is"
