"""Hard patches mining: the traps its spec names, each with the mutant that the same check must refuse."""

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from models.checkpoints.store import load
from models.engine import follow, prepare, run, twin
from models.loops.mask import photos
from models.papers.hpm import method as hpm
from models.papers.hpm import network as net
from models.papers.hpm.recipe import PhotoHPM
from tests import tiny as stand_ins
from tests.mask_nets import network, view
from tests.photo_nets import filled
from tests.traps import caught, dice, moved, moving

RATIO, HIDDEN = 0.75, 48


@cache
def scores_of(shot):
    return network().difficulty(shot.pixels)


# ---- the losses

def pair_loop(scores, losses) -> float:
    """The relative loss, written as the spec's sentence."""
    total, pairs = 0.0, 0
    for s, ell in zip(scores.tolist(), losses.tolist(), strict=True):
        for i in range(len(s)):
            for j in range(len(s)):
                if ell[i] != ell[j]:
                    p = 1 / (1 + math.exp(-(s[i] - s[j])))
                    total -= math.log(p + 1e-6) if ell[i] > ell[j] else math.log(1 - p + 1e-6)
                    pairs += 1
    return total / pairs


def across_pictures(scores, losses):
    return net.relative_loss(scores.reshape(1, -1), losses.reshape(1, -1))


def squared(scores, losses):
    return (scores - losses).pow(2).mean()


def z_scored(scores, losses):
    """The paper's ablation: the losses themselves, z-scored within each picture."""
    return squared(scores, (losses - losses.mean(1, keepdim=True)) / (losses.std(1, keepdim=True) + 1e-6))


def test_the_relative_loss_counts_pairs_of_one_picture_and_only_their_order():
    torch.manual_seed(1)
    scores, losses = torch.randn(3, 7), torch.rand(3, 7)
    losses[0, 1] = losses[0, 2]  # a tie is no pair
    caught(lambda f: f(scores, losses).item() == pytest.approx(pair_loop(scores, losses), rel=1e-5),
           net.relative_loss, across_pictures, squared, z_scored)
    scaled = losses * torch.tensor([[1.0], [50.0], [3.0]]) + torch.tensor([[0.0], [9.0], [1.0]])
    caught(lambda f: torch.allclose(f(scores, losses), f(scores, scaled)), net.relative_loss, across_pictures, squared)


def test_losses_are_a_target_without_gradient_and_latents_are_not_detached():
    def loss(detached: bool):
        def ordered(model):
            pixels = torch.randn(2, 3, 64, 64, generator=dice())
            rebuilt, scores, mask = model.both(pixels, torch.rand(2, 64, generator=dice()))
            assert mask.sum(1).tolist() == [HIDDEN] * 2
            ell = photos.patch_error(rebuilt, model.patchify(pixels))
            return net.relative_loss(scores, ell) if not detached else (scores - ell).pow(2).mean()
        return ordered

    def reaches_encoder_alone(ordered):
        names = moving(stand_ins.fresh("photo-hpm-1").requires_grad_(True), ordered)
        return any(n.startswith("vit.layers") for n in names) and not any(n.startswith("decoder.") for n in names)
    caught(reaches_encoder_alone, loss(False), loss(True))


# ---- the mask

def follows_the_prediction(choose):
    """Exactly n_hard patches are marked hard, they are the highest predicted ones, and the budget is met."""
    for shot, alpha in zip(map(view, range(4)), (0.5, 0.0, 0.3, 1.0)):
        hidden = choose(shot, alpha, dice())
        hard = {int(p) for p, why in zip(hidden.ids, hidden.why) if why == "masked-hard"}
        assert len(hidden.ids) == len(set(hidden.ids)) == HIDDEN
        assert hard == set(scores_of(shot)[0].topk(int(alpha * HIDDEN)).indices.tolist())


def by_the_teacher(shot, alpha, generator):
    return hpm.choose(scores_of(shot), alpha, RATIO, generator)


def from_the_picture(shot, alpha, generator):
    return hpm.choose(shot.variance, alpha, RATIO, generator)


def from_the_true_error(shot, alpha, generator):
    noise = torch.rand(16, 64, generator=generator)
    error, _ = photos.errors(network(), shot.pixels.expand(16, -1, -1, -1), noise, HIDDEN)
    return hpm.choose(error.mean(0, keepdim=True), alpha, RATIO, generator)


def from_a_masked_teacher(shot, alpha, generator):
    return hpm.choose(network().scored(shot.pixels, torch.rand(1, 64, generator=generator)), alpha, RATIO, generator)


def everything_hard(shot, alpha, generator):
    return hpm.choose(scores_of(shot), 1.0, RATIO, generator)


def test_hard_patches_are_the_ones_predicted_hard():
    caught(follows_the_prediction, by_the_teacher, from_the_picture, from_the_true_error, from_a_masked_teacher,
           everything_hard)


def the_rest_is_uniform(choose):
    """Every patch outside the hard ones is hidden about equally often: 24 of the 40 others per draw."""
    shot, times = view(), np.zeros(64)
    for seed in range(100):
        times[choose(shot, 0.5, dice(seed)).ids] += 1
    others = np.sort(scores_of(shot)[0].numpy().argsort()[:40])
    assert np.abs(times[others] / 100 - 24 / 40).max() < 0.2


def test_the_rest_of_the_mask_is_random():
    caught(the_rest_is_uniform, by_the_teacher, everything_hard)


