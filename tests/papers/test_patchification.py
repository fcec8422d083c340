"""Patchification: the traps its spec names, each with the mutant that the same check must refuse."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from models.engine import prepare, run
from models.engine.method import find
from models.papers.patchification import claim, recipe, record, tokens
from models.papers.patchification.network import network
from tests.photo_nets import filled, photos
from tests.traps import caught, work_is_counted
from training import data

LABELS = tuple("abcdefghijklmnopqrst")
ARMS = [one for one in vars(recipe).values() if isinstance(one, type) and issubclass(one, recipe.Cut64by16)]


def settings(model: nn.Module) -> dict:
    """What a network is made of, apart from the picture's side and the cut."""
    return {key: value for key, value in model.config.to_dict().items() if key not in ("image_size", "patch_size")}


@cache
def built(side: int, patch: int, **other):
    return network(side, patch, LABELS, **other)


@pytest.fixture
def traces(tiny):
    return run("patchification", checkpoint="photo-cut-64by8-1").traces


# ---- only the cut differs

def test_patch_sizes_differ_in_the_cut_alone():
    """Changing width or depth to keep the work equal is no law of patch sizes."""
    first = built(64, 16)

    def alike(model):
        shapes = {name: one.shape for name, one in model.named_parameters()
                  if "patch_embeddings.projection.weight" not in name and "position" not in name}
        mine = {name: one.shape for name, one in first.named_parameters() if name in shapes}
        return settings(model) == settings(first) and mine == shapes
    caught(alike, built(64, 4), built(64, 4, width=48), built(64, 4, layers=2))
    assert len({str(settings(arm(0).build())) for arm in ARMS}) == 1


def test_the_two_axes_are_kept_apart():
    """64 pixels by 16 and 16 pixels by 4 both make 16 tokens: that is another picture, not another patch size."""
    def of_one_size(halvings):
        return all({large, small} <= set(tokens.FAMILY[side]) and large == 2 * small for side, large, small in halvings)
    caught(of_one_size, [*claim.HALVINGS], [(64, 4, 2)], [(64, 16, 4)])
    assert tokens.count(64, 16) == tokens.count(16, 4) == 16
    assert set(claim.every()) == {(one.side, one.patch) for one in ARMS}


def test_patches_do_not_overlap_and_a_token_is_a_linear_map_of_its_patch():
    """Overlapping patches or a stack of convolutions would break "patch = token"."""
    class Overlapping(nn.Conv2d):
        def __init__(self, patch):
            super().__init__(3, 8, patch, patch // 2)

    def stem(patch):
        return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, patch, patch))

    def linear(projection, patch=8):
        pixels = photos(1)
        other = pixels.clone()
        other[..., patch : 2 * patch, :patch] += 1  # the first patch of the second row
        tokens_of = [projection(one).flatten(2) for one in (pixels, other, (pixels + other) / 2)]
        moved = (tokens_of[0] - tokens_of[1]).abs().sum(1)[0] > 1e-5
        middle = torch.allclose(tokens_of[2], (tokens_of[0] + tokens_of[1]) / 2, atol=1e-5)
        return moved.shape[0] == 64 and moved.nonzero().flatten().tolist() == [8] and middle
    own = built(64, 8).vit.embeddings.patch_embeddings.projection
    with torch.no_grad():
        caught(linear, own, Overlapping(8), stem(8))


def test_every_size_begins_by_itself():
    """Interpolating one trained network to other patch sizes is another method."""
    trained = network(64, 8, LABELS)

    def interpolated(arm):
        model = arm(0).build()
        projection = model.vit.embeddings.patch_embeddings.projection
        projection.weight.data = interpolate(trained.vit.embeddings.patch_embeddings.projection.weight.data,
                                             projection.kernel_size, mode="area")
        return model

    def by_itself(build):
        made = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            made.append(build(recipe.Cut64by4))
        return all(not torch.equal(*pair) for pair in zip(*(one.parameters() for one in made)) if pair[0].std() > 0
                   and pair[0].dim() != 3)  # positions begin alike, as sines
    caught(by_itself, lambda arm: arm(0).build(), interpolated)
    assert not any(arm.continues or arm.start for arm in ARMS)


