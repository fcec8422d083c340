"""Hard patches mining: the traps its spec names, each with the mutant that the same check must refuse."""

import dataclasses
import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from models.engine import follow, prepare, run, twin
from models.loops.mask import photos
from models.papers.hpm import method as hpm
from models.papers.hpm import network as net
from models.papers.hpm import trials
from tests import tiny as stand_ins
from tests.mask_nets import job_of, network, view
from tests.traps import caught, moved, moving

RATIO, SEED, HIDDEN = 0.75, 3, 48


def dice(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
    for seed in range(3):
        shot = view(seed)
        hidden = choose(shot, 0.5, dice())
        hard = {int(p) for p, why in zip(hidden.ids, hidden.why) if why == "masked-hard"}
        assert len(hidden.ids) == len(set(hidden.ids)) == HIDDEN
        assert hard == set(scores_of(shot)[0].topk(24).indices.tolist())


def by_the_teacher(shot, alpha, generator):
    return hpm.choose(scores_of(shot), alpha, RATIO, generator)


def from_the_picture(shot, alpha, generator):
    return hpm.choose(shot.variance, alpha, RATIO, generator)


def from_the_true_error(shot, alpha, generator):
    noise = torch.rand(16, 64, generator=generator)
    patches, _ = photos.rebuild(network(), shot.pixels.expand(16, -1, -1, -1), noise, HIDDEN)
    return hpm.choose(photos.patch_error(patches, shot.target).mean(0, keepdim=True), alpha, RATIO, generator)


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
    hidden = hpm.choose(scores_of(view()), 0.0, RATIO, dice())
    assert set(hidden.why) == {"masked-random"} and len(hidden.ids) == HIDDEN


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_mask_has_the_hardest_and_then_any_others(alpha):
    scores = torch.randn(4, 64)
    noise, hard = net.hard_mask(scores, alpha, RATIO, dice())
    hidden = noise.argsort(1).argsort(1) >= 16
    assert hidden.sum(1).tolist() == [HIDDEN] * 4 and hard.sum(1).tolist() == [int(HIDDEN * alpha)] * 4
    assert (hidden | ~hard).all()
    assert all(not h.any() or s[h].min() >= s[~h].max() for s, h in zip(scores, hard, strict=True))


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


def small_recipe():
    """The recipe on stand-ins: eight photos, four a step, nothing compiled."""
    from models.papers.hpm.recipe import PhotoHPM
    made = PhotoHPM(0)
    made.compile, made.batch_size, made.config = False, 4, stand_ins.mae_config
    made.train = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=dice())
    return made


def test_masks_come_from_the_averaged_teacher_and_not_from_the_student():
    """With an untouched teacher the masks stay, however far the student has gone; and the teacher follows slowly."""
    def asked(of_student: bool) -> bool:
        recipe = small_recipe()
        student = recipe.build()
        if of_student:
            recipe.teacher = student
        before = recipe.batch(0, 1.0)["noise"]
        with torch.no_grad():
            for weight in student.parameters():
                weight.add_(0.5 * torch.randn(weight.shape, generator=dice()))
        return torch.equal(before, recipe.batch(0, 1.0)["noise"])
    caught(asked, False, True)
    recipe = small_recipe()
    student, was = recipe.build(), recipe.teacher.loss_predictor.decoder_pred.bias.clone()
    with torch.no_grad():
        student.loss_predictor.decoder_pred.bias.add_(1.0)
    recipe.after_step(student, 0, 0.0)
    assert torch.allclose(recipe.teacher.loss_predictor.decoder_pred.bias - was, torch.tensor([0.05]))


def test_snapshot_nearest_to_the_progress_is_used(tiny, tmp_path, monkeypatch):
    (tmp_path / "at-34-percent").mkdir()
    (tmp_path / "at-34-percent" / "snapshot.json").write_text(json.dumps({"progress": 0.34}))
    asked = []
    monkeypatch.setattr(hpm, "load", lambda name, **_: asked.append(name))
    for progress, expected in ((0, 34), (60, 34), (70, 100), (100, 100)):
        job = prepare("hpm", params={"progress": progress})
        job = dataclasses.replace(job, bundle=dataclasses.replace(job.bundle, folder=tmp_path))
        assert hpm.snapshot(job)[1] == expected
    assert asked == [str(tmp_path / "at-34-percent")] * 2


# ---- the true difficulty, which is only drawn

def over_all_masks(model, shot, params, generator):
    noise = torch.rand(hpm.MASKS, 64, generator=generator)
    patches, _ = photos.rebuild(model, shot.pixels.expand(hpm.MASKS, -1, -1, -1), noise, HIDDEN)
    return photos.patch_error(patches, shot.target).mean(0).numpy(), 0.0


def averages_only_masks_that_hide_it(true_difficulty):
    shot = view()
    found, _ = true_difficulty(network(), shot, hpm.Params(), dice(1))
    expected = np.full(64, np.nan)
    alone = [photos.rebuild(network(), shot.pixels, row[None], HIDDEN)
             for row in torch.rand(hpm.MASKS, 64, generator=dice(1))]
    for patch in range(64):
        errors = [photos.patch_error(rebuilt, shot.target)[0, patch] for rebuilt, mask in alone if mask[0, patch]]
        expected[patch] = np.mean(errors) if errors else np.nan
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def of_many(model, shot, params, generator):
    """The claim's and the recipe's way, of one photo."""
    true, error = trials.by_trial(model, shot.pixels, hpm.MASKS, RATIO, seed=1)
    return true[0].numpy(), float(error)


def test_true_difficulty_is_the_mean_over_masks_that_hide_the_patch():
    caught(averages_only_masks_that_hide_it, hpm.true_difficulty, over_all_masks)
    true, _ = of_many(network(), view(), None, None)
    alone, _ = hpm.true_difficulty(network(), view(), hpm.Params(), dice(1))
    assert np.isfinite(true).all() and trials.spearman(true, alone) > 0.8  # other masks, nearly the same order


def test_true_error_is_never_asked_before_the_mask_is_chosen(tiny, monkeypatch):
    """Hiding the hard patches gives the same mask when the network rebuilds nonsense."""
    states = lambda: [event.step.state for event in list(hpm.run(job_of("hpm", seed=1)))[1:3]]  # noqa: E731
    honest, rebuild = states(), photos.rebuild

    def nonsense(*given):
        patches, mask = rebuild(*given)
        return patches + torch.randn_like(patches), mask

    monkeypatch.setattr("models.loops.mask.loop.rebuild", nonsense)
    monkeypatch.setattr(photos, "rebuild", nonsense)
    assert all(map(np.array_equal, states(), honest))


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
