"""ADJUST's traps, each with the mutant that the same assertion rejects; and its layer's recipe: whose tokens it learns
from, and that a resumed run goes on with the same texts. Its Sample record is asked in tests/loops/test_two_masks.py.
"""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import kernels
from models.baselines.mdm import method as mdm
from models.claims import Lab
from models.engine.method import find, follow, prepare, run, twin
from models.loops.sample.cached_lm import divergence
from models.loops.unmask.canvases import text_board
from models.loops.unmask.loop import Evaluation, Move, Plan, fill, indices
from models.loops.unmask.two_masks import PRODUCT, Between, measured
from models.papers.joint_sampling import claim
from models.papers.joint_sampling import method as joint_sampling
from models.papers.joint_sampling import recipe as text_joint
from models.papers.joint_sampling.method import Adjust, Params, gain, rounds
from models.papers.joint_sampling.network import ExactRound, JointSampler, exact_round, lesson, some
from models.papers.joint_sampling.recipe import LENGTH, ROUND, TextJoint
from models.papers.joint_sampling.record import TRUTH
from models.trace import Cost
from models.trace.subject import from_text
from tests.traps import caught, learns, only_these_move

ATOL = 1e-5


@pytest.fixture
def parts(tiny):
    """Trunk, taught-looking layer, and a board of twelve blanks."""
    trunk = tiny.bundle("text-mdm-2").model
    return trunk, tiny.bundle("text-joint-2").model, text_board(trunk, tiny.text_tokenizer(), "Once upon a time", 12)


def played(parts, cls=Adjust):
    trunk, layer, board = parts
    plan = Plan(rounds(board.unknown, 4), cls(trunk, layer, board.forbidden), "peak")
    return list(fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)))


def run_to_end(job):
    *_, last = follow(job)
    return last.traces["unmask"]


# --- the layer must not see the trunk run again ---------------------------------------------------------------------

class Rerun(Adjust):
    """Mutant: the layer reads the trunk's states of the text as it stands now, which is exact sampling at its price."""

    def __call__(self, moment):
        found = super().__call__(replace(moment, move=Move(moment.move.count, "full")))
        return found if moment.move.label == "full" else super().__call__(moment)


def test_the_trunk_runs_once_per_round(parts):
    def once(cls) -> bool:
        seen = []
        handle = parts[0].layers[0].register_forward_hook(lambda *_: seen.append(1))
        played(parts, cls)
        handle.remove()
        return len(seen) == 12 / 4

    caught(once, Adjust, Rerun)


def test_states_stay_those_of_the_round_start(parts):
    """An untrained layer repeats them: its logits are the full pass's until the next full pass."""
    trunk, _, board = parts

    def still(cls) -> bool:
        worst, table = 0.0, None
        for turn in played((trunk, JointSampler.beside(trunk).eval(), board), cls):
            found = turn.found
            if turn.moment.move.label == "full":
                table = torch.full((board.canvas.size, found.logits.shape[-1]), -torch.inf)
                table[found.positions[0]] = found.logits[0]
            gap = found.logits[0] - table[found.positions[0]]
            worst = max(worst, float(gap[gap.isfinite()].abs().max()))
        return worst < ATOL

    caught(still, Adjust, Rerun)


def test_looking_at_the_truth_changes_nothing(tiny):
    """The true distribution in the picture is neither work nor an input of the layer."""
    seen, unseen = (run("joint-sampling", params={"truth": on, "length": 12}, seed=4).traces["unmask"]
                    for on in (True, False))
    assert np.array_equal(seen.steps[-1].ids, unseen.steps[-1].ids)
    assert (seen.cost.macs, seen.cost.calls) == (unseen.cost.macs, unseen.cost.calls)
    assert any(TRUTH in step.distributions for step in seen.steps) and "kl" not in unseen.facts


# --- the teacher is the trunk on its own samples --------------------------------------------------------------------

TEXT = torch.arange(40, 60)[None]  # a "true text" that the trunk would hardly write


def textbook(trunk, ids, steps, order, generator, forbidden=(), most=16) -> ExactRound:
    """Mutant: writes the true text's tokens and teaches them."""
    kept, now, table = [], ids, trunk(ids)
    for step in range(steps):
        masked = now == trunk.mask_token_id
        if step:
            truth = torch.nn.functional.one_hot(TEXT, table.shape[-1]).float() * 50
            kept.append((now, *some(truth, torch.arange(ids.shape[1])[None], masked, most, generator)))
        first = int(masked[0].nonzero()[0])
        now = now.clone()
        now[0, first] = TEXT[0, first]
    return ExactRound(ids, trunk.embed(ids)[0], trunk.embed(ids)[0], *(torch.stack(part) for part in zip(*kept)), now)


