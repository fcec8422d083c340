"""Multi-token prediction: its traps, each with the mutant that the same assertion rejects; its recipes: where masks
stand, whose tokens they learn, and that nothing but the adapters moves; and your turn: a visitor judges drafts.

Who may see whom is asked in tests/backbones/test_layout.py, row by row.
"""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from models.backbones.layout import CallLayout, blocks, reals
from models.engine.method import run
from models.loops.sample.cached_lm import Reader as Source
from models.loops.sample.cached_lm import agreed, greedy, nats
from models.loops.sample.foresight import rank
from models.papers.mtp_future import claim, method
from models.papers.mtp_future.method import Params, call, calls, useful, written
from models.papers.mtp_future.network import AdaptedReader, FutureAdapters, behind, lesson
from models.papers.mtp_future.recipe import LONG, PAD, SHORT, AlgoMTP, TextMTP
from models.papers.mtp_future.record import foresight
from models.serving import session, turns
from models.trace import CODE
from models.trace.params import ParamError
from models.trace.subject import from_text
from tests.traps import caught, learns_beside

ATOL = 1e-4
TEXT = "Once upon a time there was a little red hen."
IDS = torch.arange(20, 44)[None]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def reader(tiny):
    return tiny.bundle("text-mtp-1").model.on(tiny.bundle("text-ar-1").model)


@pytest.fixture
def source(tiny):
    return Source(tiny.bundle("text-ar-1"), from_text(TEXT), 60)


@pytest.fixture
def whole(source):
    """Prompt and the base's own continuation."""
    return source.prompt + greedy(source, 55)[0]


# --- the base inside is the untouched base --------------------------------------------------------------------------

def test_real_tokens_have_the_logits_of_the_base(reader, monkeypatch):
    """Mutants: an open gate; real tokens that see the masks before them, as in an ordinary causal mask."""
    rows = reals(0, 24) + blocks(range(24), [3] * 24)

    @torch.inference_mode()
    def unmoved(visible, gated) -> bool:
        monkeypatch.setattr(CallLayout, "visible", visible)
        mixed = reader.head(reader(IDS, rows, gated=gated)[:, :24])
        return float((mixed - reader.base(IDS).logits).abs().max()) < ATOL

    caught(unmoved, (CallLayout.visible, True), (CallLayout.visible, False),
           (lambda rows, past=0: rows.position <= rows.position[:, None], True))


@torch.inference_mode()
def test_reading_the_text_first_is_the_same_as_one_call(reader):
    some = blocks([3, 6], [2, 4])
    assert torch.allclose(reader(IDS, reals(0, 24) + some)[:, 24:], behind(reader, IDS, some)[1], atol=ATOL)


def is_the_bases_own(reader, source, p: Params) -> bool:
    """Whether twenty tokens that the method writes are those that the base writes alone."""
    new = itertools.chain.from_iterable(found.written for found in calls(reader, source.prompt, p))
    return list(itertools.islice(new, 20)) == greedy(source, 20)[0]


@pytest.mark.parametrize("way, k, sampler", [("quadratic", 4, True), ("quadratic", 1, False), ("linear", 3, True),
                                             ("plain", 4, True)])
def test_the_text_is_the_bases_own(reader, source, way, k, sampler):
    assert is_the_bases_own(reader, source, Params(way=way, k=k, sampler=sampler))


def test_what_would_change_the_text(reader, source, monkeypatch):
    """Guesses that count because they were made, rows that are left in the cache, an open gate."""
    def exact(name, rule, gated) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(method, name, rule)
            return is_the_bases_own(reader, source, Params(gated=gated))

    caught(exact, ("agreed", agreed, True), ("agreed", lambda guesses, own: len(guesses), True),
           ("rewind", lambda cache, keep: None, True), ("agreed", agreed, False))


def test_a_quadratic_call_has_a_block_behind_every_guess():
    rows = call(first=10, count=5, guessed=4, k=4, way="quadratic")
    assert len(rows) == (4 + 1) ** 2 and rows.anchor[rows.mask == 1].tolist() == [10, 11, 12, 13, 14]
    assert rows.position[5:9].tolist() == [11, 12, 13, 14], "the first block stands where the guesses stand"
    assert len(call(10, 5, 4, 4, "linear")) == 5 + 4 and len(call(10, 1, 0, 4, "plain")) == 1


