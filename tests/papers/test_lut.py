"""LUT: the traps its spec names, each with the mutant that the same check must refuse."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.backbones.instrument import observe
from models.backbones.photo_views import second_view
from models.backbones.stand_in import stirred
from models.engine import prepare, run, twin
from models.engine.method import follow
from models.loops.attend import distance
from models.loops.attend.loop import grid_layout
from models.loops.mask.photos import encode, encode_whole, photo
from models.papers.lut import context as net
from models.papers.lut import recipe, record
from models.papers.lut.claim import passes
from models.papers.lut.method import MORE
from models.papers.lut.network import mlp
from models.papers.lut.recipe import PhotoLUT, PhotoLutSame
from tests import tiny as stand_ins
from tests.photo_nets import filled, photos
from tests.traps import caught, dice, multiply_adds, only_these_move
from training.trunks.photo_mae_more import PhotoMAEMore

K = 16


@cache
def networks():
    """A student that trains and a teacher with other weights."""
    student = stand_ins.fresh("photo-lut-1").train()
    torch.manual_seed(7)
    teacher = stirred(stand_ins.fresh("photo-lut-1")).eval().requires_grad_(False)
    return student, teacher


@cache
def drawn():
    """Views u and v of four photos, and the noise that orders their patches."""
    return photos(4), second_view(photos(4), dice()), torch.rand(4, 64, generator=dice(4))


# ---- the broader context

def independently(noise, k):
    return noise.argsort(1).argsort(1), torch.rand(noise.shape, generator=dice(9)).argsort(1)


def by_hand(u, v, noise, *, rule=net.two_orders, same=False, class_token=False, masked=False, predicted=False) -> float:
    """L_bc, written as the spec has it; every option is one of its traps."""
    student, teacher = networks()

    def mean(network, pixels, order, hidden=64 - K):
        latents = encode(network, pixels, order.float(), hidden)[0]
        return latents[:, 0] if class_token else latents[:, 1:].mean(1)
    sparse = list(zip((u, v), rule(noise, K)))
    q = [student.predictor(student.projector(mean(student, *one))) for one in sparse]
    y = [teacher.projector(mean(teacher, *one, 64 - K if masked else 0)) for one in sparse]
    y = [teacher.predictor(one) for one in y] if predicted else y
    return float(np.mean([(2 - 2 * F.cosine_similarity(*pair, dim=1)).mean().item()
                          for pair in zip(q, y if same else y[::-1])]))


def test_the_visible_patches_of_one_view_are_told_what_the_complete_other_one_is():
    found = float(net.losses(*networks(), *drawn())[1].detach())
    mutants = (partial(by_hand, **{trap: True}) for trap in ("same", "class_token", "masked", "predicted"))
    caught(lambda rule: found == pytest.approx(rule(*drawn()), rel=1e-4), by_hand, partial(by_hand, rule=independently),
           *mutants)


@pytest.mark.parametrize("k", (6, 16, 32))
def test_one_order_serves_both_views_and_no_place_is_visible_in_both(k):
    noise = drawn()[2]

    def disjoint(rule):
        u, v = (order < k for order in rule(noise, k))
        return (u.sum(1) == k).all() and (v.sum(1) == k).all() and not (u & v).any()
    caught(disjoint, net.two_orders, independently)
    u, v = (order.argsort(1) for order in net.two_orders(noise, k))
    assert torch.equal(u, noise.argsort(1)), "view u is the MAE's"
    assert torch.equal(v[:, :k], u[:, k : 2 * k]), "view v goes on where u's visible patches end"


def test_projector_and_predictor_have_one_batch_norm_and_no_bias():
    def as_described(made):
        return ([type(one) for one in made] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
                and made[0].bias is None and made[3].bias is None)
    caught(as_described, mlp(8), nn.Sequential(*mlp(8), nn.BatchNorm1d(8)))


# ---- the MAE's branch

def test_only_view_u_is_rebuilt_as_an_mae_rebuilds_it():
    (student, teacher), (u, v, noise) = networks(), drawn()
    plain = float(student(u, noise=noise).loss.detach())
    caught(lambda a, b: float(net.losses(student, teacher, a, b, noise)[0].detach()) == pytest.approx(plain, rel=1e-4),
           (u, v), (v, u))


def test_view_u_is_the_control_s_photo_and_one_view_has_no_second(monkeypatch):
    lut, same, more = (filled(kind, monkeypatch) for kind in (PhotoLUT, PhotoLutSame, PhotoMAEMore))
    mine, theirs = lut.batch(5, 0.5), more.batch(5, 0.5)

    def alike(batch):
        return all(torch.equal(mine[name], batch[name]) for name in ("pixels", "noise"))
    caught(alike, theirs, mine | {"pixels": mine["second"]}, more.batch(6, 0.5))  # mutants: its MAE sees view v; a step
    caught(lambda batch: set(batch) == set(theirs), same.batch(5, 0.5), mine)
    monkeypatch.setattr(recipe, "second_view", lambda pixels, _: pixels)
    seen = lut.batch(5, 0.5)["second"]  # what view v is a view of
    caught(lambda photo: torch.equal(seen, photo), theirs["pixels"], theirs["pixels"].roll(1, 0))
    assert not net.guesses(same.final(same.build())), "shipped as a plain MAE"
    monkeypatch.setattr(PhotoMAEMore, "batch_size", 4)
    lut.differs_in_one_thing(PhotoMAEMore)


def test_the_student_learns_everywhere_and_the_teacher_follows_it(monkeypatch):
    lut = filled(PhotoLUT, monkeypatch)
    model, batch = lut.build(), lut.batch(5, 0.5)
    only_these_move(model, lambda network: lut.loss(network, batch, 0.0)[0], ("vit.", "decoder.", *PhotoLUT.new))
    rebuilt, context = (lut.loss(model, batch, 0.0)[1][name] for name in ("rebuilt", "context"))
    caught(lambda weight: float(lut.loss(model, batch, 0.0)[0].detach()) == pytest.approx(
        float(rebuilt + weight * context)), 0.25, 0.1, 1.0)  # mutant: the parser's default
    stirred(lut.teacher)
    heard, told = float(lut.loss(model, batch, 0.0)[1]["context"]), (batch["pixels"], batch["second"], batch["noise"])
    caught(lambda who: heard == pytest.approx(float(net.losses(model, who, *told)[1].detach()), rel=1e-4), lut.teacher,
           model)  # mutant: the student of this moment teaches itself
    caught(lambda at: [round(lut.stays(0, share), 4) for share in (0, 0.5, 1)] == at, [0.99, 0.995, 1.0],
           [0.99, 0.99, 0.99])
    counted = model.projector[1].running_mean
    counted += 1.0  # what a batch norm counts is followed, too
    kept = lut.teacher.projector[1].running_mean.clone()
    lut.curve = 11 * [{}]  # no more points for it
    lut.after_step(model, 1, 0.0)
    assert torch.allclose(lut.teacher.projector[1].running_mean, kept.lerp(counted, 0.01))
    assert lut.final(model) is model, "the student's average is shipped, as its control's is"


# ---- the records

def quarter(model, pixels):
    """The mutant: an MAE's input, a quarter of the patches."""
    return encode(model, pixels, torch.arange(64.0)[None], 64 - K)[0]


