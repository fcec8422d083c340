"""DMT-JEPA: the traps its spec names, each with the mutant that the same check must refuse."""
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import kernels
from models.engine import prepare, run, twin
from models.loops.mask.multiblock import KEPT, multiblock
from models.loops.mask.photos import encode_whole
from models.papers.dmt_jepa import neighbours as near
from models.papers.dmt_jepa import network as net
from models.papers.dmt_jepa.recipe import PhotoDmt, PhotoJepa
from tests import tiny as stand_ins
from tests.photo_nets import filled, photos
from tests.traps import as_, caught, moved, moving, only_these_move


@cache
def model():
    return stand_ins.fresh("photo-dmt-1").eval().requires_grad_(False)


@cache
def features(count: int = 2):
    return model().features(photos(count))


def masks(count: int = 2):
    return multiblock(count, np.random.default_rng(3))


# ---- what a target is made of

def likest_by_loop(h) -> list[set[int]]:
    """The 4 neighbours of every patch of one picture, written as the spec's sentence."""
    unit, found = F.normalize(h, dim=-1), []
    for y, x in np.ndindex(8, 8):
        window = [8 * (y + dy) + x + dx for dy, dx in near.AROUND if 0 <= y + dy < 8 and 0 <= x + dx < 8]
        found.append(set(sorted(window, key=lambda at: -float(unit[8 * y + x] @ unit[at]))[:4]))
    return found


def all_neighbours(h):
    return near.likest(h, 8)


def with_itself(h):
    return near.likest(h) | torch.eye(64, dtype=torch.bool)


def by_pixels(h):
    return near.likest(model().patchify(photos(len(h))))


def wrapped(h):
    return near.likest(h, wrap=True)


def anywhere(h):  # the likest of all patches
    like = F.normalize(h, dim=-1) @ F.normalize(h, dim=-1).transpose(1, 2) - 2 * torch.eye(64)
    return torch.zeros_like(like, dtype=torch.bool).scatter_(2, like.topk(4, -1).indices, True)


def test_a_target_hears_the_four_likest_neighbours_and_never_the_patch_itself():
    h, truth = features(), [likest_by_loop(one) for one in features()]

    def hears(select):
        seen = []
        model().aggregator.local(h, select(h), seen)
        for q, k, may in seen:
            rows = kernels.attention_rows(q, k, range(64), mask=may)  # [B, H, N, 2 N]
            own, others = rows[..., :64], rows[..., 64:]
            assert torch.equal(own > 0, torch.eye(64, dtype=torch.bool).expand_as(own)), "only its own query"
            for found, sets in zip(others, truth, strict=True):
                assert all(set(torch.where(row)[0].tolist()) == kept for row, kept in zip(found[0] > 0, sets))
    caught(hears, near.likest, all_neighbours, with_itself, by_pixels, wrapped, anywhere)
    assert [len(sets) for sets in truth[0]][:2] == [3, 4], "a corner has three neighbours, an edge has five"


class Tiled(net.LocalAggregator):
    """The released code's: the query of another picture of the batch."""

    def local(self, h, selected, seen=None):
        other = h.roll(1, 0).mean(1, keepdim=True)
        c, own = other.expand_as(h), torch.eye(h.shape[1], dtype=torch.bool).expand_as(selected)
        for layer in self.layers:
            c = net.mlp(layer, c + net.hear(layer, c, torch.cat([c, h], 1), torch.cat([own, selected], 2)[:, None]))
        return self.norm(c)


def test_the_query_is_the_mean_of_the_same_picture():
    h, head = features(), model().aggregator
    chosen = near.likest(h)

    def alone(one):
        return torch.allclose(one.local(h, chosen)[:1], one.local(h[:1], chosen[:1]), atol=1e-5)
    caught(alone, head, as_(Tiled, head))


class PerToken(net.LocalAggregator):
    """Every context token asks for itself: an ordinary block."""

    def around(self, z):
        for layer in self.layers:
            z = net.mlp(layer, z + net.hear(layer, z, torch.cat([z.mean(1, keepdim=True), z], 1)))
        return self.norm(z)


def test_the_context_asks_once_and_tells_all_its_tokens_the_same(monkeypatch):
    z, head, asked = features()[:, :KEPT], model().aggregator, net.hear

    def asks_once(one):
        counts = []
        monkeypatch.setattr(net, "hear", lambda layer, queries, *keys: counts.append(queries.shape[1]) or asked(
            layer, queries, *keys))
        one.around(z)
        return counts == [1, 1]
    caught(asks_once, head, as_(PerToken, head))


# ---- who sees what

def leaking(vit, pixels, kept):  # encodes the whole picture and leaves patches out afterwards
    return near.picked(net.encoded(vit, pixels), kept)


def test_predictions_know_nothing_of_hidden_patches():
    made, patches = masks(1), model().patchify(photos(1))
    hidden = next(iter(set(range(8, 56)) - set(made.context[0].tolist())))

    def blind(encode):
        return not moved(lambda x: encode(model().vit, model().unpatchify(x), made.context), patches, hidden).any()
    caught(blind, net.encoded, leaking)


def test_the_encoder_has_no_class_token():
    other = stand_ins.fresh("photo-dmt-1").eval()
    other.vit.load_state_dict(model().vit.state_dict())
    other.vit.embeddings.cls_token.data += 5

    def unheard(encode):
        return torch.allclose(*(encode(one, photos(1)) for one in (model(), other)))
    caught(unheard, lambda one, x: net.encoded(one.vit, x), lambda one, x: encode_whole(one, x)[:, 1:])


