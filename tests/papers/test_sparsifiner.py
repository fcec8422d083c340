"""Sparsifiner: its predictor against the released code in formulas, the traps of its spec with their mutants, its
record."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.backbones.kept_pairs import allowed
from models.engine.method import prepare, run, twin
from models.papers.sparsifiner import method as sparsifiner
from models.papers.sparsifiner import network as net
from models.papers.sparsifiner import record as sparsifiner_records
from tests import tiny
from tests.photo_nets import photos
from tests.traps import caught, only_these_move, work_is_counted
from visualizers.drawing.attend import draw

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def vit():
    return tiny.vit().eval().requires_grad_(False)


@pytest.fixture
def predictors():
    return tiny.fresh("photo-sparsifiner-predictor-1").eval()


# The predictor, as the released code has it, one query at a time. Each switch is a mistake somebody would make.

def reference(own, q, k, *, top=4, threshold=0.02, scale=None, signed=False, cls_row=False, over_width=False):
    """A^ [B, H, N - 1, N]."""
    c = own.q_proj.out_features
    lower_q, lower_k = own.q_proj(q), own.k_proj(k)
    compressed = torch.einsum("bhjc,jn->bhcn", lower_k, own.down)
    scores = torch.einsum("bhic,bhcn->bhin", lower_q, compressed) * (scale or q.shape[1] ** -0.5)
    scores = scores / c**0.5 if over_width else scores
    rows = scores.softmax(-1) if cls_row else scores.softmax(-1)[:, :, 1:]
    maps = own.up.T if signed else torch.nn.Threshold(threshold, 0.0)(own.up.T.abs())
    weight, place = rows.topk(top, -1)
    return sum(weight[..., [i]] * maps[place[..., i]] for i in range(top))


@pytest.mark.parametrize("mistake", ({}, {"scale": 16**-0.5}, {"signed": True}, {"cls_row": True}, {"top": 10},
                                     {"threshold": 0.3}, {"over_width": True}), ids=str)
def test_the_predictor_is_the_released_one(vit, predictors, mistake):
    q, k = net.dense_heads(vit, photos(2))[0]
    with torch.no_grad():
        mine, theirs = predictors.layers[0](q, k), reference(predictors.layers[0], q, k, **mistake)
    same = mine.shape == theirs.shape and torch.allclose(mine, theirs, atol=1e-5)
    assert same == (not mistake)


def test_predictors_learn_the_dense_attention_of_patches(vit, predictors):
    seen = net.dense_heads(vit, photos(2))
    by_hand = 0.0
    for own, (q, k) in zip(predictors.layers, seen):
        dense = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        by_hand += 0.01 * ((own.coefficients(q, k) @ own.up.T - dense[:, :, 1:]) ** 2).sum() / 2
    torch.testing.assert_close(predictors.reconstruction(seen), by_hand)


# Traps

@torch.no_grad()
def test_the_mask_comes_from_the_predictor(vit, predictors):
    """A predictor that knows one map only keeps the keys of that map, whatever q k^T would say. Mutant: the top of the
    true attention."""
    (q, k), few = net.dense_heads(vit, photos(1))[0], torch.tensor([3, 20, 41])
    predictors.layers[0].up.zero_()[few] = torch.tensor([[0.5], [0.4], [0.3]])
    caught(lambda score: (net.chosen(score, 3 / 65)(0, q, k).sort(-1).values == few).all(), predictors.learned(),
           net.oracle)


def test_what_is_counted_is_what_runs(predictors):
    """The products of predictor and attention, as they run, are what is counted. (A^ is a sparse product in the count
    and a dense one here, so it is left out of both.) Mutants: a masked dense product; a predictor for free."""
    q, k, own, b = torch.randn(1, 2, 65, 16), torch.randn(1, 2, 65, 16), predictors.layers[0], 17
    keys, config = torch.rand(1, 2, 64, 65).argsort(-1)[..., :b], type("Config", (), {"_attn_implementation": "sdpa"})
    stub = type("Stub", (), {"scaling": 0.25, "config": config})
    spared = 2 * own.q_proj.out_features * (own.q_proj.in_features + own.down.shape[1])  # the class token's q'

    def as_told(mix, count):
        told = count(65, 16, b, own.down.shape[1], 0, 0, 2)
        work_is_counted(lambda: (own.coefficients(q, k), mix(stub, q, k, q, keys)), told.predictor + told.kept - spared)

    def masked_dense(attention, q, k, v, keys):
        scores = (q @ k.transpose(-1, -2)).masked_fill(~allowed(keys, k.shape[2]), float("-inf"))
        return scores.softmax(-1) @ v

    caught(as_told, (net.gathered, sparsifiner_records.work), (masked_dense, sparsifiner_records.work),
           (net.gathered, lambda *args: sparsifiner_records.work(*args)._replace(predictor=0)))


def test_predictor_and_kept_pairs_against_dense():
    small = sparsifiner_records.work(65, 64, 17, 10, 4, 65, 3)
    large = sparsifiner_records.work(257, 64, 65, 42, 8, 257, 3)
    assert small.dense == 3 * 2 * 65**2 * 64 and small.share > 0.8, "at 65 tokens the predictor eats the saving"
    assert large.share < 0.6


def test_the_class_tokens_row_stays_dense():
    keys = torch.randint(65, (2, 2, 64, 5))

    def masked_too(keys, tokens):
        return torch.zeros(*keys.shape[:2], tokens, tokens, dtype=torch.bool).scatter_(
            -1, torch.cat([keys[:, :, :1], keys], 2), True)

    caught(lambda allow: allow(keys, 65)[:, :, 0].all(), allowed, masked_too)


def test_a_predictor_is_tied_to_its_number_of_tokens(predictors):
    class Stretched(net.Connectivity):
        def coefficients(self, q, k):
            down = F.interpolate(self.down.T[None], k.shape[2])[0].T
            return (self.q_proj(q[:, :, 1:]) @ (self.k_proj(k).transpose(-1, -2) @ down)).softmax(-1)

    def refuses(own):
        q = torch.randn(1, 2, 257, 16)
        with pytest.raises(ValueError, match="tied to 65 tokens, not 257"):
            own.coefficients(q, q)

    caught(refuses, predictors.layers[0], Stretched(65, 16, 10, 1.0))


def test_nothing_flows_back_through_the_choice(predictors):
    """The class loss trains the trunk and leaves the predictors alone. Mutant: the guess as a bias of the scores."""
    both = torch.nn.ModuleDict({"trunk": tiny.vit().train(), "predictors": predictors})

    def frozen_in_phase_2(mix):
        def loss(both):
            vit = both["trunk"]
            last = net.states(vit, photos(1), net.chosen(predictors.learned(), 0.25), mix)[-1]
            return vit.classifier(vit.vit.layernorm(last[:, 0])).logsumexp(-1)
        only_these_move(both, loss, ("trunk.vit.layers.0.attention.q_proj", "trunk."))

    def soft(attention, q, k, v, keys, alive):
        bias = F.pad(predictors.layers[0].dense(q, k), (0, 0, 1, 0))
        return ((q @ k.transpose(-1, -2) * attention.scaling + bias).softmax(-1) @ v).transpose(1, 2)

    caught(frozen_in_phase_2, net.masked, soft)


# The two ways of computing a mask, and tokens that leave

@pytest.mark.parametrize("tokens", (1.0, 0.7))
@torch.no_grad()
def test_gathering_computes_the_same(vit, predictors, tokens):
    keys = net.chosen(predictors.learned(), 0.25)

    def same_numbers(mix):
        one, other = (net.states(vit, photos(), keys, way, tokens=tokens)[-1] for way in (net.masked, mix))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)

    def one_head_for_all(attention, q, k, v, keys, alive):
        return net.gathered(attention, q, k, v, keys[:, :1].expand_as(keys), alive)

    def sparse_cls(attention, q, k, v, keys, alive):
        out = net.gathered(attention, q, k, v, keys, alive).clone()
        out[:, 0] = v[:, :, 0]
        return out

    caught(same_numbers, net.gathered, one_head_for_all, sparse_cls)


def test_all_keys_are_the_librarys_own_pass(vit, predictors):
    dense = vit.vit(photos(), output_hidden_states=True).hidden_states[1:]
    for keys in (None, net.chosen(predictors.learned(), 1.0)):
        for mine, theirs in zip(net.states(vit, photos(), keys), dense):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def leave(model, pixels, mix):
    """Patches that leave are as good as never there: the same pass over the tokens that stay."""
    with torch.no_grad():
        first, last = net.states(model, pixels, mix=mix, tokens=0.5)
        alive = (first[0] != 0).any(-1)
        assert int(alive.sum()) == 1 + 32 and alive[0] and int((last[0] != 0).any(-1).sum()) == 1 + 8
        cut = first[:, alive]
        q, k, v = net.heads_of(model.vit.layers[1], cut)
        attention = model.vit.layers[1].attention
        cut = cut + attention.o_proj(net.masked(attention, q, k, v, None).flatten(2))
        cut = cut + model.vit.layers[1].mlp(model.vit.layers[1].layernorm_after(cut))
    torch.testing.assert_close(last[0, 0], cut[0, 0], atol=1e-5, rtol=1e-4)


def test_patches_that_leave_are_gone(vit):
    def zeros_still_seen(attention, q, k, v, keys, alive):  # the released code: a score of zero is not no score
        gone = slice(None) if alive is None else alive[:, None, :, None]
        k, v = (k, v) if alive is None else (k * gone, v * gone)
        return net.masked(attention, q, k, v, keys, None)

    caught(lambda mix: leave(vit, photos(1), mix), net.masked, zeros_still_seen)


def test_where_patches_leave():
    assert net.cuts(12, 196, 0.7) == {3: 138, 6: 97, 9: 68} and net.cuts(6, 64, 0.5) == {1: 32, 3: 16, 4: 8}
    assert net.cuts(12, 196, 1.0) == {}


def test_how_many_keys_and_which():
    assert [net.budget(keep, 65) for keep in (0.01, 0.2, 0.25, 0.3, 1.0)] == [1, 13, 17, 20, 65]
    q = torch.randn(1, 2, 65, 16)
    near = net.chosen(net.window, 10 / 65)(0, q, q)[0, 0]
    assert set(near[27].tolist()) == {0, 28, 19, 20, 21, 27, 29, 35, 36, 37}, "the class token and a 3 x 3 window"
    one, other = (net.chosen(net.dice(torch.Generator().manual_seed(seed)), 0.25)(0, q, q) for seed in (0, 1))
    assert one.shape == (1, 2, 64, 17) and not torch.equal(one, other)
    dense = net.probabilities(q, q)[:, :, 1:]
    best = dense.gather(-1, net.chosen(net.oracle, 0.25)(0, q, q)).sum(-1)
    assert (best >= dense.gather(-1, one).sum(-1)).all()


def test_the_released_scale_is_kept_and_named():
    assert net.ConnectivityPredictors().layers[0].scale == 3**-0.5
    assert net.ConnectivityPredictors(scale="width").layers[0].scale == 32**-0.5
    with pytest.raises(ValueError, match="choose"):
        net.ConnectivityPredictors(scale="depth")


# One pass, and its record

def sight_of(vit, predictors, keep=0.25, kind="learned", tokens=1.0):
    keys = net.chosen(net.score_of(kind, predictors, torch.Generator().manual_seed(0)), keep)
    return sparsifiner_records.look(sparsifiner.arm_of(vit, keys, tokens), predictors, photos(1), 4, 0.02)


def test_what_is_seen_is_what_acted(vit, predictors):
    sight = sight_of(vit, predictors)
    np.testing.assert_allclose(sight.acted.sum(-1), 1, atol=1e-5)
    assert (sight.acted[~sight.kept] == 0).all() and (sight.kept[:, :, 1:].sum(-1) == 17).all()
    assert (sight.mass <= sight.most + 1e-6).all() and sight.kept[:, :, 0].all()
    q, k = net.dense_heads(vit, photos(1))[0]
    np.testing.assert_allclose(sight.dense[0], net.probabilities(q, k)[0], atol=1e-6)
    first = net.chosen(predictors.learned(), 0.25)(0, q, k)
    np.testing.assert_array_equal(sight.kept[0], allowed(first, 65)[0])
    best = sight_of(vit, predictors, kind="oracle")
    np.testing.assert_allclose(best.mass, best.most, atol=1e-6)
    np.testing.assert_allclose(best.recall, 1)


def test_stages_of_a_layer(vit, predictors):
    sight = sight_of(vit, predictors)
    found = sparsifiner_records.stages(sight, 1)
    assert list(found) == ["if it were dense", "as predicted", "keys kept", "missed"]
    patches = slice(1, None)
    assert ((found["missed"] > 0) & sight.kept[1])[:, patches].sum() == 0
    np.testing.assert_allclose(found["missed"][:, patches].sum(-1) + (found["if it were dense"] * sight.kept[1])[
        :, patches].sum(-1) >= sight.most[1] - 1e-6, True)
    np.testing.assert_allclose(found["keys kept"].sum(-1), 1, atol=1e-6)


def test_the_record_opens_one_layer(tiny):
    trace = run("sparsifiner", params={"layer": 1, "query": 9}).traces["attend"]
    assert [step.label for step in trace.steps] == [
        "layer 1: if it were dense", "layer 1: as predicted", "layer 1: keys kept", "layer 1: missed", "layer 1",
        "layer 2"]
    assert trace.rows.weights.shape[:2] == (6, 2) and list(trace.heads.layers) == [0, 0, 0, 0, 0, 1]
    kept = trace.rows.row(2, 0, 9)
    assert np.allclose(kept[kept > 0], 1 / 17, atol=1e-3) and list(trace.steps[4].where("new")) == [9]
    assert draw(trace).view["start"] == 4 and draw(trace).view["query"] == 9, "it opens where its layer is opened"
    assert trace.cost.macs > 0 and trace.steps[0].cost.macs == 0
    assert {"kept", "most", "recall", "work", "answer"} <= set(trace.facts)
    assert "17 of 65 keys" in trace.sentence and "before any query met a key" in trace.sentence


@pytest.mark.parametrize("kind", net.KINDS)
def test_every_mask_and_fewer_patches_run(tiny, kind):
    found = run("sparsifiner", params={"mask": kind, "keep": 0.1, "tokens": 0.7}).traces
    assert found["attend"].facts["pairs"].value < 20
    spent = found["attend"].facts["work"].value
    assert {"oracle": 50 < spent < 100, "learned": 20 < spent < 100}.get(kind, spent < 20)
    first, last = found["prune"].steps[1], found["prune"].steps[-1]
    assert len(first.where("known")) == 64 and len(last.where("known")) == 45 and last.cost.rows == 46


def price(trace, plain):
    """Fewer patches cost fewer rows, and dense is the same whoever left."""
    one, all_there = trace.facts, plain.facts
    assert one["work"].value < all_there["work"].value and one["attention"].value < all_there["attention"].value
    assert trace.cost.rows == 65 + 46 and plain.cost.rows == 2 * 65
    np.testing.assert_allclose(*(t.charts[1].series["all pairs, all patches"] for t in (trace, plain)))


def test_patches_leave_in_the_prune_tab(tiny):
    fewer, full = (run("sparsifiner", params={"tokens": tokens}).traces["prune"] for tokens in (0.7, 1.0))
    caught(price, (fewer, full), (full, full))
    assert "45 of 64 patches reach the last layer" in fewer.sentence and full.facts["budget"].value == 100
    looked = fewer.steps[1].fields["cls"]
    gone = fewer.steps[2].where("dropped")
    assert looked[gone].max() <= np.delete(looked, gone).min() and np.isnan(fewer.steps[2].fields["cls"][gone]).all()
    nothing = run("sparsifiner", params={"keep": 1, "tokens": 1}).traces["prune"].facts
    assert nothing["work"].value == pytest.approx(100) and nothing["agreement"].value == pytest.approx(
        nothing["dense"].value, abs=1e-3)


def test_all_keys_answer_as_the_vit_does(tiny):
    job = prepare("sparsifiner", params={"layer": 2})
    mine, other = run("sparsifiner", params={"keep": 1}), twin(job)
    assert (other.params.keep, other.params.tokens, other.params.layer) == (1, 1, 2) and other.model is job.model
    facts = mine.traces["attend"].facts
    assert facts["answer"].value == pytest.approx(facts["dense"].value, abs=1e-5) and facts["kept"].value > 0.999
    assert "Every pair" in mine.traces["attend"].sentence and facts["work"].value == 100


def test_maps_are_tiled_with_gaps():
    sheet = sparsifiner_records.tiled(np.arange(7 * 4).reshape(7, 4).astype(float), 3, 2)
    assert sheet.shape == (14, 14) and np.isnan(sheet[4]).all() and list(sheet[5, :5:2]) == [12, 13, pytest.approx(
        np.nan, nan_ok=True)] and list(sheet[6, :4]) == [12, 12, 13, 13]


def test_the_mass_of_every_step_is_its_layers(vit, predictors):
    sight = sight_of(vit, predictors, tokens=0.5)
    chart = sparsifiner_records.mass_chart(sight, [0, 0, 1], 1)
    assert list(chart.series) == ["head 1", "head 2", "best keys"] and chart.by_step
    left = sight.alive[1, 1:]
    np.testing.assert_allclose(chart.series["head 2"][2], [3, sight.mass[1, 1][left].mean()], rtol=1e-5)
    assert (chart.series["best keys"][:, 1] <= 1.0001).all() and chart.series["head 1"][0, 0] == 1


def test_defaults_are_the_papers():
    p = sparsifiner.Params()
    assert (p.keep, p.mask, p.coefficients, p.threshold, p.tokens) == (0.25, "learned", net.TOP, net.THRESHOLD, 0.7)
