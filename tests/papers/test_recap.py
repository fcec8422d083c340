"""ReCAP: the spec's faithfulness traps, each with the mutant that the same check refuses."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import kernels
from models.baselines.maskgit import method as maskgit
from models.claims import scene_lab
from models.engine.method import prepare, run
from models.loops.unmask import loop
from models.loops.unmask.canvases import scene_board
from models.loops.unmask.loop import Move, Plan
from models.papers.recap import claim
from models.papers.recap import method as recap
from tests.filling import both, each_branch_its_own, going
from tests.traps import caught

ATOL = 2e-5


@pytest.fixture
def scene(tiny):
    model = copy.deepcopy(tiny.bundle("scene-mgm-1").model)
    for weight in model.parameters():
        weight.data *= 6 if weight.dim() > 1 else 1  # so that tokens really depend on each other
    return model, scene_board(model, tiny.scene_tokenizer(), "red circle, blue square")


def played(plan, board, seed=0):
    return list(going(plan, board, seed))


def planned(scene, cls=recap.Reused, *, full=6, local=2, start=0.0, guidance=1.0, noise=0.0, **settings):
    model, board = scene
    return Plan(recap.grouped(256, full, local, start), cls(model, board.cond, guidance, **settings), noise=noise)


def base_of(scene, steps=6, guidance=1.0, noise=0.0, **settings):
    full = loop.Full(scene[0], scene[1].cond, guidance, **settings)
    return Plan(loop.moves(256, steps, maskgit.SCHEDULE), full, noise=noise)


# --- which rows a local pass computes ------------------------------------------------------------------------------

class StaleRows(recap.Reused):
    """Leaves out the tokens that have just been revealed, so their keys and values still say MASK."""

    def _inside(self, moment):
        return super()._inside(moment) & moment.masked


class Shrinking(recap.Reused):
    """Only what was just revealed and what is still to come: from the second local pass on, that is not the group."""

    def _inside(self, moment):
        full = moment.move.label == "full"
        return super()._inside(moment) if full else moment.fresh | (moment.aside > 0)


class CaptionLeftOut(recap.Reused):
    """The condition keeps the keys and values that it had before anything of the group was known."""

    def _rows(self, inside):
        rows = super()._rows(inside)
        return rows if inside.all() else rows[self.model.cond_length :]


def test_just_revealed_rows_are_recomputed(scene):
    """Layer 1 depends on the token alone, so a correct cache is exact there."""
    model, board = scene

    def exact(cls):
        plan = planned(scene, cls)
        for turn in going(plan, board):
            embedded, angles = model.embed(*loop.branches(model, turn.moment.ids, board.cond, 1.0))
            true = recap.Reused(model, board.cond).features(embedded[:1], angles)
            assert float((plan.evaluate.store.keys[0][:1] - true.keys[0]).abs().max()) < ATOL

    caught(exact, recap.Reused, StaleRows)


def test_a_local_pass_recomputes_the_whole_group_and_the_caption(scene):
    """Each canvas row of the group and each caption row once, in all layers, at three local passes as at one."""
    model, board = scene

    def whole(cls):
        plan, counts, group = planned(scene, cls, local=3, full=4, guidance=0.0), None, None
        for turn in going(plan, board):
            before, counts = counts, plan.evaluate.store.computed.clone()
            if turn.moment.move.label == "full":
                group = None
                continue
            group = turn.moment.fresh | (turn.moment.aside > 0) if group is None else group
            wanted = torch.cat([torch.ones(model.cond_length, dtype=torch.bool), group[0]])
            assert torch.equal(counts - before, wanted.int().expand_as(counts))
            assert torch.equal(turn.found.rows, group)

    caught(whole, recap.Reused, Shrinking, CaptionLeftOut, StaleRows)


def test_local_passes_keep_the_full_passs_order(scene, monkeypatch):
    """The next targets of that ranking, whatever a local pass says itself."""
    def in_order(allowed):
        monkeypatch.setattr(loop, "_allowed", allowed)
        rank = None
        for turn in going(planned(scene, local=3, full=4, noise=2.0), scene[1], 3):
            if turn.moment.move.label == "full":
                rank = None
                continue
            rank = turn.moment.aside if rank is None else rank
            now = int(rank[turn.revealed].min())
            assert torch.equal(turn.revealed, rank == now)
            assert bool((rank[turn.moment.masked & (rank > 0)] >= now).all())

    def ranked_again(moment, plan, chosen):
        return moment.aside > 0 if moment.aside.any() else None

    caught(in_order, loop._allowed, ranked_again)


# --- all rows are a full pass; u = 0 is the base model ---------------------------------------------------------------

def test_every_row_local_equals_a_full_pass(scene):
    model, board = scene
    turn, reused = played(base_of(scene), board)[4], planned(scene).evaluate
    with torch.inference_mode():
        reused(replace(turn.moment, move=Move(turn.moment.move.count, "full")))  # fills the cache
        embedded, angles = model.embed(*loop.branches(model, turn.moment.ids, board.cond, 1.0))
        reused.store.keys = [k + 1 for k in reused.store.keys]  # whatever the cache held must not matter
        hidden = reused._pass(embedded, angles, torch.arange(embedded.shape[1]), reused.store)
        logits = loop.read(model, hidden, turn.found.positions, 1.0)
    assert torch.allclose(logits, turn.found.logits, atol=ATOL)


@pytest.mark.parametrize("guided", [{"guidance": 1.0}, {"guidance": 1.5, "until": 0.5}])
def test_without_local_passes_it_is_the_base_model_bit_for_bit(scene, guided):
    base = played(base_of(scene, noise=2.0, **guided), scene[1], 7)

    def same(local):
        for mine, theirs in zip(played(planned(scene, local=local, noise=2.0, **guided), scene[1], 7), base):
            assert torch.equal(mine.ids, theirs.ids) and torch.equal(mine.found.logits, theirs.found.logits)
            assert (mine.found.cost.rows, mine.found.cost.macs) == (theirs.found.cost.rows, theirs.found.cost.macs)

    caught(same, 0, 1)


def test_guidance_ends_with_the_base_models_and_the_conditional_cache_goes_on(scene):
    model, board = scene
    guided, never = (planned(scene, local=1, guidance=1.5, until=until) for until in (0.5, 0.0))
    turns = played(guided, board)
    turn = turns[7]  # a local pass of the second half
    assert turn.moment.move.label == "local" and len(guided.evaluate.store.keys[0]) == 1
    with torch.inference_mode():
        never.evaluate(turns[6].moment)
        alone = never.evaluate(turn.moment)
    assert torch.allclose(turn.found.logits, alone.logits, atol=ATOL)
    rows, cost = int(turns[1].found.rows.sum()) + model.cond_length, turns[1].found.cost
    assert cost.rows == 2 * rows * len(model.layers)
    assert cost.cache_bytes == 2 * 2 * 2 * (256 + model.cond_length) * 32 * 4  # branches, K and V, layers, rows, width


# --- features are recomputed, per branch, and compared before they are overwritten -----------------------------------

class StaleLogits(recap.Reused):
    """The spec's control: a local pass reuses the full pass' logits instead of recomputing features."""

    def __call__(self, moment):
        if moment.move.label == "full":
            self.kept = super().__call__(moment)
            return self.kept
        inside = moment.masked & (moment.aside > 0)
        positions = loop.indices(inside)
        logits = self.kept.logits[:, torch.isin(self.kept.positions[0], positions[0])]
        return loop.Evaluation(positions, logits, inside, self.kept.cost)


def test_reusing_logits_is_only_split_sampling(scene):
    """With greedy draws the control ends exactly where the base model with T' steps does; ReCAP's logits move on."""
    model, board = scene
    counts = recap.grouped(256, 6, 2, 0.0)
    base = tuple(Move(move.count + sum(move.ahead)) for move in counts if move.label == "full")
    wanted = played(Plan(base, loop.Full(model, board.cond, 1.0), sampler=None), board)[-1].ids
    control, ours = (played(Plan(counts, cls(model, board.cond, 1.0), sampler=None), board)
                     for cls in (StaleLogits, recap.Reused))
    assert torch.equal(control[-1].ids, wanted)
    assert torch.equal(ours[0].ids, control[0].ids) and torch.equal(ours[1].found.positions, control[1].found.positions)
    changed = (ours[1].found.logits - control[1].found.logits).abs().max()
    assert changed > 50 * ATOL, "recomputed features must tell the targets what was revealed"


class SharedCache(recap.Reused):
    """The unconditional branch reads the conditional branch's keys and values."""

    def _pass(self, embedded, angles, rows, store):
        for k, v in zip(store.keys, store.values):
            if len(k) > 1:
                k[1], v[1] = k[0], v[0]
        return super()._pass(embedded, angles, rows, store)


