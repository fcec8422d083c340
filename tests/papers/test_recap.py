"""ReCAP: the spec's faithfulness traps, each with the mutant that the same assertion rejects."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

import kernels
from models.backbones.rows import RowStore
from models.baselines.maskgit import method as maskgit
from models.engine.method import follow as followed
from models.engine.method import prepare, run, twin
from models.loops.unmask import loop
from models.loops.unmask.canvases import scene_board
from models.loops.unmask.loop import Move, Plan, fill, full_cost
from models.papers.recap import method as recap

ATOL = 2e-5


@pytest.fixture
def scene(tiny):
    model = copy.deepcopy(tiny.bundle("scene-mgm-1").model)
    for weight in model.parameters():
        weight.data *= 6 if weight.dim() > 1 else 1  # so that tokens really depend on each other
    return model, scene_board(model, tiny.scene_tokenizer(), "red circle, blue square")


def played(plan, board, seed=0):
    return list(fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(seed)))


def planned(model, board, cls=recap.Reused, *, full=6, local=2, start=0.0, guidance=1.0, noise=0.0, **settings):
    return Plan(recap.grouped(256, full, local, start), cls(model, board.cond, guidance, **settings), noise=noise)


# --- revealed rows must be recomputed ------------------------------------------------------------------------------

class StaleRows(recap.Reused):
    """Mutant: leaves out the tokens that have just been revealed, so their keys and values still say MASK."""

    def _inside(self, moment):
        return super()._inside(moment) & moment.masked


def stale(cls, scene) -> float:
    """Largest difference, in the first layer's keys and values, between the cache after a local pass and the truth.
    Layer 1 depends on the token alone, so a correct cache is exact there."""
    model, board = scene
    plan = planned(model, board, cls)
    worst = 0.0
    for turn in fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)):
        embedded, angles = model.embed(*loop.branches(model, turn.moment.ids, board.cond, 1.0))
        true = RowStore.empty(model.layers, embedded.shape[1], len(embedded))
        with torch.inference_mode():
            recap.Reused(model, board.cond)._pass(embedded, angles, torch.arange(embedded.shape[1]), true)
        worst = max(worst, float((plan.evaluate.store.keys[0] - true.keys[0]).abs().max()))
    return worst


def test_just_revealed_rows_are_recomputed(scene):
    assert stale(recap.Reused, scene) < ATOL
    assert stale(StaleRows, scene) > 100 * ATOL, "the mutant that skips revealed rows must fail"


def test_local_rows_equal_the_exact_attention_over_the_mixed_cache(scene):
    """Q_j rows of a local pass, against a plain loop over queries that reads the same cache."""
    model, board = scene
    plan = planned(model, board, local=1, guidance=0.0)
    turns = iter(fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)))
    next(turns)
    cached = plan.evaluate.store.copy()
    turn = next(turns)
    rows = plan.evaluate.rows
    layer, attention = model.layers[0], model.layers[0].self_attn
    with torch.inference_mode():
        embedded, (cos, sin) = model.embed(turn.moment.ids, board.cond)
        cached.write(0, rows, plan.evaluate.store.keys[0][:, :, rows], plan.evaluate.store.values[0][:, :, rows])
        q = plan.evaluate.queries[0]  # [1, H, R, W]
        weights = (q @ cached.keys[0].transpose(2, 3) * attention.scaling).softmax(-1)
        mixed = (weights @ cached.values[0]).transpose(1, 2).flatten(2)
        hidden = embedded[:, rows] + attention.o_proj(mixed)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        second = model.layers[1].self_attn.k_proj(model.layers[1].input_layernorm(hidden))
        heads = second.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
        _, wanted = apply_rotary_pos_emb(heads, heads, cos[:, rows], sin[:, rows])
    assert torch.allclose(plan.evaluate.store.keys[1][:, :, rows], wanted, atol=ATOL)


# --- Q = all rows is a full pass; u = 0 is the base model -----------------------------------------------------------

def test_every_row_local_equals_a_full_pass(scene):
    model, board = scene
    plan, base = planned(model, board), Plan(recap.grouped(256, 6, 2, 0.0), loop.Full(model, board.cond, 1.0))
    turn = played(base, board)[4]
    reused = plan.evaluate
    with torch.inference_mode():
        everything = dataclasses.replace(turn.moment, move=Move(turn.moment.move.count, "full"))
        reused(everything)  # fills the cache, then every row again as a "local" pass over it
        ids, cond = loop.branches(model, turn.moment.ids, board.cond, 1.0)
        embedded, angles = model.embed(ids, cond)
        reused.store.keys = [k + 1 for k in reused.store.keys]  # whatever the cache held must not matter
        hidden = reused._pass(embedded, angles, torch.arange(embedded.shape[1]), reused.store)
        logits = loop.read(model, hidden, turn.found.positions, 1.0)
    assert torch.allclose(logits, turn.found.logits, atol=ATOL)


def test_without_local_passes_it_is_the_base_model_bit_for_bit(scene):
    model, board = scene
    base = Plan(loop.moves(256, 6, maskgit.SCHEDULE), loop.Full(model, board.cond, 1.0), noise=2.0)
    ours = planned(model, board, local=0, noise=2.0)
    for mine, theirs in zip(played(ours, board, 7), played(base, board, 7), strict=True):
        assert torch.equal(mine.ids, theirs.ids) and torch.equal(mine.found.logits, theirs.found.logits)
    other = planned(model, board, local=1, noise=2.0)
    assert not torch.equal(played(other, board, 7)[-1].ids, played(base, board, 7)[-1].ids), "local passes must differ"


def test_guidance_ends_with_the_base_models_and_the_conditional_cache_goes_on(scene):
    model, board = scene
    late = [recap.Reused(model, board.cond, 1.5, until=until) for until in (0.5, 0.0)]
    plans = [Plan(recap.grouped(256, 6, 1, 0.0), reused) for reused in late]
    guided = played(plans[0], board)
    turn = guided[7]  # a local pass of the second half
    assert turn.moment.move.label == "local" and len(late[0].store.keys[0]) == 1
    with torch.inference_mode():
        late[1](guided[6].moment)  # never guided
        alone = late[1](turn.moment)
    assert torch.allclose(turn.found.logits, alone.logits, atol=ATOL)
    rows = len(guided[1].found.rows[0].nonzero()) + model.cond_length
    assert guided[1].found.cost.rows == 2 * rows * len(model.layers)
    base = Plan(loop.moves(256, 6, maskgit.SCHEDULE), loop.Full(model, board.cond, 1.5, until=0.5), noise=2.0)
    ours = Plan(recap.grouped(256, 6, 0, 0.0), recap.Reused(model, board.cond, 1.5, until=0.5), noise=2.0)
    for mine, theirs in zip(played(ours, board, 7), played(base, board, 7), strict=True):
        assert torch.equal(mine.ids, theirs.ids)


# --- stale logits: splitting the draw alone changes nothing --------------------------------------------------------

class StaleLogits(recap.Reused):
    """The spec's control: a local pass reuses the full pass' logits instead of recomputing features."""

    def __call__(self, moment):
        if moment.move.label == "full":
            self.kept = super().__call__(moment)
            return self.kept
        inside = moment.masked & (moment.aside > 0)
        positions = loop.indices(inside)
        table = self.kept.logits.new_zeros(1, 256, self.kept.logits.shape[-1])
        table.scatter_(1, self.kept.positions[..., None].expand_as(self.kept.logits), self.kept.logits)
        logits = table.gather(1, positions[..., None].expand(-1, -1, table.shape[-1]))
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


# --- one cache per guidance branch --------------------------------------------------------------------------------

class SharedCache(recap.Reused):
    """Mutant: the unconditional branch reads the conditional branch's keys and values."""

    def _pass(self, embedded, angles, rows, store):
        for k, v in zip(store.keys, store.values):
            if len(k) > 1:
                k[1], v[1] = k[0], v[0]
        return super()._pass(embedded, angles, rows, store)


