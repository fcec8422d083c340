"""VFlowOpt: the rule as the spec writes it, and every mistake that a careless copy makes, each caught by a test."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.backbones.vlm import normalise
from models.engine.method import follow, prepare, run, twin
from models.loops.prune import pictures
from models.loops.prune.pictures import View, by_hand, encoded, everything, last_state, one_stage, prefill
from models.papers.vflowopt import method as vflowopt
from models.papers.vflowopt.method import (
    Knobs,
    cuts,
    entropy,
    fold,
    global_patches,
    importance,
    plan,
    shares,
    stages,
    unsearched,
)
from models.papers.vflowopt.search import (
    CALIBRATION,
    TEST,
    Box,
    box,
    calibration,
    fitted,
    flow,
    found_for,
    known,
    search,
)
from models.trace.subject import SubjectError, from_text
from models.worlds.questions import KINDS, Question, digest, exam
from tests import tiny

KNOBS = Knobs(0.4, 0.6, 1.2, 3.0, 0.3)
ASKED = from_text("small pink ring, blue square, white cross. what colour is the small thing?", "question")


@pytest.fixture(scope="module")
def model():
    return tiny.scene_vlm().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def seen(model):
    case = exam(5, 1)[0]
    return encoded(model, tiny.question_tokenizer(), case.picture, case.questions[0])


def made_up(side=8, layers=8, seed=0) -> View:
    """A view with random attention, no network."""
    rng, count = np.random.default_rng(seed), side * side
    attention = torch.from_numpy(rng.gamma(0.3, size=(count, count))).float()
    attention = attention / attention.sum(1, keepdim=True)
    picture = rng.integers(0, 256, (8 * side, 8 * side, 3), dtype=np.uint8)
    features = torch.from_numpy(rng.standard_normal((1, count, 5))).float()
    return View(picture, Question("count", "how many rings ?", "0"), [1, 2], features, attention, (side, side), layers)


# ---- the importance map ----------------------------------------------------------------------------------------------

def test_relevance_is_what_the_global_patches_pay():
    view = made_up()
    total, chosen, maps = importance(view, replace(KNOBS, alpha=0.0))
    received = view.attention.mean(0)
    assert set(chosen.tolist()) == {j for j in range(64) if received[j] > 1.2 * received.mean()}
    by_hand = torch.stack([view.attention[i] for i in chosen.tolist()]).mean(0)
    paid_to_them = view.attention[:, chosen].mean(1)  # the mistake: what each patch pays to the global ones
    assert torch.allclose(total, by_hand) and not torch.allclose(total, paid_to_them)
    assert np.allclose(maps["relevance"], 100 * by_hand)


def test_a_threshold_that_nobody_reaches_leaves_the_most_looked_at_patch():
    view = made_up()
    assert global_patches(view.attention, 1e6).tolist() == [int(view.attention.mean(0).argmax())]
    unguarded = view.attention[view.attention.mean(0) > 1e6].mean(0)  # the mistake: the mean of nothing
    assert unguarded.isnan().all() and importance(view, replace(KNOBS, t=1e6))[0].isfinite().all()


def test_entropy_counts_grey_values_of_real_pixels():
    flat = np.full((64, 64, 3), 77, np.uint8)
    flat[8:16, :8] = (np.arange(64).reshape(8, 8, 1) * 4).astype(np.uint8)  # 64 greys in the second row's first patch
    found = entropy(flat, (8, 8))
    assert found[8] == pytest.approx(6.0) and np.delete(found, 8).max() == 0
    normalised = (flat.astype(np.float32) / 127.5 - 1).astype(np.int8).astype(np.uint8)  # the mistake: it wraps
    assert entropy(normalised, (8, 8))[8] < 2


def test_alpha_weighs_the_softmax_of_entropy():
    view = made_up()
    plain, busy = (importance(view, replace(KNOBS, alpha=a))[0] for a in (0.0, 0.5))
    bits = torch.from_numpy(entropy(view.picture, view.grid)).float()
    assert torch.allclose(busy - plain, 0.5 * bits.softmax(0), atol=1e-6)


# ---- folding ---------------------------------------------------------------------------------------------------------

def test_low_patches_of_a_cell_become_one_weighted_by_importance():
    view = made_up()
    rank = importance(view, KNOBS)[0]
    ids, features, groups = fold(view, rank, KNOBS.r0, KNOBS.m)
    low = rank.argsort(stable=True)[: round(64 * 0.6) + int(64 / 9)].tolist()
    assert sorted(m for group in groups for m in group.members) == sorted(low)
    for group in groups:
        assert len({(m // 8 // 3, m % 8 // 3) for m in group.members}) == 1, "one cell of 3 x 3"
        assert group.target == max(group.members, key=lambda m: float(rank[m]))
        weights = rank[list(group.members)] / rank[list(group.members)].sum()
        wanted = (weights[:, None] * view.features[0, list(group.members)]).sum(0)
        at = ids.tolist().index(group.target)
        assert torch.allclose(features[0, at], wanted, atol=1e-5)
        if len(group.members) > 2:
            uniform = view.features[0, list(group.members)].mean(0)  # the mistake
            assert not torch.allclose(features[0, at], uniform, atol=1e-3)


def test_cells_are_real_valued():
    groups = fold(made_up(), importance(made_up(), KNOBS)[0], 0.05, 3.3)[2]
    cells = {(int(g.target // 8 / 3.3), int(g.target % 8 / 3.3)) for g in groups}
    assert max(max(cell) for cell in cells) == 2 and len(cells) == len(groups)
    rounded = {(g.target // 8 // 4, g.target % 8 // 4) for g in groups}  # the mistake: whole cells of 4
    assert len(rounded) < len(groups)


def test_recycled_tokens_count_in_the_budget():
    view, knobs = made_up(), replace(KNOBS, r0=0.3, r1=0.8, m=3.0)
    made = plan(view, knobs, 0.25)
    kept_alone = 64 - round(64 * 0.7) - int(64 / 3.0**2)
    assert len(made.kept) == kept_alone + len(made.groups) > kept_alone
    assert made.counts(8)[0] == len(made.kept), "the mistake would count only those that were never low"
    uncounted = sum(n - len(made.groups) for n in made.counts(8)) / (8 * 64)
    assert uncounted < made.share(8, 64)


def test_weights_stay_shares_when_alpha_is_negative():
    for values in ([-0.2, -0.1, 0.3], [-1.0, -1.0], [0.0, 0.0]):
        found = shares(torch.tensor(values))
        assert float(found.min()) >= 0 and float(found.sum()) == pytest.approx(1)
    raw = torch.tensor([-0.2, -0.1, 0.3])
    assert float((raw / raw.sum()).min()) < 0  # the mistake


# ---- stages and budget -----------------------------------------------------------------------------------------------

def test_the_stages_are_the_references():
    assert stages(28) == (9, 18) and stages(8) == (3, 6)


@pytest.mark.parametrize("r0, r1, r2, kept", [(.1166, 1.0, .6011, .1), (.2651, .9833, .8773, .25),
                                              (.7233, .7487, .487, .5)])
def test_the_released_ratios_give_the_released_budgets(r0, r1, r2, kept):
    """Nine layers, nine, ten: the cut before k2 follows from the budget."""
    count = 100_000
    entered = round(r0 * count)
    made = cuts(entered, r1, kept, count, 28)
    middle = entered - made.get(9, 0)
    assert 1 - made[18] / middle == pytest.approx(r2, abs=0.01)  # theirs is rounded: 25.07 % for 25
    assert 9 * entered + 9 * middle + 10 * (middle - made[18]) == pytest.approx(kept * count * 28, rel=1e-3)


@pytest.mark.parametrize("kept", [0.1, 0.25, 0.5, 1.0])
def test_unsearched_ratios_spend_the_budget_and_never_empty_a_layer(kept):
    view = made_up()
    made = plan(view, unsearched(kept, 8), kept)
    assert min(made.counts(8)) >= 1 and made.share(8, 64) == pytest.approx(kept, abs=0.02)


def test_the_sequence_is_really_shorter_and_words_never_leave(model, seen):
    made = plan(seen, KNOBS, 0.25)
    pruner, now = prefill(model, made, seen.ids)
    counts = made.counts(4)
    for sheet in now.sheets:
        assert len(sheet.rows) == len(sheet.alive) == counts[sheet.layer] + len(seen.ids)
        assert set(range(64, 64 + len(seen.ids))) <= set(sheet.alive.tolist())
    per_token = 2 * 2 * 16 * 4  # keys and values, two heads of 16, four bytes
    assert pruner.store.bytes == per_token * (sum(counts) + 4 * len(seen.ids))
    whole, _ = prefill(model, everything(seen), seen.ids)
    assert pruner.store.macs < 0.6 * whole.store.macs
    assert whole.store.bytes == per_token * 4 * (64 + len(seen.ids)), "the mistake: masking would leave all of these"


def plain(model, made, ids, renumbered=False):
    """The pruned prefill by the library's own layers on shortened tensors: the last state [D]."""
    lm, places = model.lm.model, [*made.kept.tolist(), *range(64, 64 + len(ids))]
    hidden = torch.cat([model.visual(made.features), lm.embed_tokens(torch.tensor([ids]))], 1)
    for layer in range(4):
        if layer in made.cuts:
            visual = [p for p in places if p < 64]
            lowest = sorted(visual, key=lambda p: float(made.importance[p]))[: made.cuts[layer]]
            stay = [i for i, p in enumerate(places) if p not in lowest]
            hidden, places = hidden[:, stay], [places[i] for i in stay]
        where = torch.arange(len(places)) if renumbered else torch.tensor(places)
        hidden = lm.layers[layer](hidden, position_embeddings=lm.rotary_emb(hidden, where[None]))
    return lm.norm(hidden)[0, -1]