def test_positions_have_numbers_after_a_file_was_read():
    net.positions.cache_clear()
    with torch.device("meta"):  # where the library builds what it is about to fill
        net.positions(8, 32)
    assert torch.isfinite(net.tiny(2)(photos(1), *masks(1))).all()


# ---- what learns

@pytest.fixture
def pair(monkeypatch):
    tiny = {aggregates: net.tiny(aggregates) for aggregates in (0, 2)}
    monkeypatch.setattr(net, "JepaForPreTraining", lambda config: tiny[config.aggregates])
    monkeypatch.setattr(PhotoJepa, "batch_size", 4)
    return lambda kind: filled(kind, monkeypatch)


def test_nothing_flows_back_through_a_target(pair):
    recipe = pair(PhotoDmt)
    student, batch = recipe.build(), recipe.batch(0, 0.0)
    truth = near.picked(recipe.teacher.targets(batch["pixels"]), batch["blocks"]).clone()

    def slopes(loss):
        student.zero_grad()
        loss().backward()
        return [weight.grad.clone() for weight in student.aggregator.parameters() if weight.grad is not None]

    def through_the_context_alone(made):
        constant = slopes(lambda: near.errors(student(**batch), truth).mean())
        return all(map(torch.allclose, slopes(made), constant))

    def online():  # the target from the network that learns
        own = student.made_of(student.features(batch["pixels"]))
        return near.errors(student(**batch), near.picked(own, batch["blocks"])).mean()
    caught(through_the_context_alone, lambda: recipe.loss(student, batch, 0.0)[0], online)
    assert not moving(recipe.teacher.requires_grad_(True), lambda _: recipe.loss(student, batch, 0.0)[0])
    learn = "vit.layers", "vit.layernorm", "vit.embeddings.patch", "aggregator.", "predictor."
    only_these_move(student, lambda network: recipe.loss(network, batch, 0.0)[0], learn)


def test_the_teacher_is_an_average_that_stands_still_at_the_end(pair):
    recipe = pair(PhotoDmt)
    student = recipe.build()
    before = recipe.teacher.aggregator.norm.bias.clone()
    with torch.no_grad():
        student.aggregator.norm.bias += 1

    def moves(progress):
        recipe.teacher.aggregator.norm.bias.copy_(before)
        recipe.curve = [{}] * 20  # no point of the curve is due
        recipe.after_step(student, 0, progress)
        return float((recipe.teacher.aggregator.norm.bias - before).mean())
    assert moves(0.0) == pytest.approx(0.04, rel=1e-3)
    caught(lambda progress: moves(progress) == 0, 1.0, 0.5)


def test_a_collapsed_pair_is_stopped_however_low_its_loss(pair):
    recipe = pair(PhotoJepa)
    recipe.build()

    def goes_on(share):
        recipe.teacher.vit.layernorm.weight.data.fill_(share)
        recipe.teacher.vit.layernorm.bias.data.copy_(torch.linspace(-1, 1, 32))
        recipe.quick(None)
        return not recipe.stop()
    caught(goes_on, 1.0, 0.0)


def test_both_arms_see_the_same_pictures_and_masks(pair):
    dmt, jepa = pair(PhotoDmt), pair(PhotoJepa)
    mine = dmt.batch(5, 0.5)
    caught(lambda batch: all(torch.equal(mine[name], batch[name]) for name in batch), jepa.batch(5, 0.5),
           jepa.batch(6, 0.5))
    dmt.differs_in_one_thing(PhotoJepa)
    network = jepa.build()
    assert torch.equal(network.targets(mine["pixels"]), network.features(mine["pixels"])), "I-JEPA's are raw latents"


# ---- the records

def test_the_records_show_blocks_window_weights_and_maps(tiny):
    found = run("dmt-jepa", params={"query": 18}).traces
    mask, attend = found["mask"], found["attend"]
    visible = mask.steps[0].where("visible")
    assert len(visible) == KEPT
    for step in mask.steps[1:]:
        asked = np.flatnonzero(~np.isnan(step.fields["loss"]))
        assert len(asked) >= 9 and set(asked) <= set(step.where("masked")), "errors are those of target patches alone"
    window, first = attend.steps[0], attend.steps[1]
    assert len(window.where("accepted")) == 4 == len(window.where("refused"))
    assert set(np.flatnonzero(~np.isnan(first.fields["weight"]))) == set(window.where("accepted"))
    total = np.nansum(first.fields["weight"]) + first.fields["own"][18]
    assert total == pytest.approx(1, abs=1e-2)
    assert attend.charts[0].series["attention"].shape == (8, 5)
    assert {"rank", "spread"} <= set(mask.facts), "never a loss alone"


@pytest.mark.parametrize("params", ({"query": 0, "keep": 8}, {"query": 63, "keep": 1}))
def test_every_setting_runs_on_both_arms(tiny, params):
    for name in ("photo-dmt-1", "photo-jepa-1"):
        steps = run("dmt-jepa", params=params, checkpoint=name).traces["attend"].steps
        assert len(steps) == (5 if "dmt" in name else 2)
    other = twin(prepare("dmt-jepa", params=params, seed=4))
    assert other.bundle.name == "photo-jepa-1" and other.params.query == params["query"]
