"""Hard patches mining: the traps its spec names, each with the mutant that the same check must refuse.

The losses (pairwise, within one picture) and the teacher's average are tested with the training recipe.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from models.engine.method import follow, prepare, run, twin
from models.engine.statistics import spearman
from models.loops.mask import photos
from models.papers.hpm import method as hpm
from tests.mask_nets import job_of, network, view

RATIO, SEED = 0.75, 3


@cache
def scores_of(shot):
    return network().difficulty(shot.pixels)


def mask_follows_the_prediction(choose):
    """Exactly n_hard patches are marked hard, they are the highest predicted ones, and the budget is met."""
    for seed in range(3):
        shot = view(seed)
        hidden = choose(shot, 0.5, torch.Generator().manual_seed(SEED))
        hard = {int(p) for p, why in zip(hidden.ids, hidden.why) if why == "masked-hard"}
        predicted = set(scores_of(shot)[0].topk(24).indices.tolist())
        assert len(hidden.ids) == len(set(hidden.ids)) == 48
        assert hard == predicted


def test_hard_patches_are_the_ones_predicted_hard():
    mask_follows_the_prediction(lambda shot, alpha, g: hpm.choose(scores_of(shot), alpha, RATIO, g))


def from_the_picture(shot, alpha, generator):
    return hpm.choose(shot.variance, alpha, RATIO, generator)


def from_the_true_error(shot, alpha, generator):
    noise = torch.rand(16, 64, generator=generator)
    patches, _ = photos.rebuild(network(), shot.pixels.expand(16, -1, -1, -1), noise, 48)
    return hpm.choose(photos.patch_error(patches, shot.target).mean(0, keepdim=True), alpha, RATIO, generator)


def from_a_masked_teacher(shot, alpha, generator):
    _, scores, _ = network().both(shot.pixels, torch.rand(1, 64, generator=generator))
    return hpm.choose(scores, alpha, RATIO, generator)


def everything_hard(shot, alpha, generator):
    return hpm.choose(scores_of(shot), 1.0, RATIO, generator)


@pytest.mark.parametrize("mutant", (from_the_picture, from_the_true_error, from_a_masked_teacher, everything_hard))
def test_mutants_of_the_mask_are_refused(mutant):
    with pytest.raises(AssertionError):
        mask_follows_the_prediction(mutant)


def the_rest_is_uniform(choose):
    """Every patch outside the hard ones is hidden about equally often: 24 of the 40 others per draw."""
    shot, times = view(), np.zeros(64)
    for seed in range(100):
        times[choose(shot, 0.5, torch.Generator().manual_seed(seed)).ids] += 1
    others = np.sort(scores_of(shot)[0].numpy().argsort()[:40])
    assert np.abs(times[others] / 100 - 24 / 40).max() < 0.2


def test_the_rest_of_the_mask_is_random():
    the_rest_is_uniform(lambda shot, alpha, g: hpm.choose(scores_of(shot), alpha, RATIO, g))

    def next_hardest(shot, alpha, generator):
        return hpm.choose(scores_of(shot), 1.0, RATIO, generator)

    with pytest.raises(AssertionError):
        the_rest_is_uniform(next_hardest)


def schedule_ends_at_one_half(share):
    values = [share(hpm.Params(progress=p)) for p in (0, 50, 100)]
    assert values == [0.0, 0.25, 0.5]


def test_schedule_runs_from_random_to_half_hard():
    schedule_ends_at_one_half(hpm.hard_share)
    for mutant in (lambda p: p.progress / 100, lambda p: 1.0, lambda p: 0.5):
        with pytest.raises(AssertionError):
            schedule_ends_at_one_half(mutant)
    assert hpm.hard_share(hpm.Params(progress=0, share="own", alpha=0.8)) == 0.8


def test_without_hard_patches_the_mask_is_purely_random():
    hidden = hpm.choose(scores_of(view()), 0.0, RATIO, torch.Generator().manual_seed(1))
    assert set(hidden.why) == {"masked-random"} and len(hidden.ids) == 48


def averages_only_masks_that_hide_it(true_difficulty):
    shot, params = view(), hpm.Params()
    found, _ = true_difficulty(network(), shot, params, torch.Generator().manual_seed(1))
    noise = torch.rand(hpm.MASKS, 64, generator=torch.Generator().manual_seed(1))
    expected = np.full(64, np.nan)
    alone = [photos.rebuild(network(), shot.pixels, row[None], 48) for row in noise]
    for patch in range(64):
        errors = [photos.patch_error(rebuilt, shot.target)[0, patch] for rebuilt, mask in alone if mask[0, patch]]
        expected[patch] = np.mean(errors) if errors else np.nan
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_true_difficulty_is_the_mean_over_masks_that_hide_the_patch():
    averages_only_masks_that_hide_it(hpm.true_difficulty)

    def over_all_masks(model, shot, params, generator):
        noise = torch.rand(hpm.MASKS, 64, generator=generator)
        patches, _ = photos.rebuild(model, shot.pixels.expand(hpm.MASKS, -1, -1, -1), noise, 48)
        return photos.patch_error(patches, shot.target).mean(0).numpy(), 0.0

    with pytest.raises(AssertionError):
        averages_only_masks_that_hide_it(over_all_masks)


def test_true_error_is_never_asked_before_the_mask_is_chosen(tiny, monkeypatch):
    """Hiding the hard patches gives the same mask when the network rebuilds nonsense."""
    honest = next(hpm.run(job_of("hpm", seed=1)))  # Open; the mask step follows
    first = [e for e in hpm.run(job_of("hpm", seed=1))][2].step.state
    rebuild = photos.rebuild

    def nonsense(*given):
        patches, mask = rebuild(*given)
        return patches + torch.randn_like(patches), mask

    monkeypatch.setattr("models.loops.mask.loop.rebuild", nonsense)
    monkeypatch.setattr("models.papers.hpm.method.rebuild", nonsense)
    assert honest.tab == "mask"
    assert np.array_equal([e for e in hpm.run(job_of("hpm", seed=1))][2].step.state, first)


def test_unit_of_the_difficulty_is_named(tiny):
    for target, unit in (("raw", "MSE"), ("normalised", "patch variances")):
        trace = run("hpm", params={"target": target}).traces["mask"]
        assert trace.fields["difficulty"].unit == unit == trace.facts["error"].unit


def test_twin_is_a_random_mask_on_the_same_network(tiny):
    job = prepare("hpm", params={"mask_ratio": 0.5, "target": "normalised"}, seed=9)
    other = twin(job)
    assert other.bundle.name == job.bundle.name == "photo-hpm-1" and other.seed == 9
    assert (other.params.mask_ratio, other.params.rule, other.params.target) == (0.5, "random", "normalised")


def test_attention_of_both_arms_stands_side_by_side(tiny):
    trace = run("hpm").traces["attend"]
    assert trace.heads.entropy.shape[0] == len(trace.heads.names) == 2
    assert "random masks" in trace.heads.names[0] and "hard patches" in trace.heads.names[1]


def test_snapshot_nearest_to_the_progress_is_used(tiny, tmp_path, monkeypatch):
    import dataclasses
    import json
    (tmp_path / "at-34-percent").mkdir()
    (tmp_path / "at-34-percent" / "snapshot.json").write_text(json.dumps({"progress": 0.34}))
    asked = []
    monkeypatch.setattr(hpm, "load", lambda name, **_: asked.append(name))
    for progress, expected in ((0, 34), (60, 34), (70, 100), (100, 100)):
        job = prepare("hpm", params={"progress": progress})
        job = dataclasses.replace(job, bundle=dataclasses.replace(job.bundle, folder=tmp_path))
        assert hpm.snapshot(job)[1] == expected
    assert asked == [str(tmp_path / "at-34-percent")] * 2


def test_spearman_counts_ties_and_misses():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 2, 3], [3, 2, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, np.nan, 3], [1, 2, 99, 3]) == pytest.approx(1)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0


def drawn_before_the_difficulty_is_measured(results):
    """The scores, the mask and the rebuilt picture are there before the sixteen further masks are."""
    first = next(found.traces["mask"] for found in results if "mask" in found.traces)
    assert len(first.steps) == 2 and len(first.steps[1].where("masked-hard", "masked-random")) > 0


def test_the_mask_is_drawn_before_the_true_difficulty_is_measured(tiny, monkeypatch):
    right = hpm.run
    monkeypatch.setattr(hpm, "true_difficulty", lambda *more: pytest.fail("measured before the mask was drawn"))
    drawn_before_the_difficulty_is_measured(follow(prepare("hpm")))

    def measured_first(job):  # the mutant: all of the record, then its steps
        yield from list(right(job))
    job = prepare("hpm")
    with pytest.raises(pytest.fail.Exception):
        drawn_before_the_difficulty_is_measured(follow(replace(job, method=replace(job.method, run=measured_first))))