def test_each_guidance_branch_keeps_its_own_cache(scene):
    model, board = scene

    def apart(cls):
        alone = [recap.Reused(model, cond, 0.0) for cond in (board.cond, torch.zeros_like(board.cond))]
        each_branch_its_own(going(planned(scene, cls, local=1, guidance=1.5), board), *alone, 1.5, 5 * ATOL)

    with torch.inference_mode():
        caught(apart, recap.Reused, SharedCache)


class LateDrift(recap.Reused):
    """Compares after the local pass has written its rows over the cache."""

    def __call__(self, moment):
        found = super().__call__(moment)
        if self.drift is not None:
            self.drift = self._drift(*self.model.embed(*loop.branches(self.model, moment.ids, self.cond, self.pull)))
        return found


def test_drift_is_measured_before_the_cache_is_overwritten(scene):
    """What was just revealed is MASK in the cache and a code now: never near 0."""
    def shows(cls):
        plan = planned(scene, cls, measure_drift=True)
        for turn in going(plan, scene[1]):
            if turn.moment.move.label == "local":
                assert float(plan.evaluate.drift[0, turn.moment.fresh[0]].min()) > 1e-3

    caught(shows, recap.Reused, LateDrift)


def test_drift_is_zero_where_nothing_below_changed_and_costs_nothing(scene):
    plan, plain = planned(scene, measure_drift=True), planned(scene)
    for turn, other in zip(played(plan, scene[1]), played(plain, scene[1]), strict=True):
        assert turn.found.cost.macs == other.found.cost.macs and torch.equal(turn.ids, other.ids)
    served = ~turn.found.rows[0]
    assert float(plan.evaluate.drift[0, served].abs().max()) < 1e-5, "layer 1 of an unchanged token cannot drift"
    assert float(plan.evaluate.drift[-1, served].max()) > 0


