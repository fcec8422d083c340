"""Photo classifiers in the Attend tab: maps, ranks and boxes, the control beside iLLaMA, and both claims."""

import json

import numpy as np
import torch

from models.baselines.vit import claim as vit_claim
from models.baselines.vit import method as vit
from models.engine.method import find, prepare, twin
from models.loops.attend import classifiers
from tests.photo_nets import photos
from tests.tiny import vit as tiny_vit


def test_effective_rank_is_the_fair_measure():
    same, own = np.full((8, 8), 1 / 8), np.eye(8)
    causal = np.tril(np.ones((8, 8))) / np.arange(1, 9)[:, None]
    numerical, effective = classifiers.ranks(np.stack([same, own, causal]))
    np.testing.assert_allclose(effective[:2], [1, 8])
    assert list(numerical) == [1, 8, 8] and 2 < effective[2] < 6, "triangular maps have full numerical rank"


def test_the_vits_maps_are_the_librarys():
    net = tiny_vit().eval().requires_grad_(False)
    seen = classifiers.look(vit.arm_of(net), photos(1))
    torch.testing.assert_close(torch.from_numpy(seen.answers[-1:]), net(photos(1)).logits.softmax(-1))
    net.set_attn_implementation("eager")
    theirs = torch.cat(net(photos(1), output_attentions=True).attentions).numpy()
    np.testing.assert_allclose(seen.maps, theirs, atol=1e-5)
    assert seen.deleted.max() == 0 and not net.config.output_attentions


def test_training_curves_stand_together(monkeypatch, tmp_path):
    assert classifiers.curve_charts({"nobody": "no-such-checkpoint"}) == ()
    for name, more in (("one", {"a": 1.0}), ("two", {})):
        (tmp_path / name).mkdir()
        points = [{"step": step, "loss": 4 - step, "accuracy": step / 4, **more} for step in range(3)]
        (tmp_path / name / "curve.json").write_text(json.dumps(points))
    monkeypatch.setattr(classifiers.store, "SHIPPED", tmp_path)
    loss, right = classifiers.curve_charts({"soft": "one", "plain": "two", "nobody": "three"})
    assert list(loss.series) == ["soft", "plain"] and list(right.series) == ["soft", "plain", "a, soft"]
    np.testing.assert_array_equal(loss.series["plain"][:, 1], [4, 3, 2])


def test_a_box_covers_shares_of_patches():
    cover = vit_claim.covered(np.array([4, 0, 16, 8]))
    assert list(cover[:3]) == [0.5, 1, 0] and cover.sum() == 1.5
    assert vit_claim.covered(np.array([3, 3, 3, 3])).sum() == 0


def test_the_vit_stands_beside_it_with_the_same_map(tiny):
    other = twin(prepare("illama", params={"layer": 2}))
    assert other.method.id == "vit" and other.params.layer == 2 and find("vit").card.seed is None