# --- which token a mask speaks of -----------------------------------------------------------------------------------

class Perfect(AdaptedReader):
    """Masks whose state is the base's own state at the place that speaks of the same token."""

    def __call__(self, ids, layout, cache=None, gated=True):
        return self.base.model(IDS).last_hidden_state[:, layout.position]


def off_by_one(reader, ids, layout):
    """Mutant: m_i is taught x_{n+i}, of which the base behind x_n or m_{i-1} speaks already."""
    states = behind(reader, ids, layout)[1]
    return lesson(reader, ids, layout) | {"masks": nats(reader.head(states), ids[:, layout.position])}


@torch.inference_mode()
def test_mask_i_is_taught_the_token_i_places_beyond_the_next(reader):
    """Masks that know what the base knows pay what the base pays for x_{n+1+i}."""
    perfect, after = Perfect(reader.base, reader.adapters), torch.tensor([4, 5, 6, 7, 10, 11, 12])  # n + 1 + i
    paid = nats(reader.base(IDS).logits[:, after - 1], IDS[:, after])
    rows = blocks([2, 8], [4, 3])
    caught(lambda teach: torch.allclose(teach(perfect, IDS, rows)["masks"], paid, atol=ATOL), lesson, off_by_one)
    assert float(lesson(perfect, IDS, rows)["consistency"].max()) < ATOL


class Oracle(AdaptedReader):
    """Its masks know what the base will write, `shift` places off, and are wrong from the guess `wrong` of a call on.
    A mask's state carries its place; the sampler reads it."""

    def __init__(self, reader, whole, shift=0, wrong=99):
        super().__init__(reader.base, reader.adapters)
        self.whole, self.shift, self.wrong, self.seen = whole, shift, wrong, 0

    def __call__(self, ids, layout, cache=None, gated=True):
        states, masks = super().__call__(ids, layout, cache, gated).clone(), layout.mask > 0
        states[:, masks] = 0.0
        states[:, masks, 0], states[:, masks, 1] = layout.position[masks] + 1.0, layout.mask[masks].float()
        return states

    def sampled(self, state, before):
        if state.ndim > 1:
            return super().sampled(state, before)
        at, number = int(state[0]) + self.shift, int(state[1])
        return one_hot(torch.tensor(self.whole[at] if number <= self.wrong else 3), self.base.config.vocab_size).float()


@pytest.mark.parametrize("way, wrong, added", [
    ("quadratic", 99, [1, 5, 5, 5, 5]), ("linear", 99, [1, 5, 5, 5, 5]),
    ("quadratic", 2, [1, 3, 3, 3, 3]), ("linear", 2, [1, 3, 1, 3, 1])])
def test_right_guesses_are_accepted_and_only_quadratic_calls_go_on_after_a_wrong_one(reader, source, whole, way, wrong,
                                                                                    added):
    """Mutants: masks that speak of the next token instead, or of one too far."""
    def adds(shift) -> bool:
        some = calls(Oracle(reader, whole, shift, wrong), source.prompt, Params(way=way))
        return [len(found.written) for found in itertools.islice(some, 5)] == added

    caught(adds, 0, -1, 1)


def test_masks_behind_a_wrong_guess_are_not_used(reader, source, monkeypatch):
    def prefixes_right(rule) -> bool:
        monkeypatch.setattr(method, "useful", rule)
        found = list(itertools.islice(calls(reader, source.prompt, Params(way="linear")), 6))
        return all(not one.ahead or one.accepted == len(one.guesses) for one in found)

    caught(prefixes_right, useful, lambda states, right, guessed, p: states[-p.k:])
    states = torch.arange(15.0)[:, None]
    assert useful(states, 2, 4, Params(k=3))[:, 0].tolist() == [6, 7, 8], "the block behind the last right token"
    assert len(useful(states[:3], 1, 4, Params(k=3, way="linear"))) == 0