def test_the_teacher_is_the_trunk_on_the_trunks_own_tokens(tiny):
    """Mutants: a round that writes the true text; its lessons on texts that the trunk could have written itself."""
    trunk, ids = tiny.bundle("text-mdm-2").model, TEXT.clone()
    ids[0, 4:] = trunk.mask_token_id

    def taught(made, by_tokens) -> bool:
        found = made(trunk, ids, 5, "leftmost", torch.Generator().manual_seed(1))
        if by_tokens:
            return bool((found.ids[-1][0, 4:8] != TEXT[0, 4:8]).any())
        true = [trunk(text).gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))
                for text, at, logits in zip(found.ids, found.positions, found.logits)]
        apart = [divergence(one, logits) * counts for one, logits, counts in zip(true, found.logits, found.counts)]
        return float(torch.cat(apart).max()) < 1e-4

    for by_tokens in (True, False):
        caught(taught, (exact_round, by_tokens), (textbook, by_tokens))


def test_the_lesson_is_zero_when_layer_and_teacher_agree_and_moves_only_the_layer(tiny):
    trunk = copy.deepcopy(tiny.bundle("text-mdm-2").model)
    layer, ids = JointSampler.beside(trunk), torch.full((2, 20), trunk.mask_token_id)
    ids[:, :4] = TEXT[:, :4]
    lessons = exact_round(trunk, ids, 4, "random", torch.Generator().manual_seed(0), (0,), most=5).lessons()
    assert lessons["ids"].shape == (6, 20) and lessons["counts"].all()
    trunk.requires_grad_(False)
    only_these_move(torch.nn.ModuleDict({"trunk": trunk, "adjust": layer}),
                    lambda both: lesson(trunk, layer, **lessons, forbidden=(0,)).mean(), ["adjust.state_projection"])
    agreed = trunk.read(lessons["hidden"], lessons["positions"])
    agreed[..., 0] = -1e4
    assert lesson(trunk, layer, **{**lessons, "teacher": agreed}, forbidden=(0,)).abs().max() < ATOL


# --- the baseline differs in the sampler alone ----------------------------------------------------------------------

def fair(job) -> bool:
    """Same order, temperature and number of full passes; no blocks."""
    other, p = twin(job), job.params
    same = (other.params.order, other.params.temperature, other.params.block) == (p.order, p.temperature, mdm.WHOLE)
    return same and other.params.steps == math.ceil(p.length / p.together)


@pytest.mark.parametrize("given", [{}, {"order": "leftmost", "together": 3, "temperature": 0.7, "length": 20}])
def test_the_marginal_baseline_has_the_same_order_temperature_and_passes(given, tiny):
    """Mutant: mdm's own defaults."""
    job = prepare("joint-sampling", from_text("Once upon"), given)
    caught(fair, job, replace(job, method=replace(job.method, baseline_params=lambda p: {"length": p.length})))


def test_marginal_sampling_here_is_the_baseline_there(tiny):
    """The sampler's marginal option and mdm write the same text from the same seed."""
    job = prepare("joint-sampling", from_text("Once upon"), {"sampler": "marginal", "length": 12}, seed=3)
    ours, theirs = (run_to_end(j).steps[-1].ids for j in (job, twin(job)))
    assert np.array_equal(ours, theirs)


# --- layer passes are paid for --------------------------------------------------------------------------------------

class FreeLayer(Adjust):
    """Mutant: counts full passes only."""

    def layer_cost(self, *shape, first):
        return replace(super().layer_cost(*shape, first=first), calls=0, rows=0, macs=0)


def test_a_round_costs_d_plus_k_layers(parts):
    depth = len(parts[0].layers)

    def paid(cls) -> bool:
        turns = played(parts, cls)
        full = sum(turn.moment.move.label == "full" for turn in turns)
        spent = sum(turn.found.cost.rows for turn in turns) / (full * turns[0].moment.ids.shape[1])
        return spent == pytest.approx(depth + 4)

    caught(paid, Adjust, FreeLayer)
    assert gain(4, 6) == pytest.approx(4 * 6 / 10) and gain(1, 6) == 1


def test_the_run_says_what_tokens_cost_and_every_token_knows_its_place_in_the_round(tiny):
    trace = run("joint-sampling", from_text("Once upon"), {"length": 12, "together": 4}).traces["unmask"]
    facts, place = trace.facts, trace.steps[-1].fields["place"]
    assert (facts["full"].value, facts["extra"].value) == (3, 9)
    assert facts["gain"].value == pytest.approx(gain(4, layers=2)) and facts["gain"].value < 4
    assert sorted(place[np.isfinite(place)].tolist()) == sorted([1.0, 2.0, 3.0, 4.0] * 3)