@torch.no_grad()
def test_survivors_keep_their_places(model, seen):
    made = plan(seen, KNOBS, 0.25)
    mine = last_state(model, prefill(model, made, seen.ids)[1])
    assert torch.allclose(mine, plain(model, made, seen.ids), atol=1e-4)
    assert not torch.allclose(mine, plain(model, made, seen.ids, renumbered=True), atol=1e-2), "the mistake"


@torch.no_grad()
def test_nothing_pruned_is_the_model_itself(model, seen):
    case = exam(5, 1)[0]
    logits = model(normalise(torch.from_numpy(case.picture)[None]), torch.tensor([seen.ids]))
    state = last_state(model, prefill(model, everything(seen), seen.ids)[1])
    assert torch.allclose(pictures.answer_logits(model, state), logits[0], atol=1e-3)


@pytest.mark.parametrize("kept", [0.05, 0.1, 0.137, 0.25, 0.8, 1.0])
def test_baselines_spend_the_same_layer_average(kept):
    view = made_up()
    made = one_stage(view, kept, torch.rand(64))
    assert sum(made.counts(8)) == round(kept * 64 * 8)
    same_ratio = 8 * round(unsearched(kept, 8).r0 * 64)  # the mistake: equal at stage 0
    assert kept == 1.0 or same_ratio > sum(made.counts(8))


