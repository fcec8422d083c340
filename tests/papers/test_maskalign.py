"""MaskAlign: the traps its spec names, each with the mutant that the same check must refuse."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.engine import prepare, run, twin
from models.loops.mask.photos import encode_whole
from models.papers.maskalign import alignment as net
from models.papers.maskalign import recipe as recipes
from tests import tiny as stand_ins
from tests.photo_nets import filled, photos
from tests.traps import caught, dice, moved, moving, only_these_move, work_is_counted

KEPT = net.KEPT


@cache
def student():
    return stand_ins.fresh("photo-align-1").eval().requires_grad_(False)


@cache
def teacher():
    return stand_ins.vit().eval().requires_grad_(False)


@cache
def seen_by_both():
    """Pixels [2, 3, S, S], what the teacher makes of them, and the order [2, L]."""
    pixels = photos(2)
    sight = net.whole(teacher(), pixels)
    return pixels, sight, net.drawn(sight.importance, torch.rand(2, 64, generator=dice()))


# ---- which patches stay

def salient_hidden(importance, noise):
    return net.drawn(importance, noise).flip(1)


def ranked(importance, noise):  # top-k
    return importance.argsort(1, descending=True)


def with_replacement(importance, noise):
    return torch.multinomial(importance, importance.shape[1], True, generator=dice())


def all_alike(importance, noise):
    return net.drawn(torch.ones_like(importance), noise)


def test_salient_patches_are_likelier_to_stay_drawn_without_replacement():
    p = torch.tensor([0.5, 0.25, 0.15, 0.1])
    second = torch.stack([sum(p[i] * p[j] / (1 - p[i]) for i in range(4) if i != j) for j in range(4)])
    noise = torch.rand(20_000, 4, generator=dice())

    def by_the_rule(draw):
        order = draw(p.expand(len(noise), -1), noise)
        assert (order.sort(1).values == torch.arange(4)).all()
        for place, chances in enumerate((p, second)):
            assert torch.allclose(order[:, place].bincount(minlength=4) / len(noise), chances, atol=0.015)
    caught(by_the_rule, net.drawn, salient_hidden, ranked, with_replacement, all_alike)


def test_importance_is_the_last_layers_attention_of_the_class_token():
    pixels, sight, _ = seen_by_both()
    model = stand_ins.vit().eval()
    model.set_attn_implementation("eager")
    every = [one.mean(1)[:, 0, 1:] for one in model.vit(pixels, output_attentions=True).attentions]
    caught(lambda rows: torch.allclose(rows, sight.importance, atol=1e-5), every[-1], every[0], sum(every) / 2)


# ---- what is compared

def masked_teacher(pixels, order):
    return net.WholeSight(net.blocks(teacher(), pixels, order[:, :KEPT]), pixels).targets()


def at_the_same_places(pixels, order):
    return net.at(net.whole(teacher(), pixels).targets(), net.seen(order))


def test_the_teacher_sees_everything_and_the_student_only_what_was_drawn():
    pixels, _, order = seen_by_both()
    rows, one = pixels[:1].transpose(1, 2), order[:1]  # [1, 64 rows of pixels, 3, 64]
    y = next(y for y in range(8) if not set(range(8 * y, 8 * y + 8)) & set(one[0, :3].tolist()))  # three are seen

    def hears_hidden(answer):
        return moved(lambda x: answer(x.transpose(1, 2), one), rows, slice(8 * y, 8 * y + 8)).any()

    def three(read):
        return lambda x, order: read(x, order[:, :3])
    caught(hears_hidden, three(lambda x, order: net.at(net.whole(teacher(), x).targets(), net.seen(order, 3))[-1]),
           three(lambda x, order: net.blocks(teacher(), x, order)[-1]))
    caught(lambda read: not hears_hidden(read), three(lambda x, order: net.blocks(student(), x, order)[-1]),
           lambda x, order: encode_whole(student(), x))


def test_targets_are_each_token_whitened_at_the_places_that_are_seen():
    pixels, sight, order = seen_by_both()
    states = teacher().vit(pixels, output_hidden_states=True).hidden_states[1:]

    def whitened(targets):
        for a, state in enumerate(states):
            for place, patch in enumerate([-1, *order[1, :KEPT].tolist()]):
                token = state[1, patch + 1]
                spread = (token.var(unbiased=False) + 1e-5).sqrt()
                assert torch.allclose(targets[a, 1, place], (token - token.mean()) / spread, atol=1e-4)
    right, raw = at_the_same_places(pixels, order), net.at(sight.states, net.seen(order))
    caught(whitened, right, raw, F.layer_norm(raw, raw.shape[1:]), right.roll(1, 2), masked_teacher(pixels, order))


def softened(heads, states):
    fused = torch.einsum("ab,b...->a...", heads.w.softmax(-1), states)
    return torch.stack([head(one) for head, one in zip(heads.levels, fused)])


def last_block_alone(heads, states):
    return torch.stack([head(states[-1]) for head in heads.levels])


def test_every_block_before_the_final_norm_is_mixed_by_an_unconstrained_w():
    pixels, _, order = seen_by_both()
    fresh = net.DynamicAlignment(6, 8, 5).w.detach()
    caught(lambda w: torch.equal(w, torch.eye(6) + 0.01), fresh, fresh.softmax(-1), torch.eye(6))
    caught_there, model = [], student()
    hooks = [layer.register_forward_hook(lambda *x: caught_there.append(x[-1])) for layer in model.vit.layers]
    states = net.blocks(model, pixels, order[:, :KEPT])
    for hook in hooks:
        hook.remove()
    caught(lambda found: torch.equal(found, torch.stack(caught_there)), states, model.vit.layernorm(states))
    w, heads = model.heads.w, model.heads
    s = torch.stack([head(w[a, 0] * states[0] + w[a, 1] * states[1]) for a, head in enumerate(heads.levels)])
    caught(lambda fuse: torch.allclose(fuse(heads, states), s, atol=1e-5), lambda heads, x: heads(x), softened,
           last_block_alone)


def test_the_loss_counts_all_levels_and_the_class_token_alike():
    s, y = torch.randn(5, 2, 4, 8, generator=dice()), torch.randn(5, 2, 4, 8, generator=dice()) * 2
    d = (s - y).abs()
    by_hand = sum(float((2 * torch.where(d[a] < 1, d[a] ** 2 / 2, d[a] - 0.5)).mean()) / 5 for a in range(5))
    caught(lambda loss: float(loss(s, y)) == pytest.approx(by_hand, rel=1e-5),
           lambda s, y: net.token_errors(s, y).mean(), lambda s, y: net.token_errors(s, y)[..., 1:].mean(),
           lambda s, y: net.token_errors(s, y)[-1].mean(), F.smooth_l1_loss, F.mse_loss)


# ---- the arms

def arm(kind, monkeypatch):
    monkeypatch.setattr(recipes, "read_shipped", lambda name: stand_ins.vit())
    monkeypatch.setattr(recipes.PretrainingArm, "prepare", lambda self, folder: None)
    made = filled(kind, monkeypatch)
    made.prepare("")
    made.autocast = False
    return made


def test_the_arms_see_the_same_and_differ_in_one_thing(monkeypatch):
    kinds = recipes.PhotoAlign, recipes.PhotoAlignRebuilt, recipes.PhotoAlignFixed, recipes.PhotoAlignUniform
    align, rebuilt, fixed, uniform = (arm(kind, monkeypatch) for kind in kinds)
    monkeypatch.setattr(net, "LEVELS", 2)
    mine = align.batch(5, 0.5)

    def alike(other):
        return all(torch.equal(mine[name], one) for name, one in other.items())
    caught(alike, rebuilt.batch(5, 0.5), uniform.batch(5, 0.5), rebuilt.batch(6, 0.5))
    assert uniform.differs.keys() == {"order"} and alike(fixed.batch(5, 0.5))

    def loss(recipe):
        return lambda model: recipe.loss(model, mine, 0.0)[0]
    for recipe, parts in ((align, ("heads.mix", "heads.levels")), (rebuilt, ("decoder.", "feature_head"))):
        only_these_move(recipe.build(), loss(recipe), ("vit.embeddings", "vit.layers", *parts) + (
            ("vit.layernorm",) if recipe is rebuilt else ()))
    caught(lambda recipe: "heads.mix" in moving(recipe.build(), loss(recipe)), align, fixed)


def test_hidden_features_alone_count_where_they_are_rebuilt(monkeypatch):
    monkeypatch.setattr(net, "LEVELS", 2)
    recipe = arm(recipes.PhotoAlignRebuilt, monkeypatch)
    model, batch = recipe.build(), recipe.batch(0, 0.0)

    def counts(order):
        other = batch["targets"].clone()
        other.scatter_(2, order[None, :, :, None].expand(2, -1, -1, 32) + 1, 9.0)
        return not torch.equal(recipe.errors(model, batch), recipe.errors(model, batch | {"targets": other}))
    caught(counts, batch["order"][:, KEPT:], batch["order"][:, :KEPT])


def test_what_an_arm_without_weights_scored_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "SHIPPED", tmp_path)
    (tmp_path / "photo-align-1").mkdir()
    made = recipes.PhotoAlignUniform(2)
    made.right = np.array([100.0, 0.0])
    made.beside(tmp_path)
    assert json.loads((tmp_path / "photo-align-1/photo-align-uniform-1.json").read_text())["linear"] == [1, 0]


def test_work_is_what_is_computed(monkeypatch):
    pixels, _, order = seen_by_both()
    one, kept, model = pixels[:1], order[:1, :KEPT], student()
    monkeypatch.setattr(net, "LEVELS", 2)
    (sight, mine), (_, other) = (net.training_work(model.config, KEPT, rebuilt) for rebuilt in (False, True))
    work_is_counted(lambda: net.whole(teacher(), one), sight)
    work_is_counted(lambda: model.heads(net.blocks(model, one, kept)), mine // 3)
    decoder = recipes.FeatureDecoder(stand_ins.mae_config())
    work_is_counted(lambda: decoder.features(one, order[:1]), other // 3)


# ---- the records

def test_the_records_show_errors_of_what_is_seen_and_no_rebuilt_picture(tiny):
    mask, attend = (run("maskalign", seed=4).traces[tab] for tab in ("mask", "attend"))
    caught(lambda trace: all(not len(step.where("new")) and np.array_equal(step.picture, trace.canvas.picture)
                             for step in trace.steps), mask, run("mae").traces["mask"])
    visible, draw = mask.steps[1].where("visible"), mask.steps[1].fields["draw"]
    assert set(draw[visible]) == set(range(1, KEPT + 1)) and len(mask.steps[0].where("visible")) == 64
    for step in mask.steps[2:]:
        np.testing.assert_array_equal(np.flatnonzero(~np.isnan(step.fields["error"])), visible)
    rows = attend.rows.weights[:, 0].astype(bool)  # [2 R, L, L]
    assert rows[0].all(1).any() and not rows[1][np.setdiff1d(range(64), visible)].any()
    assert {chart.title for chart in attend.charts} >= {"W, minus the identity"}
    whole, part = (step.picture.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, -1) for step in attend.steps[:2])
    unseen = np.setdiff1d(range(64), visible)
    assert np.array_equal(part[visible], whole[visible]) and (part[unseen] == part[unseen[0], :3].tolist() * 64).all()


@pytest.mark.parametrize("params", ({"mask_ratio": 0.3}, {"mask_ratio": 0.9, "mode": "uniform"}))
def test_every_setting_runs_and_the_control_has_no_heads(tiny, params):
    job = prepare("maskalign", params=params, seed=8)
    found, other = run("maskalign", params=params, seed=8).traces, twin(job)
    assert other.bundle.name == "photo-align-rebuilt-1" and other.params == job.params
    beside = run(other.method, params=params, seed=8).traces
    np.testing.assert_array_equal(beside["mask"].steps[1].state, found["mask"].steps[1].state)
    assert len(beside["mask"].steps) == 2 and "error" in found["mask"].facts