# --- temperature 1, and positions that no draw chooses --------------------------------------------------------------

class Coins(torch.nn.Module):
    """Knows the joint of two coins exactly, without training: p(b | a) is all on the other side."""

    mask_token_id, cond_length, layers, vocab_size = 2, 0, (), 2

    def embed(self, ids, cond=None):
        partner = ids.unflatten(1, (-1, 2)).flip(2).flatten(1)
        wanted = torch.stack([partner == 1, partner == 0], -1).float() * 40
        return torch.where((partner == 2)[..., None], torch.tensor([0.02, 0.0]), wanted), None


class Exact(Adjust):
    """Every move by the network itself; costs do not matter here."""

    def __call__(self, moment):
        positions = indices(moment.masked)
        logits = self.trunk.embed(moment.ids)[0].gather(1, positions[..., None].expand(-1, -1, 2))
        return Evaluation(positions, logits, torch.ones_like(moment.masked), Cost())


def broken(way: str, temperature: float) -> float:
    """Percent of illegal pairs."""
    plan = Plan(rounds(12, 4, way), Exact(Coins(), None), "leftmost", sampler=kernels.Sampler(temperature))
    *_, last = fill(torch.full((400, 12), 2), 2, plan, torch.Generator().manual_seed(0))
    return float(claim.illegal_pairs(last.ids).mean())


def test_temperature_one_is_the_default_and_zero_would_hide_the_joint():
    """Half of the independent pairs are illegal at temperature 1. At 0 the number says nothing about chances: each
    coin shows its likelier side, so every pair breaks (or, with other coins, none)."""
    caught(lambda temperature: broken("marginal", temperature) == pytest.approx(50, abs=3), Params().temperature, 0.0)
    assert Params().temperature == 1.0 and broken("exact", 1.0) == 0 and broken("marginal", 0.0) in (0.0, 100.0)


def test_no_order_of_the_method_lets_a_draw_choose_the_position():
    """The kernels' test shows what "confidence" does to a distribution; here it must not be on offer."""
    assert "confidence" not in joint_sampling.ORDERS
    assert set(joint_sampling.ORDERS) <= set(mdm.ORDERS), "the baseline must know every order"


# --- the Sample record, rounds and the visitor's turn -----------------------------------------------------------------

def test_an_untrained_layer_is_the_product_of_marginals(parts):
    """Mutant: a layer that has learned something."""
    trunk, taught, board = parts

    def repeats(layer) -> bool:
        between = Between("layer", "the layer", "ADJUST", Adjust(trunk, layer, board.forbidden).after(board.ids))
        found = measured(board, trunk, (5, 7), 1.0, between).seconds
        return torch.allclose(found[between.title], found[PRODUCT], atol=ATOL)

    caught(repeats, JointSampler.beside(trunk).eval(), taught)


def test_the_sample_record_tries_first_tokens_and_draws_three_tables(tiny):
    trace = run("joint-sampling", params={"length": 8}).traces["sample"]
    assert len(trace.steps) == 10 and all(len(step.distributions) == 4 for step in trace.steps)
    assert [chart.series["probability"].sum() for chart in trace.charts] == [pytest.approx(1, abs=1e-3)] * 3


@pytest.mark.parametrize("unknown, together, sizes",
                         [(12, 4, [4, 4, 4]), (10, 4, [3, 3, 4]), (5, 1, [1] * 5), (3, 8, [3])])
def test_rounds_add_up_and_begin_with_a_full_pass(unknown, together, sizes):
    labels = "".join("F" if move.label == "full" else "l" for move in rounds(unknown, together))
    assert sorted(map(len, labels.replace("F", " F").split())) == sorted(sizes) and len(labels) == unknown
    assert all(move == Move(1) for move in rounds(unknown, together, "exact"))
    assert sum(move.count for move in rounds(unknown, together, "marginal")) == unknown


def test_a_visitor_may_choose_within_a_round(tiny):
    blanks = prepare("joint-sampling", from_text("Once upon"), {"length": 8})
    last = text_board(blanks.model, blanks.tokenizer, "Once upon", 8).canvas.size - 1
    steps = run_to_end(replace(blanks, choice=((last,), (last - 2,)))).steps
    assert [step.where("new").tolist() for step in steps[:2]] == [[last], [last - 2]]
    assert find("joint-sampling").turn.count(blanks) == (1, 1, 1, 1)


# --- the claim ------------------------------------------------------------------------------------------------------