def test_the_baseline_beside_spends_what_this_run_spends(tiny):
    job = prepare("vflowopt", ASKED, {"kept": 0.15}, seed=2)
    mine, other = (list(follow(j))[-1].traces["prune"] for j in (job, twin(job)))
    assert mine.facts["budget"].value == pytest.approx(other.facts["budget"].value)


# ---- the search ------------------------------------------------------------------------------------------------------

def test_calibration_and_test_scenes_are_disjoint():
    used, asked = calibration({}), exam(TEST, 30, calibration({}))
    assert digest(used) != digest(asked) and CALIBRATION != TEST
    assert not {tuple(sorted(c.items)) for c in used} & {tuple(sorted(c.items)) for c in asked}


def test_only_kinds_that_are_answered_are_asked():
    card = {"metrics": {f"exact answers, {kind}": {"value": 0.49 if kind == "side" else 0.95} for kind in KINDS}}
    assert pictures.able(card) == tuple(kind for kind in KINDS if kind != "side") and pictures.able({}) == KINDS
    assert "side" not in {case.questions[0].kind for case in calibration(card)}


@pytest.fixture(scope="module")
def scenes(model):
    return known(model, tiny.question_tokenizer(), calibration({}, count=4))


def test_the_signal_is_the_hidden_state_and_needs_no_answer(model, scenes):
    unanswered = [k._replace(seen=k.seen._replace(question=replace(k.seen.question, answer=""))) for k in scenes]
    rule = lambda seen: plan(seen, KNOBS, 0.25)  # noqa: E731
    assert flow(model, scenes, rule, 0.25) == flow(model, unanswered, rule, 0.25)
    assert flow(model, scenes, everything, 1.0) == pytest.approx(1.0, abs=1e-5)