class Medusa(AdaptedReader):
    """Mutant: guesses are heads on the last real state; masks are only for show."""

    def __call__(self, ids, layout, cache=None, gated=True):
        states = super().__call__(ids, layout, cache, gated)
        return torch.where((layout.mask > 0)[None, :, None], states[:, layout.mask == 0][:, -1:], states)


@torch.inference_mode()
def test_guesses_come_from_the_masks(reader):
    def hears_masks(kind) -> bool:
        found = []
        for factor in (1.0, -5.0):
            twin = copy.deepcopy(reader.adapters)
            twin.embed_masks.weight.data *= factor
            found.append(kind(reader.base, twin)(IDS, call(0, 24, 0, 4, "linear"))[0, -4:])
        return float((found[0] - found[1]).abs().max()) > 1e-2

    caught(hears_masks, AdaptedReader, Medusa)


@torch.inference_mode()
def test_the_sampler_hears_the_guess_before(reader):
    states = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    one, other = (reader.sampled(states[0], torch.tensor(token)) for token in (5, 9))
    assert not torch.allclose(one, other, atol=1e-3)
    chain = method.ahead(reader, states, 5, sampler=True)[1]
    assert torch.allclose(chain[1], reader.sampled(states[1], chain[0].argmax()), atol=ATOL)
    assert torch.equal(*method.ahead(reader, states, 5, sampler=False)), "off: the masks alone"


def test_the_length_is_kept_and_the_end_of_a_text_is_the_end(reader, source, whole):
    start = len(source.prompt)
    end, new = whole[start + 2], whole[start:]
    for length, stop, wanted in ((1, None, 1), (2, None, 2), (7, None, 7), (40, end, new.index(end) + 1)):
        decoded = written(Oracle(reader, whole), source.prompt, Params(length=length), stop)
        assert [token for _, some in decoded for token in some] == new[:wanted]


@pytest.fixture
def records(tiny, whole, monkeypatch):
    """The three records of a run whose first two guesses of each call are right."""
    monkeypatch.setattr(FutureAdapters, "on", lambda self, base: Oracle(AdaptedReader(base, self), whole, wrong=2))
    return run("mtp-future", from_text(TEXT), {"length": 20}).traces


def test_accepted_own_and_refused_tokens_are_told_apart(records, whole, source):
    trace, start = records["sample"], len(source.prompt)
    last, facts = trace.steps[-1], trace.facts
    accepted = last.state[start: start + 20] == CODE["accepted"]
    assert accepted.sum() == facts["right"].value / 100 * int(facts["right"].unit.split()[-1])
    assert last.ids[start: start + 20].tolist() == whole[start: start + 20], "what stands there is the base's"
    refused = trace.steps[1].where("refused")
    assert len(refused) == 2 and (refused >= start + 20).all() and (trace.steps[1].ids[refused] == 3).all()
    assert facts["same"].value == 1 and facts["per_call"].value == pytest.approx(20 / len(trace.steps))


def test_fewer_calls_are_not_sold_as_less_work(records):
    trace = records["sample"]
    assert "rows were fed per token" in trace.sentence and not any("fast" in f.unit for f in trace.facts.values())
    assert trace.facts["rows"].value > 5, "every mask is a row that was computed"
    assert trace.cost.macs > 0 and trace.cost.calls == len(trace.steps)


def test_masks_are_filled_in_together_and_wrong_ones_give_way(records):
    steps = records["unmask"].steps
    assert all(len(step.where("new")) == 4 for step in steps[:3])
    assert [len(step.where("known")) for step in steps[:3]] == [1, 4, 7]
    assert set(steps[0].distributions) == {"the base", "the sampler's guess", "the mask alone"}


def test_attention_keeps_to_the_training_mask(records):
    trace = records["attend"]
    allowed = trace.charts[0].series["block"] > 0
    rows = np.stack([trace.rows.row(0, 0, query) for query in range(trace.canvas.size)])

    def kept_to(mask):
        assert rows[~mask].max() < 1e-6 and (rows[mask] > 0).mean() > 0.5

    caught(kept_to, (allowed,), (np.tril(np.ones_like(allowed)),))  # a causal triangle would be another mask
    assert abs(rows.sum(1) - 1).max() < 0.05 and 0 < trace.facts["own"].value < 100