def test_the_claim_measures_and_names_what_it_compares(tiny):
    found = claim.measure(Lab(quick=True))
    rows = [*found.rows, *found.context]
    assert len(rows) > 12 and all(np.isfinite(r.value) for r in rows) and found.verdict != "holds"
    spent = {name: arm["mean"] for name, arm in found.budgets.items()}
    names = claim.NAMES
    assert spent[names["marginal"]] < spent[names["ADJUST"]] <= spent[names["exact"]], "layer passes are paid for"


def test_the_share_of_a_gap_that_is_closed():
    levels = np.tile([0.0, 0.25, 1.0], (40, 1))  # exact, ADJUST, marginal
    assert claim.closed("", levels, lambda rows: rows.mean(0)).interval()[0] == pytest.approx(0.75)


def test_ngrams_of_exact_samples_are_compared_with_another_seed():
    """ln 2 for texts without a common n-gram, 0 for equal ones, and the formula is Jensen and Shannon's. Mutant: exact
    samples compared with themselves, which leaves no floor."""
    rng = np.random.default_rng(0)
    same, other = np.tile(rng.integers(0, 9, (1, 1, 3, 8)), (1, 2, 1, 1)), rng.integers(20, 29, (1, 2, 3, 8))
    assert claim.apart(claim.coded(np.concatenate([same, other]))) == pytest.approx([0, math.log(2)])
    codes = claim.coded(np.concatenate([rng.integers(0, 3, (1, 2, 30, 8)) for _ in range(2)]))

    def slowly(way: int, i: int, j: int) -> float:
        p, q = (np.bincount(codes[:, a, s].ravel(), minlength=codes.max() + 1) for a, s in ((way, i), (0, j)))
        p, q = p / p.sum(), q / q.sum()
        return sum(float((x[x > 0] * np.log(2 * x[x > 0] / (p + q)[x > 0])).sum()) for x in (p, q)) / 2

    def of_seeds(way: int, pairs) -> bool:
        return claim.apart(codes)[way] == pytest.approx(np.mean([slowly(way, i, j) for i, j in pairs]))

    caught(of_seeds, (0, [(0, 1), (1, 0)]), (0, [(0, 0), (1, 1)]))
    assert of_seeds(1, [(0, 1), (1, 0)])


# --- the recipe -------------------------------------------------------------------------------------------------------

@pytest.fixture
def made(tiny, monkeypatch):
    """A recipe on the tiny trunk, in fp32, with prompts of one token that no draw may hide."""
    monkeypatch.setattr(text_joint, "BATCH", 3)

    def make():
        recipe = TextJoint(seed=5)
        recipe.autocast, recipe.base, recipe.revision = False, copy.deepcopy(tiny.bundle("text-mdm-2").model), "tiny"
        for weight in recipe.base.parameters():
            weight.data *= 6 if weight.dim() > 1 else 1  # so that tokens really depend on each other
        recipe.train = recipe.val = np.full(5 * LENGTH, 7, np.uint16)
        return recipe
    return make


def test_texts_are_whole_rounds_and_prompts_stay(made):
    recipe = made()
    mask, before = recipe.base.mask_token_id, recipe.refilled(0).clone()
    unknown = (before == mask).sum(1)
    assert bool((unknown % ROUND == 0).all()) and int(unknown.min()) >= ROUND
    batch = recipe.batch(0, 0.0)
    assert batch["ids"].shape == ((ROUND - 1) * 3, LENGTH) and bool(batch["counts"].any(1).all())
    after = recipe.pool
    assert bool(((after == before) | (before == mask)).all()), "only masks may be filled in"
    assert bool((unknown - (after == mask).sum(1) == ROUND).all())
    assert float((after[after != before] == 7).float().mean()) < 0.5, "what is filled in is the trunk's, not the text's"


def test_full_texts_give_way_to_new_ones(made):
    recipe = made()
    for step in range(9):
        recipe.batch(step, 0.0)
    assert bool((recipe.refilled(9) == recipe.base.mask_token_id).any(1).all())


def test_a_resumed_run_goes_on_with_its_texts(made):
    """Mutant: a run that forgets its texts."""
    whole = made()
    whole.batch(0, 0.0)
    wanted = whole.batch(1, 0.0)["ids"]

    def resumed(forget: bool) -> bool:
        first, second = made(), made()
        first.batch(0, 0.0)
        second.load_state({"pool": None} if forget else first.state())
        return torch.equal(second.batch(1, 0.0)["ids"], wanted)

    caught(resumed, False, True)


def test_the_loss_falls_on_one_batch(made):
    recipe = made()
    model, batch = recipe.build(), recipe.batch(0, 0.0)
    learns(model, lambda model: recipe.loss(model, batch, 0.0)[0])
    assert set(recipe.quick(model)) == {"KL", "KL unchanged"}