def test_equal_steps_on_equal_crops(monkeypatch):
    """Comparing losses at different epochs because small patches are slower; the longer arms say so by their name."""
    short = [arm for arm in ARMS if "more" not in arm.name]
    batches = [filled(arm, monkeypatch).batch(3, 0.1) for arm in short[:3]]
    assert all(torch.equal(one["pixels"], batches[0]["pixels"]) for one in batches)
    alike = ("steps", "batch_size", "lr", "lr_adam", "weight_decay", "warmup", "decay", "minutes", "ema", "clip")

    def equal(arms):
        return all(getattr(arm, key) == getattr(arms[0], key) for arm in arms for key in alike)
    hasty = type("Hasty", (recipe.Cut64by4,), {"steps": 100})
    caught(equal, short, [*short, hasty], [*short, recipe.Cut64by16More])


def test_nobody_learns_from_the_photos_held_out(tmp_path, monkeypatch):
    """The first training photos are held out, and each label stays with its photo."""
    rng = np.random.default_rng(0)
    found = {part: (rng.integers(0, 255, (24, 64, 64, 3), dtype=np.uint8), np.arange(24) % 5)
             for part in ("train", "val")}
    monkeypatch.setattr(tokens, "HELD", 8)
    monkeypatch.setattr(data, "photos", found.get)
    arm, everything = recipe.Cut64by4(0), recipe.PhotoViT(0)
    arm.prepare(tmp_path)
    everything.prepare(tmp_path)
    mine = [i for i, label in enumerate(everything.labels.tolist()) if label in tokens.CLASSES]
    learned, held = [i for i in mine if i >= 8], [i for i in mine if i < 8]

    def apart(kept):
        return arm.train.shape[0] == len(kept) and torch.equal(arm.train, everything.train[kept])
    caught(apart, learned, mine)
    assert [tokens.CLASSES[i] for i in arm.labels] == everything.labels[learned].tolist()
    assert torch.equal(arm.val[: len(held)], recipe.normalise(everything.train[held]))
    assert [tokens.CLASSES[i] for i in arm.truth[: len(held)]] == everything.labels[held].tolist()


@pytest.mark.parametrize("arm", (recipe.Cut64by16More, recipe.Cut64by8More))
def test_the_longer_arms_cost_what_the_smaller_patch_costs(arm):
    cost = arm.steps * tokens.macs(arm.side, arm.patch)
    caught(lambda size: abs(cost / (tokens.STEPS * tokens.macs(64, size)) - 1) < 1e-3, arm.like, arm.patch)


def test_smaller_pictures_are_means_of_the_same_crop(monkeypatch):
    arm = filled(recipe.Cut16by4, monkeypatch)
    seen = []
    model = lambda pixels: seen.append(pixels) or type("Found", (), {"logits": pixels})  # noqa: E731
    pixels = photos(2)
    arm.logits(model, pixels, {})
    caught(lambda rule: torch.allclose(seen[0], rule(pixels), atol=1e-5), lambda one: avg_pool2d(one, 4),
           lambda one: one[..., ::4, ::4])


# ---- what tokens cost and retain

@pytest.mark.parametrize("side, patch", ((64, 16), (64, 4), (16, 1)))
def test_work_is_counted(side, patch):
    model = built(side, patch).eval()
    work_is_counted(lambda: model(torch.zeros(1, 3, side, side)), tokens.macs(side, patch))


def test_tokens_retain_what_the_projection_lets_through():
    """Exact where the patch has no more numbers than the token; else the part inside the rows of the projection."""
    pixels = photos(1)

    def back(rule, patch):
        projection = nn.Conv2d(3, 96, patch, patch)
        kept = rule(projection, pixels)
        told = [conv2d(one.double(), projection.weight.double(), stride=patch) for one in (pixels, kept)]
        exact = torch.allclose(kept, pixels.double(), atol=1e-6)
        return torch.allclose(*told, atol=1e-6) and exact == (3 * patch**2 <= 96)

    def with_bias(projection, pixels):
        return tokens.retained(projection, pixels) + projection.bias.mean().item() + 0.1

    def transposed(projection, pixels):
        w, p = projection.weight.double(), projection.kernel_size[0]
        told = conv2d(pixels.double(), w, stride=p)
        return nn.functional.conv_transpose2d(told, w, stride=p)
    with torch.no_grad():
        caught(lambda rule: back(rule, 4) and back(rule, 8), tokens.retained, with_bias, transposed)