def test_attend_alone_reads_no_second_view(tiny, monkeypatch):
    monkeypatch.setattr(record, "two_views", None)
    *_, last = follow(replace(prepare("lut"), only="attend"))
    assert list(last.traces) == ["attend"]
    with pytest.raises(TypeError):
        list(follow(prepare("lut")))


def test_attention_is_measured_on_the_complete_photo(tiny):
    job = prepare("lut")
    attend, pixels = run("lut").traces["attend"], photo(job.subject.image, job.model).pixels

    def late(encoder):
        with torch.inference_mode(), observe(job.model.vit, want={"qk"}) as calls:
            count = encoder(job.model, pixels).shape[1] - 1
        return distance.spread(calls, grid_layout((count // 8, 8), first=1)).late("distance")
    caught(lambda encoder: attend.facts["distance LUT"].value == pytest.approx(late(encoder), rel=1e-5), encode_whole,
           quarter)
    assert [step.label for step in attend.steps] == [f"layer {i}, {who}" for who in ("MAE", "LUT") for i in (1, 2)]
    assert attend.rows.weights.shape == (4, 2, 64, 64)
    assert attend.steps[3].fields["like"][27] == pytest.approx(1, abs=1e-5)


def test_the_sheet_shows_two_disjoint_views_and_errors_of_the_first(tiny):
    mask = run("lut", params={"mask_ratio": 0.5}).traces["mask"]
    u, v, *whole = (mask.steps[0].state == mask.steps[0].state[-1]).reshape(4, 64)  # the last is visible
    assert u.sum() == v.sum() == 32 and not (u & v).any() and np.all(whole)
    assert len(set(map(tuple, mask.canvas.positions))) == 256 and mask.canvas.picture.shape == (136, 136, 3)
    np.testing.assert_array_equal(mask.steps[1].where("new"), 128 + np.flatnonzero(~u))
    loss = mask.steps[2].fields["loss"]
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(loss)), mask.steps[1].where("new"))
    assert mask.facts["error"].value == pytest.approx(np.nanmean(loss))


def test_the_gauge_is_the_cosine_of_guess_and_whole(tiny):
    made = record.two_views(prepare("lut"))
    q, y = made.q / made.q.norm(dim=1, keepdim=True), made.y / made.y.norm(dim=1, keepdim=True)
    caught(lambda at: made.agreement()[record.YOURS] == pytest.approx(float((q[0] * y[at]).sum()), abs=1e-5), 1, 0)
    assert len(made.agreement()) == 7, "six other photos, never your own"
    facts = run("lut").traces["mask"].facts
    assert facts["context"].value == pytest.approx(2 - float((q * y.flip(0)).sum()), abs=1e-4)


def test_work_is_counted(tiny):
    job = prepare("lut")
    made, model = record.two_views(job), job.model

    def all_of_it(also):
        z, ids_restore, _ = encode(model, made.view.pixels, torch.arange(64.0)[None], 64 - K)
        net.guess(model, z), model.decoder(z, ids_restore), also and net.told(model, made.view.pixels)
    caught(lambda also: multiply_adds(lambda: all_of_it(also)) == made.exam.cost.macs + record.whole(model, 64).macs,
           True, False)


def test_the_work_of_a_training_step_is_counted():
    (student, teacher), (u, v, noise) = networks(), drawn()

    def counted(first, second):
        return multiply_adds(lambda: net.losses(student, teacher, first, second, noise)) // len(u)
    caught(lambda views: counted(u, v) == sum(passes(student, views)), 2, 1)
    caught(lambda views: counted(u, u) == sum(passes(student, views)), 1, 2)


@pytest.mark.parametrize("params", ({"mask_ratio": 0.9, "strength": 0.0, "query": 63}, {"mask_ratio": 0.5, "query": 0}))
def test_every_setting_runs(tiny, params):
    assert set(run("lut", params=params, seed=8).traces) == {"mask", "attend"}


def test_the_mae_stands_beside_and_guesses_nothing(tiny):
    other = twin(prepare("lut", params={"strength": 0.5}, seed=4))
    assert other.bundle.name == MORE and other.params.strength == 0.5 and other.seed == 4
    found = run("lut", checkpoint=MORE).traces
    assert "never asked" in found["mask"].sentence and len(found["attend"].steps) == 2
