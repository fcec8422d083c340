"""The Mask loop and its baseline: exact masks, honest fills, an untouched config. Traps have mutants."""

import dataclasses

import numpy as np
import pytest
import torch

from models.baselines.mae import method as mae
from models.engine.method import Close, run
from models.loops.mask import loop, photos
from models.trace import states
from models.trace.params import ParamError
from tests.mask_nets import job_of, network, picture, view


def test_pass_under_a_mask_is_the_librarys():
    model, shot, noise = network(), view(), torch.rand(1, 64, generator=torch.Generator().manual_seed(1))
    ours, mask = photos.rebuild(model, shot.pixels, noise, 48)
    theirs = model(shot.pixels, noise=noise)
    torch.testing.assert_close(ours, theirs.logits)
    assert torch.equal(mask, theirs.mask)
    error = (photos.patch_error(ours, shot.target) * mask).sum() / mask.sum()
    torch.testing.assert_close(error, theirs.loss)


def test_any_ratio_leaves_the_shared_config_alone():
    before = network().config.mask_ratio
    for n_mask in (16, 32, 58):
        _, mask = photos.rebuild(network(), view().pixels, photos.noise_of(np.arange(n_mask), 64), n_mask)
        assert mask[0, :n_mask].all() and not mask[0, n_mask:].any()
    assert network().config.mask_ratio == before


def hides_exactly(noise_of):
    wanted = np.array([0, 5, 17, 40, 63])
    _, mask = photos.rebuild(network(), view().pixels, noise_of(wanted, 64), len(wanted))
    assert np.array_equal(np.flatnonzero(mask[0].numpy()), wanted)


def test_noise_keeps_the_lowest():
    hides_exactly(photos.noise_of)

    def upside_down(hidden, count):
        return 1 - photos.noise_of(hidden, count)

    with pytest.raises(AssertionError):
        hides_exactly(upside_down)


@pytest.mark.parametrize("rule", mae.RULES)
@pytest.mark.parametrize("ratio", (0.25, 0.6, 0.75, 0.9))
def test_every_rule_hides_exactly_the_budget(rule, ratio):
    n_mask = photos.masked_count(64, ratio)
    order = mae.rank(rule, (8, 8), n_mask, torch.Generator().manual_seed(2))
    assert sorted(order) == list(range(64)) and n_mask == 64 - int(64 * (1 - ratio))


def test_grid_keeps_one_patch_in_each_square():
    hidden = np.zeros(64, int)
    hidden[mae.rank("grid", (8, 8), 48, torch.Generator())[:48]] = 1
    assert (hidden.reshape(4, 2, 4, 2).sum((1, 3)) == 3).all()


def test_blocks_are_more_compact_than_random_patches():
    def borders(rule, seed):
        hidden = np.zeros(64, int)
        hidden[mae.rank(rule, (8, 8), 32, torch.Generator().manual_seed(seed))[:32]] = 1
        grid = hidden.reshape(8, 8)
        return np.abs(np.diff(grid, axis=0)).sum() + np.abs(np.diff(grid, axis=1)).sum()

    assert sum(borders("block", s) for s in range(10)) < 0.8 * sum(borders("random", s) for s in range(10))


def never_looks_behind_the_mask(fill):
    shot, mask = view(), torch.zeros(1, 64)
    mask[0, 10:50] = 1
    changed = shot.target + 3 * mask[..., None]
    torch.testing.assert_close(fill(shot.target, mask)[0, 10:50], fill(changed, mask)[0, 10:50])


def test_fills_never_look_behind_the_mask():
    never_looks_behind_the_mask(photos.mean_fill)
    never_looks_behind_the_mask(lambda target, mask: photos.inpaint(network(), target, mask))

    def mean_of_everything(target, mask):
        colours = target.unflatten(-1, (-1, 3))
        return colours.mean((1, 2))[:, None, None].expand_as(colours).flatten(2)

    with pytest.raises(AssertionError):
        never_looks_behind_the_mask(mean_of_everything)