def test_foresight_asks_for_the_token_that_came(reader, source, whole):
    start, text = len(source.prompt), torch.tensor([whole])
    with torch.inference_mode():
        logits = reader.head(behind(reader, text, blocks([start - 1], [3]))[1])[0]
    found = foresight(reader, whole, start, 3)[1, 0].tolist()
    caught(lambda beyond: found == rank(logits, text[0, start + beyond: start + beyond + 3]).tolist(), 1, 0, 2)
    assert foresight(reader, whole[: start + 1], start, 3).shape == (3, 0, 3)


# --- the claim and the recipes --------------------------------------------------------------------------------------

def test_repeated_text_is_left_out():
    ids = [9, 9, 9, 1, 2, 3, 4, 5, 1, 2, 3, 4]
    assert claim.first_times(ids, 3).tolist() == [True] * 8 + [False], "1 2 3 4 came before"


def test_an_inexact_mode_is_seen(tiny, monkeypatch):
    world = claim.domains(2)[1]

    def all_the_same(rule):
        monkeypatch.setattr(method.Call, "accepted", property(rule))
        texts = [claim.one_text(world, source, claim.MODES[claim.QUADRATIC]) for source in world.sources]
        assert all(row.value == 100 for row in claim.exact(world, {claim.QUADRATIC: texts}))

    caught(all_the_same, lambda found: agreed(found.guesses, found.own), lambda found: len(found.guesses))


@pytest.fixture
def made(tiny):
    """The recipe of sums on the tiny base, without files."""
    recipe = AlgoMTP(seed=3)
    recipe.autocast, recipe.rows, recipe.per_text, recipe.stop_word = False, 4, 8, 10
    recipe.base, recipe.revision = copy.deepcopy(tiny.bundle("algo-arithmetic-1").model), "tiny"
    recipe.texts = np.random.default_rng(0).integers(20, 60, (6, recipe.length)).astype(np.uint16)
    recipe.texts[:, 12], recipe.texts[:, 40:] = 10, PAD
    recipe.held = recipe.texts
    return recipe


def test_blocks_stay_inside_the_text_and_batches_depend_on_the_step_alone(made):
    first, again, other = made.batch(4, 0.0), made.batch(4, 0.9), made.batch(5, 0.0)
    assert torch.equal(first["ids"], again["ids"]) and torch.equal(first["anchors"], again["anchors"])
    assert not torch.equal(first["anchors"], other["anchors"])
    for step in range(20):
        anchors = made.batch(step, 0.0)["anchors"]
        assert len(set(anchors.tolist())) == 8 and int(anchors.max()) + LONG + 1 < made.length
        assert int(anchors.min()) >= made.first


def test_only_the_solution_counts(made):
    counted = made.counts(torch.from_numpy(made.texts.astype(np.int64)))[0]
    assert counted[:13].sum() == 0 and counted[13:40].all() and counted[40:].sum() == 0


def test_the_loss_falls_and_only_adapters_move(made):
    model, batch = made.build(), made.batch(0, 0.0)
    learns_beside(made, model, batch, dict(model.named_parameters()), steps=10, rate=1e-2)
    assert set(made.loss(model, batch, 0.0)[1]) == {"masks", "sampler", "consistency"}
    found = made.runs(model, made.held)
    assert found.shape == (3, 6) and 0 <= found.min() and found.max() <= SHORT


def test_half_of_the_stories_are_books():
    recipe = TextMTP(seed=1)
    recipe.rows, recipe.train = 6, np.full(4000, 7, np.uint16)
    recipe.texts = np.full((5, recipe.length), 9, np.uint16)
    ids = recipe.chosen(np.random.default_rng(0), 0)
    assert ids.shape == (6, recipe.length) and (ids == 7).all(1).sum() == 3 and (ids == 9).all(1).sum() == 3


def test_only_a_call_with_a_draft_is_judged(tiny):
    """A linear layout offers only calls with a draft; the base alone has none."""
    linear, plain = (session.Ask("mtp-future", "sample", params={"way": way}) for way in ("linear", "plain"))
    assert len(turns.offer(linear, (0, 0)).picks) > 1
    with pytest.raises(ParamError, match="drafts nothing"):
        turns.offer(plain, ())
