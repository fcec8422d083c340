"""Patch Mixing: the traps its spec names, each with the mutant that the same check must refuse."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.backbones.pictures import MEAN, STD
from models.engine import prepare, run, twin
from models.papers.patch_mixing import claim, exam, lens, mixing, record
from models.papers.patch_mixing import recipe as recipes
from models.trace.subject import from_example
from tests import tiny as stand_ins
from tests.photo_nets import filled, photos
from tests.traps import caught

SHARE = np.array([0.0, 0.05, 0.3, 0.6])


def dice() -> np.random.Generator:
    return np.random.default_rng(3)


# ---- what is pasted, and the label

def fixed_label(labels, others, mask, classes):  # an occlusion augmentation, not Patch Mixing
    return mixing.mixed_labels(labels, others, mask & False, classes)


def unsmoothed(labels, others, mask, classes):
    return mixing.mixed_labels(labels, others, mask, classes, 0.0)


def halves(labels, others, mask, classes):
    return mixing.mixed_labels(labels, others, torch.arange(64).expand(mask.shape) < 32, classes)


def test_labels_are_mixed_by_the_area_that_is_really_covered_then_smoothed():
    labels, others = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 4, 4])
    mask = mixing.scattered(SHARE, dice())

    def by_area(mixed):
        found = mixed(labels, others, mask, 5)
        for one, own, cells in zip(found, labels, (0, 3, 19, 38)):  # of 64
            want = torch.full((5,), 0.02)
            want[own] += 0.9 * (1 - cells / 64)
            want[4] += 0.9 * cells / 64
            assert torch.allclose(one, want, atol=1e-6)
    caught(by_area, mixing.mixed_labels, fixed_label, unsmoothed, halves)


def test_whole_cells_are_drawn_uniformly_and_keep_their_place():
    mask = mixing.scattered(np.full(400, 0.25), dice())

    def whole_cells_everywhere(mask):
        cells = mask.unfold(1, 8, 8).unfold(2, 8, 8).float().mean((3, 4))
        assert ((cells == 0) | (cells == 1)).all() and (mask.float().mean((1, 2)) == 0.25).all()
        assert (cells.mean(0) - 0.25).abs().max() < 0.1  # no place is preferred
        beside = (cells[:, 1:] * cells[:, :-1]).mean()  # chosen cells stick together in a rectangle
        assert float(beside) < 0.08
    caught(whole_cells_everywhere, mask, mixing.rectangle(np.full(400, 0.25), dice()),
           mixing.scattered(np.full(400, 0.25), dice(), cell=4), mixing.scattered(np.full(400, 0.25), dice(), shift=4),
           mask[:1].expand(400, -1, -1))
    one, two = photos(2)[:1], photos(2)[1:]

    def same_place(paste):
        made = paste(one, two, mask[:1])
        assert torch.equal(made[0][:, mask[0]], two[0][:, mask[0]])
        assert torch.equal(made[0][:, ~mask[0]], one[0][:, ~mask[0]])
    caught(same_place, mixing.pasted, lambda a, b, m: mixing.pasted(a, b.roll(8, 2), m),
           lambda a, b, m: mixing.pasted(a, b, ~m), lambda a, b, m: 0.5 * a + 0.5 * b)


def test_cutmix_fills_one_rectangle_of_the_same_area():
    mask = mixing.rectangle(np.full(50, 0.3), dice())

    def one_block(mask):
        for one in mask:
            rows, columns = one.any(1), one.any(0)
            assert torch.equal(one, rows[:, None] & columns) and abs(float(one.float().mean()) - 0.3) < 0.03
            assert int(rows.sum()) == rows.nonzero()[-1] - rows.nonzero()[0] + 1
    caught(one_block, mask, mixing.scattered(np.full(50, 0.3), dice()), mask.roll(32, 1), ~mask)
    assert not mixing.rectangle(np.zeros(2), dice()).any()
    drawn = mixing.shares(4000, dice())
    assert abs((drawn > 0).mean() - 0.5) < 0.03 and drawn[drawn > 0].min() >= 0.05 and drawn.max() <= 0.6


# ---- the arms

def arm(kind, monkeypatch):
    monkeypatch.setattr(recipes, "LABELS", tuple("abcde"))
    made = filled(kind, monkeypatch)
    made.autocast = False
    return made


@pytest.mark.parametrize("plain, others", ((recipes.ConvPlain, (recipes.ConvMixing, recipes.ConvCutMix)),
                                           (recipes.VitPlain, (recipes.VitMixing,))))
def test_the_arms_of_a_family_see_the_same_photos_and_differ_in_what_is_pasted(plain, others, monkeypatch):
    control = arm(plain, monkeypatch)
    batch = control.batch(5, 0.0)
    for kind in others:
        mixed = arm(kind, monkeypatch)
        mine = mixed.batch(5, 0.0)

        def alike(theirs, mine=mine):
            return all(torch.equal(mine[name], theirs[name]) for name in batch)
        caught(alike, batch, mixed.batch(6, 0.0), control.batch(6, 0.0))
        assert kind.control == plain.name and mine.keys() - batch.keys() == {"mask"}
        assert all(getattr(kind, name, None) == getattr(plain, name, None) for name in plain.ALIKE)
        model = stand_ins.fresh(plain.name).eval()
        known = control.loss(model, batch, 0.0)[0], mixed.loss(model, mine | {"mask": mine["mask"] & False}, 0.0)[0]
        assert torch.allclose(*known)


def test_the_loss_is_cross_entropy_with_the_mixed_label(monkeypatch):
    recipe, model = arm(recipes.ConvMixing, monkeypatch), stand_ins.fresh("photo-conv-mixing-1").eval()
    batch = recipe.batch(0, 0.0) | {"mask": mixing.scattered(np.full(4, 0.5), dice())}
    pixels, labels = batch["pixels"], batch["labels"]
    log = model(torch.where(batch["mask"][:, None], pixels.roll(1, 0), pixels)).log_softmax(-1)
    own, other = (F.nll_loss(log, kind) for kind in (labels, labels.roll(1)))
    soft = 0.9 * (0.5 * own + 0.5 * other) - 0.1 * log.mean()
    caught(lambda found: torch.allclose(found, soft, atol=1e-5), recipe.loss(model, batch, 0.0)[0], own,
           F.cross_entropy(model(pixels), labels, label_smoothing=0.1))


def test_the_numbers_of_cutmix_are_kept_beside_the_arm_whose_weights_are_shipped(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "SHIPPED", tmp_path)
    made = recipes.ConvCutMix(2)
    made.curves = {"foreign": [[0, 30.0]]}
    made.beside(tmp_path)
    assert json.loads((tmp_path / "photo-conv-mixing-1/photo-conv-cutmix-1.json").read_text()) == made.curves


# ---- the attacks

def test_attacked_photos_meet_another_class():
    truth = np.repeat(np.arange(4), 25)
    caught(lambda draw: not (truth[draw(truth, dice())] == truth).any(), exam.partners,
           lambda truth, rng: rng.permutation(len(truth)), lambda truth, rng: np.roll(np.arange(len(truth)), 1))


def test_the_exam_asks_for_more_than_was_trained():
    pixels, rng = photos(2), dice()
    trained = mixing.scattered(np.full(64, 0.3), dice())

    def off_the_grid(kind):
        mask = exam.drawn(kind, 64, 0.3, dice())
        assert abs(float(mask.float().mean()) - 0.3) < 0.03
        inside = mask.unfold(1, 8, 8).unfold(2, 8, 8).float().mean((3, 4))
        assert ((inside > 0) & (inside < 1)).any() or not torch.equal(mask, trained)
        return ((inside > 0) & (inside < 1)).any() or float((inside[:, ::2] == inside[:, 1::2]).float().mean()) == 1
    caught(off_the_grid, "shifted", "foreign", "black")
    assert off_the_grid("fine") and off_the_grid("coarse") and set(claim.WIDER) >= {"black", "shuffled", "things"}
    mask = exam.drawn("black", 2, 0.3, rng)
    dropped = exam.attack("black", pixels, pixels.roll(1, 0), mask, rng)
    shade = dropped.permute(0, 2, 3, 1)[mask] * torch.tensor(STD) + torch.tensor(MEAN)
    caught(lambda found: found.abs().max() < 1e-5, shade, shade + 0.4, dropped)


def test_shuffled_cells_change_places_and_the_others_stay():
    pixels, mask = photos(1), mixing.scattered(np.array([0.5]), dice())

    def permuted(made):
        before, after = (one.unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)[0].transpose(0, 1).flatten(1)
                         for one in (pixels, made))
        hit = mask[0, ::8, ::8].flatten()
        assert torch.equal(before[~hit], after[~hit]) and not torch.equal(before[hit], after[hit])
        assert torch.allclose(before[hit].sum(1).sort().values, after[hit].sum(1).sort().values)
    caught(permuted, exam.shuffled(pixels, mask, dice()), pixels, exam.shuffled(pixels, ~mask, dice()),
           mixing.pasted(pixels, pixels.roll(8, 3), mask))


class Constant(torch.nn.Module):
    """Names class 1 whatever it sees, or class 0 where its first pixel is bright."""

    def forward(self, pixels):
        bright = (pixels[:, :, 0, 0].mean(1) > 0).float()
        return torch.stack([bright, torch.full_like(bright, 0.5)], 1)


def test_the_label_stays_that_of_the_attacked_photo():
    truth = np.array([0, 1] * 20)
    pixels = torch.ones(40, 3, 64, 64) * torch.from_numpy(1.0 - 2 * truth).float()[:, None, None, None]
    assert exam.right(Constant(), pixels, truth, "foreign", 0.0).mean() == 100
    caught(lambda share: exam.right(Constant(), pixels, truth, "foreign", share).mean() < 5, 1.0, 0.0, 0.5)


# ---- what an answer hangs on

def test_contrastive_importance_finds_who_speaks_for_either_class():
    masks = lens.masks(3000, 64, torch.Generator().manual_seed(1))
    pixels = torch.ones(1, 3, 64, 64)

    def planted(x):
        cells = F.avg_pool2d(x, 8).mean(1).flatten(1)
        return torch.stack([0.5 * cells[:, 20], 0.3 * cells[:, 45], torch.full_like(cells[:, 0], 0.2)], 1)

    def finds(s):
        assert s.argmax() == 20 and s.argmin() == 45 and abs(float(s[3])) < 2
    told = lens.through(planted, pixels, masks)
    means = F.avg_pool2d(masks, 8).flatten(1)
    whole = ((told[:, 0] - told[:, 1])[:, None] * means).mean(0) / means.mean(0)  # the mean answer is in every cell
    caught(finds, lens.importance(told, masks, 0, 1), lens.importance(told, masks, 0, 2),
           lens.importance(told, masks, 1, 0), 100 * whole)
    assert lens.on_foreign([1.0, -3.0], [0.0, 1.0]) == 0.75 and abs(float(masks.mean()) - 0.5) < 0.02


def test_nobody_is_called_the_best_by_what_other_masks_would_change():
    generator, area = torch.Generator().manual_seed(1), np.arange(64) < 24
    weights = torch.rand(64, generator=generator)

    def told(masks):
        return torch.stack([F.avg_pool2d(masks, 8).flatten(1) @ weights, torch.zeros(len(masks))], 1)
    draws = [lens.masks(100, 64, generator) for _ in range(12)]
    parts = [lens.on_foreign(lens.importance(told(one), one, 0, 1), area) for one in draws]
    said = np.mean([lens.moves(told(one), one, 0, 1, area) for one in draws])
    caught(lambda found: 0.7 < found / np.std(parts) < 1.6, said, said / 3, 3 * said)
    caught(lambda by: "It is least for a" in record.first({"a": 30.0, "b": 40.0}, {"a": by, "b": by}), 3.0, 5.0)


def test_cells_hear_what_changes_their_features():
    def alone(x):
        return F.avg_pool2d(x, 8).flatten(2).transpose(1, 2)

    def below(x):
        return alone(x).roll(8, 1)
    pixels = torch.rand(1, 3, 64, 64) + 1
    caught(lambda f: torch.allclose(lens.hearing(f, pixels), torch.eye(64), atol=1e-5), alone, below,
           lambda x: alone(x) + alone(x).mean(1, keepdim=True))
    rows = lens.hearing(below, pixels)
    caught(lambda found: bool((found[8] == found[8].max()).nonzero()[0, 0] == 0), rows, rows.T)


# ---- the claim

def test_drops_are_compared_and_not_how_much_is_right():
    base, rng = np.repeat([100.0, 0.0], 50), np.random.default_rng(0)
    fooled = base * (rng.random(100) < 0.5)
    weak = base * (rng.random(100) < 0.6)  # less is right, and as much is lost of it
    found = {record.PLAIN: {"clean": base, "foreign": fooled, "shifted": fooled},
             record.MIXING: {"clean": weak, "foreign": weak - (base - fooled) * 0.2, "shifted": fooled}}
    drop = claim.metrics(found)[1]

    def ratio(score):
        arms = {name: drop.arm(name, score(one), budget=claim.Budget(1, "")) for name, one in found.items()}
        return claim.share(arms, record.MIXING, "").interval()[0]
    caught(lambda score: ratio(score) == pytest.approx(0.2), claim.dropped,
           lambda one: 100 - one["foreign"], lambda one: one["foreign"])
    assert drop.unit == "points"


# ---- the records

def test_the_photo_is_crept_into_cell_by_cell_and_four_networks_are_asked(tiny):
    found = run("patch-mixing", params={"masks": 50}, seed=4).traces
    mask, attend = found["mask"], found["attend"]
    hidden = [set(step.where("merged")) for step in mask.steps]
    assert [len(one) for one in hidden] == [0, 6, 13, 19, 26]
    assert all(one < two for one, two in zip(hidden, hidden[1:]))
    own = mask.canvas.picture.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, -1)
    for step, cells in zip(mask.steps, hidden):
        seen = step.picture.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, -1)
        assert set(np.flatnonzero((seen != own).any(1))) == cells
    assert [step.label for step in attend.steps] == list(record.TITLES.values()) and len(mask.facts) == 4
    assert np.array_equal(attend.steps[0].state, mask.steps[4].state)
    for step in attend.steps:
        links = step.edges["hears"]
        assert set(links.key) <= hidden[4] and not set(links.query) & hidden[4]


@pytest.mark.parametrize("params", ({"attack": "shifted", "masks": 50}, {"attack": "black", "masks": 50},
                                    {"attack": "shuffled", "share": 0.8, "masks": 50}))
def test_every_attack_runs_and_the_control_shows_itself(tiny, params):
    job = prepare("patch-mixing", params=params, seed=8)
    other = twin(job)
    assert other.bundle.name == record.PLAIN and other.params == job.params
    beside = run(other.method, params=params, seed=8).traces
    assert [step.label for step in beside["attend"].steps] == ["CNN"] and len(beside["mask"].facts) == 1


def test_the_second_photo_is_never_the_first(tiny):
    for example in prepare("patch-mixing").method.examples[:3]:
        for title in record.OTHERS:
            job = prepare("patch-mixing", from_example(example, "photo"), params={"other": title})
            assert not np.array_equal(record.second_photo(job), job.subject.image)