def test_inpainting_is_exact_on_a_flat_picture_and_keeps_what_is_visible():
    flat, mask = torch.full((1, 64, 192), 0.7), torch.ones(1, 64)
    mask[0, 3] = 0
    torch.testing.assert_close(photos.inpaint(network(), flat, mask), flat)
    shot = view()
    torch.testing.assert_close(photos.inpaint(network(), shot.target, mask)[0, 3], shot.target[0, 3])


def flat_patches_look_hard_when_normalised(error):
    target = torch.randn(1, 2, 192, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.05, 1.0])[:, None]
    guess = torch.zeros_like(target)
    guess[0, 0] = 0.2
    raw, normalised = error(guess, target, False)[0], error(guess, target, True)[0]
    assert raw[0] < raw[1] and normalised[0] > normalised[1]


def test_normalised_targets_change_the_ranking():
    flat_patches_look_hard_when_normalised(photos.patch_error)
    with pytest.raises(AssertionError):
        flat_patches_look_hard_when_normalised(lambda a, b, normalised: photos.patch_error(a, b))


def visible_patches_stay_the_originals(steps):
    shot = view()
    pasted = next(step for step in steps if "pasted" in step.label)
    kept = np.flatnonzero(pasted.state == states("visible")[0])
    cells = pasted.picture.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, -1)
    truth = shot.shown.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, -1)
    assert np.array_equal(cells[kept], truth[kept])


def test_pasted_picture_keeps_visible_patches(tiny):
    job, shot = job_of("mae"), view()
    exam = loop.sit(job, shot, loop.Hidden(np.arange(48), ("masked",) * 48))
    steps = list(loop.exam_steps(network(), shot, exam))
    visible_patches_stay_the_originals(steps)
    raw = dataclasses.replace(steps[1], picture=steps[2].picture)  # the network's whole output shown as if pasted
    with pytest.raises(AssertionError):
        visible_patches_stay_the_originals([raw])


def test_errors_are_shown_for_hidden_patches_only(tiny):
    exam = loop.sit(job_of("mae"), view(), loop.Hidden(np.arange(48), ("masked",) * 48))
    shown = exam.on_hidden("loss")
    assert np.isfinite(shown[:48]).all() and np.isnan(shown[48:]).all()
    assert exam.mean() == pytest.approx(shown[:48].mean())


def test_visitors_mask_is_the_one_that_is_rebuilt(tiny):
    chosen = tuple(range(48))
    trace = run("mae", choice=(chosen,)).traces["mask"]
    assert tuple(trace.steps[0].where("masked")) == chosen
    for wrong in (tuple(range(47)), (*range(47), 64), (*range(47), 0)):
        with pytest.raises(ParamError):
            run("mae", choice=(wrong,))


def test_scores_of_visitor_and_method_are_the_same_quantity(tiny):
    own = run("mae", seed=4)
    hidden = tuple(int(i) for i in own.traces["mask"].steps[0].where("masked-random"))
    again = run("mae", seed=4, choice=(hidden,))
    assert again.traces["mask"].facts["error"].value == pytest.approx(own.traces["mask"].facts["error"].value)


def test_grey_photos_and_odd_sizes_are_cut_to_the_middle_square():
    wide = np.concatenate([np.zeros((40, 30, 3), np.uint8), picture(size=40), np.zeros((40, 30, 3), np.uint8)], 1)
    assert np.array_equal(photos.photo(wide, network()).shown, photos.photo(picture(size=40), network()).shown)


@pytest.mark.parametrize("id", ("mae", "hpm"))
def test_half_precision_networks_run_and_agree(id, tiny):
    import copy
    job = job_of(id, seed=2)
    half = dataclasses.replace(job, bundle=dataclasses.replace(job.bundle, model=copy.deepcopy(network()).bfloat16()))
    full, less = (next(e for e in one.method.run(one) if isinstance(e, Close)) for one in (job, half))
    assert less.facts["error"].value == pytest.approx(full.facts["error"].value, rel=0.1)