def test_psnr_is_of_the_brightness_range():
    one = torch.rand(1, 3, 8, 8)
    assert tokens.psnr(one, one) == pytest.approx(100) and tokens.psnr(one, one + 0.1) == pytest.approx(20)


def test_patches_must_fill_the_picture():
    with pytest.raises(ValueError, match="choose a divisor"):
        network(64, 6, LABELS)


# ---- the records

def test_attention_keeps_its_sum_on_another_grid():
    share = np.random.default_rng(0).dirichlet(np.ones(64))
    for count in (4, 64, 256):
        assert record.resampled(share, count).sum() == pytest.approx(1)
    assert np.allclose(record.resampled(record.resampled(share, 256), 64), share)
    corner = record.resampled(share, 4)[1]
    square = share.reshape(8, 8)
    caught(lambda one: one == pytest.approx(corner), square[:4, 4:].sum(), square[4:, :4].sum())


def test_the_canvas_is_the_cut_and_every_size_answers(traces):
    prune, attend = traces["prune"], traces["attend"]
    assert prune.canvas.shape == attend.canvas.shape == (8, 8)
    assert prune.charts[0].ticks == ("4", "16", "64", "256")
    assert [step.label for step in attend.steps[1:5]] == [
        f"class token, {tokens.count(64, size)} patches of {size} x {size}" for size in tokens.FAMILY[64]]
    macs = tokens.macs(64, 8, 32, 2)
    assert prune.facts["macs"].value == pytest.approx(macs / 1e6) and prune.cost.macs == attend.cost.macs == macs
    own = [one.fields["cls"] for one in attend.steps if "cls" in one.fields]
    assert np.allclose(own[2], own[-1], atol=1e-5)  # layer 2 is the last of a stand-in


def test_no_curve_goes_beyond_what_was_trained(traces):
    """A fit of four points, drawn further, would have to be called an extrapolation; 1,024 tokens have a cost alone."""
    price = next(one for one in traces["prune"].charts if one.title.startswith("Multiply-adds"))
    trained, counted = price.series["trained"], price.series["counted, not trained"]
    assert price.ticks[-1] == "1,024" and np.isnan(trained[-1]) and np.isnan(counted[:-1]).all() and counted[-1] > 1000
    for chart in record.loss_chart():
        assert all(points[:, 0].max() <= 8 for points in chart.series.values())


def test_pixels_are_tokens_at_the_end(tiny):
    job = prepare("patchification", checkpoint="photo-cut-16by1-1")
    found = record.read(job)
    assert found.mine.count == 256 == found.side**2 and found.mine.psnr == pytest.approx(100)
    assert [one.psnr for one in found.readings] == sorted(one.psnr for one in found.readings)
    assert found.shown.shape == (16, 16, 3)


def test_the_card_says_what_is_missing():
    card = find("patchification").card
    assert (card.arxiv, card.year, card.tabs) == ("2502.03738", 2025, ("prune", "attend"))
    assert "1,024 tokens" in card.not_covered and "one training" in card.not_covered


def test_an_untrained_family_is_told_apart_from_the_floor(tiny):
    """A family at the shares of the classes ranks nothing: the control of the claim fails, and it says so."""
    loss = claim.Metric("loss", "nats", better="lower", floor=np.full(30, 3.0), ceiling=0.0)
    guess = loss.arm("guess", np.full(30, 3.0), budget=claim.work(64, 16, 0))

    def learned(level):
        mine = loss.arm("mine", np.linspace(level - 0.1, level + 0.1, 30), budget=claim.work(64, 16, 1))
        return claim.better(mine, guess, least=claim.LEARNED, by="percent", unmatched="nothing")
    from models.claims.judging import judge
    caught(lambda level: judge(learned(level)).met, 2.0, 2.8)