def test_a_setting_that_overspends_counts_nothing(model, scenes):
    assert flow(model, scenes, everything, 0.25) == 0


def test_the_search_is_better_than_chance_at_equal_evaluations():
    peak = np.array([0.3, 0.8, 0.4, 0.6, 0.5])
    unit = Box(np.zeros(5), np.ones(5))

    def score(knobs):
        at = np.array([knobs.r0, knobs.r1, knobs.t, knobs.m, knobs.alpha])
        return float(np.exp(-4 * ((at - peak) ** 2).sum()))

    guided = [search(score, unit, initial=8, tries=22, seed=s) for s in range(3)]
    chance = [search(score, unit, initial=30, tries=0, seed=s).score for s in range(3)]
    assert np.mean([g.score for g in guided]) > np.mean(chance) + 0.05
    assert guided[0].trace.shape == (30, 6) and guided[0].score == guided[0].trace[:, -1].max()


def test_the_process_passes_through_what_it_saw():
    rng = np.random.default_rng(0)
    points, values = rng.random((12, 2)), rng.standard_normal(12)
    predict = fitted(points, values)
    mean, deviation = predict(points)
    assert np.abs(mean - values).max() < 0.15 and deviation.max() < 0.1
    assert predict(points + 5)[1].min() > 0.9, "far away it knows nothing"


def test_the_bounds_are_in_proportion_to_the_budget(model, scenes):
    bounds = box(0.25, scenes)
    assert bounds.low[0] == 0.25 and bounds.high[0] == 0.375 and (bounds.low < bounds.high).all()
    found = found_for(model, scenes, 0.25, initial=3, tries=2)
    assert found.trace.shape == (5, 6) and 0 < found.score <= 1


def test_what_was_searched_is_used_and_shown(tmp_path, tiny):
    import json
    record = {"25": {"knobs": {"r0": 0.3, "r1": 0.9, "t": 2.0, "m": 4.0, "alpha": -0.5}, "cosine": 0.9, "initial": 2,
                     "scenes": 3, "trace": [[0.3, 0.9, 2.0, 4.0, -0.5, 0.9], [0.3, 0.6, 1.0, 3.0, 0.5, 0.0]]}}
    (tmp_path / vflowopt.FILE).write_text(json.dumps({"settings": record}))
    job = prepare("vflowopt", ASKED)
    job = replace(job, bundle=replace(job.bundle, folder=tmp_path))
    half = replace(job, params=replace(job.params, kept=0.5))
    assert vflowopt.knobs_of(job, 8) == Knobs(0.3, 0.9, 2.0, 4.0, -0.5)
    assert vflowopt.knobs_of(half, 8).r0 == pytest.approx(0.6)
    assert vflowopt.knobs_of(prepare("vflowopt", ASKED), 8) == unsearched(0.25, 8)
    *_, last = follow(job)
    assert {"The search for 25 %", "Which knob moved the score"} <= {c.title for c in last.traces["prune"].charts}