def branch_error(cls, scene) -> float:
    """Largest difference between guided local logits and those put together from two separate one-branch runs."""
    model, board = scene
    plan = planned(model, board, cls, local=1, guidance=1.5)
    alone = {name: recap.Reused(model, cond, 0.0)
             for name, cond in (("cond", board.cond), ("null", torch.zeros_like(board.cond)))}
    worst = 0.0
    for turn in played(plan, board):
        with torch.inference_mode():
            found = {name: reused(turn.moment).logits for name, reused in alone.items()}
        worst = max(worst, float((turn.found.logits - 2.5 * found["cond"] + 1.5 * found["null"]).abs().max()))
    return worst


def test_each_guidance_branch_keeps_its_own_cache(scene):
    assert branch_error(recap.Reused, scene) < 5 * ATOL
    assert branch_error(SharedCache, scene) > 100 * ATOL, "the mutant with one cache for both must fail"


# --- drift is measured before the overwrite -------------------------------------------------------------------------

class LateDrift(recap.Reused):
    """Mutant: compares after the local pass has written its rows over the cache."""

    def __call__(self, moment):
        found = super().__call__(moment)
        if self.drift is not None:
            both = loop.branches(self.model, moment.ids, self.cond, self.guidance)
            self.drift = self._drift(*self.model.embed(*both))
        return found


