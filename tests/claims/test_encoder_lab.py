"""The exam for encoders: each part sees what is there, nothing where nothing is, and every encoder the same items."""

import json

import numpy as np
import pytest
import torch

from models.claims import Lab, encoder_lab
from models.claims.encoder_lab import PARTS, EncoderExam, EncoderView, PhotoEncoder, Photos
from models.claims.harness import Budget, better, conclude
from tests.tiny import mae
from tests.traps import caught
from tools import encoder_power

SIDE = encoder_lab.SIDE


def colours(pixels):
    """Patches as mean colours [B, N, 3]: an encoder that one can reckon with."""
    return torch.nn.functional.avg_pool2d(pixels, encoder_lab.PATCH).flatten(2).transpose(1, 2)


def photos(count: int, seed: int):
    """Photos of four colours on noise, the object's box in another brightness: pixels, labels, boxes."""
    rng = np.random.default_rng(seed)
    labels, pixels = rng.integers(0, 4, count), torch.from_numpy(rng.normal(size=(count, 3, 64, 64))).float()
    corner = 8 * rng.integers(0, 4, (count, 2))
    boxes = np.concatenate([corner, corner + 32], 1)
    for one, label, (x, y, *_) in zip(pixels, labels, boxes, strict=True):
        one[0, y : y + 32, x : x + 32] += 3
        one[1:] += torch.tensor([[-2.0, 2.0][label % 2], [-2.0, 2.0][label // 2]])[:, None, None]
    return pixels, labels, boxes


@pytest.fixture(scope="module")
def drawn():
    return Photos(*photos(120, 1), *photos(80, 2))


def blind(pixels):
    """Tokens that say nothing of the photo."""
    return torch.randn(len(pixels), SIDE * SIDE, 3, generator=torch.Generator().manual_seed(len(pixels)))


@pytest.mark.parametrize("part, least, chance", [("linear", 95, 45), ("attentive", 95, 45), ("neighbours", 95, 45),
                                                 ("objects", 95, 60)])
def test_a_part_sees_what_is_there_and_nothing_where_nothing_is(part, least, chance, drawn):
    assert PARTS[part].ask(EncoderView(PhotoEncoder(colours), drawn)).mean() > least
    assert PARTS[part].ask(EncoderView(PhotoEncoder(blind), drawn)).mean() < chance


def test_a_box_holds_the_patches_whose_middle_is_inside():
    def framed(boxes_as):
        boxes = np.array([[8, 16, 40, 32], [0, 0, 64, 64], [3, 3, 3, 3]])  # the whole photo and a speck do not count
        _, inside = encoder_lab.framed(torch.zeros(3, 64, 1), boxes_as(boxes))
        wanted = np.zeros((SIDE, SIDE), bool)
        wanted[2:4, 1:5] = True  # y from 16 to 32, x from 8 to 40
        return len(inside) == 1 and np.array_equal(inside[0].reshape(SIDE, SIDE), wanted)

    caught(framed, lambda boxes: boxes, lambda boxes: boxes[:, [1, 0, 3, 2]])  # mutant: rows for columns


def test_a_painted_patch_says_nothing_by_itself_and_all_with_its_neighbours(drawn):
    def asked(encoder):
        return encoder_lab.on_things(EncoderView(PhotoEncoder(encoder), drawn), 3)

    tokens, shape, scene = asked(colours)
    assert len(tokens) == len(shape) == len(scene) and set(shape) <= set(range(6)) and np.bincount(scene).max() <= 4
    assert np.abs(tokens).max() == 0, "it is painted over"
    around, *_ = asked(lambda pixels: torch.nn.functional.avg_pool2d(  # with what lies around it
        colours(pixels).transpose(1, 2).unflatten(2, (SIDE, SIDE)), 3, 1, 1).flatten(2).transpose(1, 2))
    background = encoder_lab.normalise(np.full((1, 1, 1, 3), encoder_lab.scenes.BACKGROUND, np.uint8)).numpy().ravel()
    assert (np.abs(around - background * 8 / 9).max(1) > 1e-3).mean() > 0.95, "the thing is beside it"


def test_attention_distance_is_that_of_its_rows(one_thread):
    model = mae().eval()
    seen = encoder_lab.mae_encoder(model)
    for layer in model.vit.layers:  # equal scores: everybody looks at everything alike
        torch.nn.init.zeros_(layer.attention.q_proj.weight if hasattr(layer.attention, "q_proj")
                             else layer.attention.attention.query.weight)
    found = encoder_lab.looked(seen, torch.randn(2, 3, 64, 64))
    y, x = np.divmod(np.arange(64), 8)
    mean = np.hypot(y[:, None] - y, x[:, None] - x).mean()
    np.testing.assert_allclose(found, np.full((2, 2), mean), rtol=1e-3)
    off = found * 64 / 65  # mutant: the class token's share left in the row
    assert np.abs(off - mean).min() > 0.05


def test_painted_patches_are_those_that_are_hidden(drawn):
    gone = encoder_lab.painted_over(torch.ones(1, 3, 64, 64), torch.arange(64)[None] < 16) == 0
    assert gone[0, 0, :16].all() and not gone[0, 0, 16:].any()
    found = PARTS["occlusion"].ask(EncoderView(PhotoEncoder(colours), drawn))
    assert found.shape == (13, 4) and found[:, 0].mean() > 95


def test_an_untrained_network_is_the_same_every_time_and_another_than_the_trained():
    model = mae()
    floors = [encoder_lab.untrained(model).state_dict() for _ in range(2)]
    assert all(torch.equal(floors[0][name], floors[1][name]) for name in floors[0])
    assert any(not torch.equal(floors[0][name], one) for name, one in model.state_dict().items())
    assert floors[0]["vit.embeddings.position_embeddings"].abs().sum() > 0, "it can tell patches apart"


def test_everybody_sits_the_same_exam(photo_data, one_thread):
    exam = EncoderExam(Lab(quick=True, data=photo_data))
    found = exam.take({"a": encoder_lab.mae_encoder(mae().eval()), "b": PhotoEncoder(colours)}, ("linear", "rank"))
    assert {one.shape for one in found["linear"].values()} == {(32,)}
    assert set(found) == {"linear", "rank"} and np.isfinite(found["rank"]["a"]).all()
    with pytest.raises(KeyError):
        exam.take({"b": PhotoEncoder(colours)}, ("colour",))


def test_every_part_runs_on_a_stand_in(photo_data, one_thread):
    exam = EncoderExam(Lab(quick=True, data=photo_data))
    for part, found in exam.sit(encoder_lab.mae_encoder(mae().eval()), PARTS).items():
        assert np.isfinite(found).all() and len(found), part


# ---- its power

def test_the_least_difference_covers_pairs_of_seeds():
    """Trainings that differ in their seed alone stay below it, nearly always; without Student's t they do not."""
    rng = np.random.default_rng(0)

    def covers(of):
        return np.mean([abs(np.subtract(*rng.normal(size=2))) < of(rng.normal(size=5)) for _ in range(600)]) > 0.91

    def ours(seeds):
        return encoder_power.between(seeds)

    caught(covers, ours, lambda seeds: 1.96 * seeds.std(), lambda seeds: 2 ** 0.5 * seeds.std(ddof=1))


def test_the_items_count_where_they_are_the_coarser():
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(3, 40))
    alike = noisy - noisy.mean(1, keepdims=True)  # every training has the same mean
    found = encoder_power.power(alike)
    assert found["between trainings"] < 1e-9 < found["least"] == found["between items"]


def test_page_and_number_are_those_that_were_measured():
    found = json.loads(encoder_lab.POWER.read_text("utf-8"))
    page = encoder_power.PAGE.read_text("utf-8")
    assert set(found["parts"]) == set(PARTS) and encoder_power.written(page, found) == page
    assert all(encoder_lab.least(part) == one["least"] > 0 for part, one in found["parts"].items())


def test_a_gain_below_the_power_is_not_testable():
    rng = np.random.default_rng(0)
    probe = encoder_lab.metric("linear", floor=2.0)
    base = rng.normal(20, 5, 400)

    def verdict(gain):
        arms = probe.arms({"arm": base + gain + rng.normal(0, 1, 400), "start": base}, checkpoints=(),
                          budget=Budget(64, "patches"))
        return conclude("lut", paper="a", here="b", arms=tuple(arms.values()), trainings=1, seeds=(0,),
                        controls=[better(arms["arm"], arms["start"], least=encoder_lab.least("linear"))],
                        expect=[better(arms["arm"], arms["start"])], context=[encoder_lab.power("linear")]).verdict

    least = encoder_lab.least("linear")
    assert verdict(0.5 * least) == "not testable here" != verdict(2 * least)
    shown = encoder_lab.power("linear")
    assert shown.value == least and shown.unit == "points", "a difference of percentages"