# ---- the record ------------------------------------------------------------------------------------------------------

def test_the_record_shows_what_decided_and_who_was_folded(tiny):
    trace = run("vflowopt", ASKED, {"kept": 0.5}, seed=1).traces["prune"]
    labels = [step.label for step in trace.steps]
    assert labels[:5] == ["the picture", "relevance", "entropy", "importance", "what enters"]
    entry = trace.steps[4]
    assert len(entry.where("recycled")) == len(np.unique(entry.edges["recycling"].query)) > 0
    sums = np.bincount(entry.edges["recycling"].query, entry.edges["recycling"].weight)
    np.testing.assert_allclose(sums[np.unique(entry.edges["recycling"].query)], 1, atol=1e-5)
    alive = [len(step.where("known", "recycled")) for step in trace.steps[4:]]
    assert alive == sorted(alive, reverse=True) and alive[-1] < alive[0] < 64
    assert len(trace.steps[1].where("new")) >= 1, "global patches are pointed out"


def test_without_folding_as_many_patches_enter(model, seen):
    on, off = plan(seen, KNOBS, 0.25), plan(seen, KNOBS, 0.25, recycle=False)
    assert on.counts(4) == off.counts(4) and not off.groups
    assert torch.equal(off.features, seen.features[:, off.kept])


def test_a_visitors_patches_enter_as_they_are(model, seen):
    made = plan(seen, KNOBS, 0.25)
    mine = by_hand(made, seen, (tuple(range(len(made.kept))),))
    assert mine.kept.tolist() == list(range(len(made.kept))) and not mine.groups
    assert torch.equal(mine.features, seen.features[:, mine.kept]) and mine.counts(4) == made.counts(4)
    with pytest.raises(SubjectError, match="Please choose"):
        by_hand(made, seen, ((0, 1),))


@pytest.mark.parametrize("id", ["random-keep", "top-attention"])
def test_the_other_methods_of_the_tab_read_the_same_picture(id, tiny):
    trace = run(id, ASKED, {"kept": 0.25}, checkpoint="scene-vlm-1", seed=4).traces["prune"]
    mine = run("vflowopt", ASKED, seed=4).traces["prune"]
    assert np.array_equal(trace.canvas.picture, mine.canvas.picture) and trace.facts["budget"].value == 25


@pytest.mark.parametrize("text", ["red circle", "red circle. what is it?", "red circle. what colour is the square?"])
def test_a_question_that_cannot_be_answered_is_refused(text, tiny):
    with pytest.raises(SubjectError) as refusal:
        run("vflowopt", from_text(text, "question"))
    assert len(str(refusal.value)) < 250 and str(refusal.value).endswith(".")


# ---- what is shipped -------------------------------------------------------------------------------------------------

@pytest.mark.weights
def test_the_shipped_settings_were_searched_for_these_weights_and_keep_the_budget(shipped):
    import json

    from models.checkpoints.store import load
    shipped("scene-vlm-1")
    bundle = load("scene-vlm-1", dtype="float32")
    record = json.loads((bundle.folder / vflowopt.FILE).read_text())
    cases = calibration(bundle.card)
    assert record["revision"] == bundle.revision and record["calibration"] == digest(cases)
    views = [encoded(bundle.model, bundle.tokenizer, case.picture, case.questions[0]) for case in cases]
    for percent, found in record["settings"].items():
        kept, tried = int(percent) / 100, np.array(found["trace"])
        assert tried.shape == (72, 6) and found["cosine"] == pytest.approx(tried[:, -1].max(), abs=1e-4)
        shares = [plan(view, Knobs(**found["knobs"]), kept).share(view.layers, view.count) for view in views]
        assert np.mean(shares) <= 1.02 * kept