def test_schedule_runs_from_random_to_half_hard():
    caught(lambda share: [share(hpm.Params(progress=p)) for p in (0, 50, 100)] == [0.0, 0.25, 0.5],
           hpm.hard_share, lambda p: p.progress / 100, lambda p: 1.0, lambda p: 0.5)
    assert hpm.hard_share(hpm.Params(progress=0, share="own", alpha=0.8)) == 0.8


# ---- the teacher

def test_the_teacher_sees_every_patch():
    model, pixels = network(), torch.randn(1, 3, 64, 64, generator=dice())
    last = slice(56, 64)  # rows of pixels

    def hears_the_last_patch(score):
        return bool(moved(lambda x: score(x.transpose(1, 2)), pixels.transpose(1, 2), last, atol=1e-7)[0])
    caught(hears_the_last_patch, model.difficulty, lambda x: model.scored(x, torch.arange(64.0).expand(len(x), -1)))


def test_masks_come_from_the_averaged_teacher_and_not_from_the_student(monkeypatch):
    """With an untouched teacher the masks stay, however far the student has gone."""
    def asked(of_student: bool) -> bool:
        recipe = filled(PhotoHPM, monkeypatch)
        student = recipe.build()
        if of_student:
            recipe.score = student.difficulty
        before = recipe.batch(0, 1.0)["noise"]
        with torch.no_grad():
            for weight in student.parameters():
                weight.add_(0.5 * torch.randn(weight.shape, generator=dice()))
        return torch.equal(before, recipe.batch(0, 1.0)["noise"])
    caught(asked, False, True)


@torch.no_grad()
def test_the_early_teacher_is_shipped_as_it_was(monkeypatch, tmp_path):
    recipe = filled(PhotoHPM, monkeypatch)
    student = recipe.build()
    for progress in (0.2, 0.35, 0.9):
        student.decoder.mask_token += 1
        recipe.after_step(student, 0, progress)
    recipe.save(recipe.teacher, tmp_path)
    early = load(str(tmp_path / "at-35-percent")).model.decoder.mask_token
    then = recipe.moments["at-35-percent"]["weights"]["decoder.mask_token"]
    caught(lambda weight: torch.allclose(early, weight, atol=0.02), then, recipe.teacher.decoder.mask_token)


def test_snapshot_nearest_to_the_progress_is_used(tiny, tmp_path, monkeypatch):
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "snapshot.json").write_text(json.dumps({"progress": 0.34}))
    monkeypatch.setattr(hpm, "like", lambda bundle, folder: folder.name)
    for progress, expected in ((0, 34), (60, 34), (70, 100), (100, 100)):
        job = prepare("hpm", params={"progress": progress})
        bundle, found = hpm.snapshot(replace(job, bundle=replace(job.bundle, folder=tmp_path)))
        assert found == expected and (bundle == "early") == (expected == 34)


# ---- the true difficulty, which is only drawn

def averages_only_masks_that_hide_it(true_difficulty):
    shot = view()
    found, _ = true_difficulty(network(), shot.pixels, RATIO, dice(1))
    alone = [photos.rebuild(network(), shot.pixels, row[None], HIDDEN)
             for row in torch.rand(hpm.MASKS, 64, generator=dice(1))]
    for patch in range(64):
        errors = [photos.patch_error(rebuilt, shot.target)[0, patch] for rebuilt, mask in alone if mask[0, patch]]
        np.testing.assert_allclose(found[0, patch], np.mean(errors) if errors else np.nan, rtol=1e-3)


def over_all_masks(model, pixels, mask_ratio, generator):
    error, _ = photos.errors(model, pixels.expand(hpm.MASKS, -1, -1, -1),
                             torch.rand(hpm.MASKS, 64, generator=generator), HIDDEN)
    return error.mean(0, keepdim=True), None


def test_true_difficulty_is_the_mean_over_masks_that_hide_the_patch():
    caught(averages_only_masks_that_hide_it, hpm.true_difficulty, over_all_masks)


def measured_first(job):  # the mutant: all of the record, then its steps
    yield from list(hpm.run(job))


def test_the_mask_is_drawn_before_the_true_difficulty_is_asked(tiny, monkeypatch):
    """The scores, the mask and the rebuilt picture are there before the sixteen further masks are."""
    monkeypatch.setattr(hpm, "true_difficulty", lambda *more, **_: pytest.fail("measured before the mask was drawn"))

    def drawn_first(run):
        job = prepare("hpm")
        first = next(found.traces["mask"] for found in follow(replace(job, method=replace(job.method, run=run)))
                     if "mask" in found.traces)
        assert len(first.steps) == 2 and len(first.steps[1].where("masked-hard", "masked-random")) > 0
    caught(drawn_first, hpm.run, measured_first)


# ---- the records

def test_units_arms_and_the_twin_are_named(tiny):
    for target, unit in (("raw", "MSE"), ("normalised", "patch variances")):
        traces = run("hpm", params={"target": target}).traces
        assert traces["mask"].fields["difficulty"].unit == unit == traces["mask"].facts["error"].unit
    heads = traces["attend"].heads
    assert heads.entropy.shape[0] == len(heads.names) == 2
    assert "random masks" in heads.names[0] and "hard patches" in heads.names[1]
    job = prepare("hpm", params={"mask_ratio": 0.5, "target": "normalised"}, seed=9)
    other = twin(job)
    assert other.bundle.name == job.bundle.name == "photo-hpm-1" and other.seed == 9
    assert (other.params.mask_ratio, other.params.rule, other.params.target) == (0.5, "random", "normalised")