def drift_of_fresh(cls, scene) -> float:
    """Smallest first-layer drift of just-revealed tokens: MASK against a real code is never near 0."""
    model, board = scene
    plan = planned(model, board, cls, measure_drift=True)
    found = []
    for turn in fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)):
        if turn.moment.move.label == "local":
            found.append(float(plan.evaluate.drift[0, turn.moment.fresh[0]].min()))
    return min(found)


def test_drift_is_measured_before_the_cache_is_overwritten(scene):
    assert drift_of_fresh(recap.Reused, scene) > 1e-3
    assert drift_of_fresh(LateDrift, scene) < 1e-5, "the mutant that measures late must fail"


def test_drift_is_zero_where_nothing_below_changed_and_costs_nothing(scene):
    model, board = scene
    plan, plain = planned(model, board, measure_drift=True), planned(model, board)
    for turn, other in zip(played(plan, board), played(plain, board), strict=True):
        assert turn.found.cost.macs == other.found.cost.macs and torch.equal(turn.ids, other.ids)
    turn = played(plan, board)[-1]
    served = ~turn.found.rows[0]
    assert float(plan.evaluate.drift[0, served].abs().max()) < 1e-5, "layer 1 of an unchanged token cannot drift"
    assert float(plan.evaluate.drift[-1, served].max()) > 0


# --- groups, counts and honest costs --------------------------------------------------------------------------------

class Shrinking(recap.Reused):
    """Mutant, our reading before: only what was just revealed and what is still to come."""

    def _inside(self, moment):
        full = moment.move.label == "full"
        return super()._inside(moment) if full else moment.fresh | (moment.aside > 0)


class CaptionLeftOut(recap.Reused):
    """Mutant: the condition keeps the keys and values that it had before anything of the group was known."""

    def _rows(self, inside):
        rows = super()._rows(inside)
        return rows if inside.all() else rows[self.model.cond_length :]


def recomputed_group(cls, scene):
    """Every local pass computes each canvas row of its group and each caption row once, in all layers."""
    model, board = scene
    plan = planned(model, board, cls, local=3, full=4, guidance=0.0)
    counts, group = None, None
    for turn in fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)):
        before, counts = counts, plan.evaluate.store.computed.clone()
        if turn.moment.move.label == "full":
            group = None
            continue
        group = turn.moment.fresh | (turn.moment.aside > 0) if group is None else group
        wanted = torch.cat([torch.ones(model.cond_length, dtype=torch.bool), group[0]])
        assert torch.equal(counts - before, wanted.int().expand_as(counts)) and torch.equal(turn.found.rows, group)


def test_a_local_pass_recomputes_the_whole_group_and_the_caption(scene):
    recomputed_group(recap.Reused, scene)
    for mutant in (Shrinking, CaptionLeftOut):
        with pytest.raises(AssertionError):
            recomputed_group(mutant, scene)