# --- groups, counts and honest costs --------------------------------------------------------------------------------

class DriftOnTheClock(recap.Reused):
    """What only the picture asks for is counted as the method's time."""

    def __call__(self, moment):
        began = recap.time.perf_counter()
        found = super().__call__(moment)
        return replace(found, cost=replace(found.cost, ms=1e3 * (recap.time.perf_counter() - began)))


def test_milliseconds_are_those_of_the_rows_and_not_of_the_drift(scene, monkeypatch):
    """By a clock that stands still but for one tick per row and layer."""
    model, now, layer_rows = scene[0], [0.0], recap.layer_rows

    def ticking(layer, hidden, *rest, **options):
        now[0] += hidden.shape[1]
        return layer_rows(layer, hidden, *rest, **options)

    def of_rows(cls):
        for turn in played(planned(scene, cls, measure_drift=True), scene[1]):
            rows = int(turn.found.rows.sum()) + model.cond_length
            assert turn.ms == turn.found.cost.ms == pytest.approx(rows * len(model.layers))

    with monkeypatch.context() as patch:
        patch.setattr(recap, "layer_rows", ticking)
        patch.setattr(recap.time, "perf_counter", lambda: now[0] / 1e3)
        caught(of_rows, recap.Reused, DriftOnTheClock)


@pytest.mark.parametrize("full, local, start, moves",
                         [(12, 1, 0.5, 18), (12, 0, 0.0, 12), (4, 3, 0.0, 16), (8, 2, 1.0, 8)])
def test_local_passes_stand_late_and_reveal_counts_are_the_base_models(full, local, start, moves):
    planned = recap.grouped(256, full, local, start)
    assert len(planned) == moves and [m.count for m in planned] == kernels.schedule(256, moves, maskgit.SCHEDULE)
    labels = [m.label for m in planned]
    assert labels.count("full") == full and "local" not in labels[: round(start * full)]


def test_work_counts_rows_not_steps(tiny):
    """A local pass must cost what its rows cost; counting passes instead would say 100 %."""
    asked, prefix = {"full": 8, "local": 1, "start": 0.0, "until": 1.0}, tiny.masked_scene().cond_length
    result = run("recap", params=asked)
    trace, prune = result.traces["unmask"], result.traces["prune"]
    local = [s for s in trace.steps if "local" in s.label]
    full = [s for s in trace.steps if "full" in s.label]
    assert max(s.cost.rows for s in local) < min(s.cost.rows for s in full)
    for step in prune.steps:
        assert step.cost.rows == 2 * 2 * (len(step.where("recomputed")) + prefix)
    for params in (asked, {**asked, "until": 0.5}):
        ours, theirs = both(prepare("recap", params=params))
        share = 100 * ours.cost.macs / theirs.cost.macs
        assert ours.facts["work"].value == pytest.approx(share) and share < 90
        assert np.array_equal(ours.steps[0].ids, theirs.steps[0].ids), "the first passes are the same computation"


def test_states_show_what_was_served_from_the_cache(tiny):
    result = run("recap", params={"full": 6, "local": 1, "start": 0.5, "drift": True})
    local = [s for s in result.traces["unmask"].steps if "local" in s.label]
    assert local and all(len(s.where("reused")) and len(s.where("new")) for s in local)
    assert all(len(s.where("recomputed")) for s in local)
    assert any(chart.kind == "matrix" for chart in result.traces["prune"].charts)
    attend = result.traces["attend"]
    assert len(attend.steps) == len(local)
    shares = [f.value for f in attend.facts.values()]
    assert sum(shares) == pytest.approx(100, abs=0.1) and min(shares) >= 0
    asked, heads = attend.rows.queries, attend.heads  # of the last local pass
    assert heads.entropy.shape == (2, 4, 256)
    assert np.isfinite(heads.entropy[:, :, asked]).all() and np.isnan(np.delete(heads.entropy, asked, 2)).all()


def test_a_visitors_choice_needs_full_passes_first(tiny):
    choice = (tuple(range(recap.grouped(256, 16, 1, 0.5)[0].count)),)
    assert run("recap", choice=choice).done
    with pytest.raises(ValueError, match="start the local passes later"):
        run("recap", params={"start": 0.0}, choice=choice)


def test_the_claims_budgets_are_those_that_are_spent(scene, tiny):
    """The base model's work by formula is what its passes cost; local passes stand last."""
    assert claim.full_work(scene[0], 9) == scene_lab.work(scene[0], 9)
    assert [move.label for move in claim.late(5, 2)] == ["full"] * 4 + ["local", "full", "local"]