def reveals_in_order(scene, allowed=None):
    """Local passes reveal the next targets by the ranking of the full pass, whatever they say themselves."""
    model, board = scene
    plan, rank = planned(model, board, local=3, full=4, noise=2.0), None
    for turn in fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(3)):
        if turn.moment.move.label == "full":
            rank = None
            continue
        rank = turn.moment.aside if rank is None else rank
        now = int(rank[turn.revealed].min())
        assert torch.equal(turn.revealed, rank == now) and bool((rank[turn.moment.masked & (rank > 0)] >= now).all())


def test_local_passes_keep_the_full_passs_order(scene, monkeypatch):
    reveals_in_order(scene)
    monkeypatch.setattr(loop, "_allowed", lambda moment, plan, chosen: moment.aside > 0 if moment.aside.any() else None)
    with pytest.raises(AssertionError):  # wrong: ranked again within the group
        reveals_in_order(scene)


class Clock:
    """A clock that stands still but for one tick per row and layer."""

    def __init__(self, monkeypatch):
        self.now, rows = 0.0, recap.layer_rows

        def counted(layer, hidden, *rest, **options):
            self.now += hidden.shape[1]
            return rows(layer, hidden, *rest, **options)
        monkeypatch.setattr(recap, "layer_rows", counted)
        monkeypatch.setattr(recap.time, "perf_counter", lambda: self.now / 1e3)


class DriftOnTheClock(recap.Reused):
    """Mutant: what only the picture asks for is counted as the method's time."""

    def __call__(self, moment):
        began = recap.time.perf_counter()
        found = super().__call__(moment)
        return dataclasses.replace(found, cost=dataclasses.replace(
            found.cost, ms=1e3 * (recap.time.perf_counter() - began)))


def ms_of_rows(cls, scene, monkeypatch):
    model, board = scene
    with monkeypatch.context() as patch:
        Clock(patch)
        for turn in played(planned(model, board, cls, measure_drift=True), board):
            rows = int(turn.found.rows.sum()) + model.cond_length
            assert turn.ms == turn.found.cost.ms == pytest.approx(rows * len(model.layers))


def test_milliseconds_are_those_of_the_rows_and_not_of_the_drift(scene, monkeypatch):
    ms_of_rows(recap.Reused, scene, monkeypatch)
    with pytest.raises(AssertionError):
        ms_of_rows(DriftOnTheClock, scene, monkeypatch)


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
        job = prepare("recap", params=params)
        *_, mine = followed(job)
        *_, base = followed(twin(job))
        share = 100 * mine.traces["unmask"].cost.macs / base.traces["unmask"].cost.macs
        assert mine.traces["unmask"].facts["work"].value == pytest.approx(share) and share < 90


def test_a_full_pass_costs_the_same_in_both(scene):
    model, board = scene
    ours = played(planned(model, board), board)[0].found.cost
    theirs = full_cost(model, 2, 256 + model.cond_length, 256)
    assert (ours.rows, ours.macs) == (theirs.rows, theirs.macs)
    rows = 256 + model.cond_length
    assert ours.cache_bytes == 2 * 2 * 2 * rows * 32 * 4  # branches, keys and values, layers, rows, width, bytes


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


def test_attention_rows_are_those_of_the_last_local_pass(tiny):
    rows = run("recap").traces["attend"].rows
    heads = run("recap").traces["attend"].heads
    assert heads.entropy.shape == (2, 4, 256)
    asked = rows.queries
    assert np.isfinite(heads.entropy[:, :, asked]).all() and np.isnan(np.delete(heads.entropy, asked, 2)).all()


def test_the_baseline_has_as_many_steps_all_in_full(tiny):
    job = prepare("recap", seed=2)
    ours, theirs = (next(r for r in followed(j) if r.done).traces["unmask"] for j in (job, twin(job)))
    assert [len(s.where("new")) for s in ours.steps] == [len(s.where("new")) for s in theirs.steps]
    assert np.array_equal(ours.steps[0].ids, theirs.steps[0].ids), "the first passes are the same computation"


def test_a_visitors_choice_needs_full_passes_first(tiny):
    first = recap.grouped(256, 12, 1, 0.5)[0].count
    assert run("recap", choice=(tuple(range(first)),)).done
    with pytest.raises(ValueError, match="start the local passes later"):
        run("recap", params={"start": 0.0}, choice=(tuple(range(recap.grouped(256, 12, 1, 0.0)[0].count)),))
