"""The traps of multi-token prediction, each with the mutant that the same assertion rejects."""

import itertools

import numpy as np
import pytest
import torch

from models.engine.method import run
from models.loops.sample.cached_lm import Reader as Source
from models.papers.mtp_future import layout as mtp_future_layout
from models.papers.mtp_future import method as mtp_future
from models.papers.mtp_future import network as mtp_future_net
from models.papers.mtp_future.layout import Layout, blocks, call, reals
from models.papers.mtp_future.method import Params, agreed, calls, useful, written
from models.papers.mtp_future.network import FutureAdapters, Reader, behind, lesson
from models.papers.mtp_future.record import alone
from models.papers.mtp_future.sight import foresight, rank
from models.trace import CODE
from models.trace.subject import from_text

ATOL = 1e-4
TEXT = "Once upon a time there was a little red hen."
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def reader(tiny):
    return tiny.bundle("text-mtp-1").model.on(tiny.bundle("text-ar-1").model)


@pytest.fixture
def source(tiny):
    return Source(tiny.bundle("text-ar-1"), from_text(TEXT), 60)


def text_of(reader, source, p: Params, most: int = 20) -> list[int]:
    """The tokens that the method writes, at most `most`."""
    new = itertools.chain.from_iterable(found.written for found in calls(reader, source.prompt, p))
    return list(itertools.islice(new, most))


# --- the base inside is the untouched base --------------------------------------------------------------------------

def sees_masks(self, past=0):
    """Mutant: whatever stands earlier is seen, masks too, as in an ordinary causal mask."""
    rows = self.position <= self.position[:, None]
    return torch.cat([torch.ones(len(rows), past, dtype=torch.bool), rows], 1)


def drift(reader, source, gated=True) -> float:
    """Largest change of the real tokens' logits when a block of masks stands behind each of them."""
    ids = torch.tensor([source.prompt])
    layout = reals(0, ids.shape[1]) + blocks(range(ids.shape[1]), [3] * ids.shape[1])
    with torch.inference_mode():
        mixed = reader.head(reader(ids, layout, gated=gated)[:, : ids.shape[1]])
        return float((mixed - reader.base(ids).logits).abs().max())


def test_real_tokens_have_the_logits_of_the_base(reader, source, monkeypatch):
    assert drift(reader, source) < ATOL
    assert drift(reader, source, gated=False) > 100 * ATOL, "adapters on real tokens must be seen"
    monkeypatch.setattr(Layout, "visible", sees_masks)
    assert drift(reader, source) > 100 * ATOL, "real tokens that look at masks must be seen"


def test_a_reader_shares_every_weight_and_leaves_the_base_alone(reader):
    base, before = reader.base, [type(module) for module in reader.base.modules()]
    FutureAdapters.beside(base).on(base)
    assert [type(module) for module in base.modules()] == before
    own = {weight.data_ptr() for weight in reader.body.parameters()}
    assert {weight.data_ptr() for weight in base.model.parameters()} <= own
    assert not any(weight.requires_grad for weight in base.parameters())


@pytest.mark.parametrize("way, k, sampler", [("quadratic", 4, True), ("quadratic", 1, False), ("linear", 3, True),
                                             ("plain", 4, True)])
def test_the_text_is_the_bases_own(reader, source, way, k, sampler):
    new = text_of(reader, source, Params(way=way, k=k, sampler=sampler))
    assert new == alone(source, 20).ids


def everything(guesses, own):
    """Mutant: guesses count as accepted because they were made."""
    return len(guesses)


def kept(cache, rows):
    """Mutant: nothing is forgotten."""


@pytest.mark.parametrize("name, mutant", [("agreed", everything), ("forget", kept)])
def test_unverified_guesses_and_rows_left_in_the_cache_would_change_the_text(reader, source, monkeypatch, name, mutant):
    wanted = alone(source, 20).ids
    monkeypatch.setattr(mtp_future, name, mutant)
    assert text_of(reader, source, Params()) != wanted


def test_an_open_gate_changes_the_text(reader, source):
    assert text_of(reader, source, Params(gated=False)) != alone(source, 20).ids


def test_only_a_run_of_right_guesses_is_accepted():
    assert agreed([5, 6, 7], [5, 6, 7, 8]) == 3 and agreed([5, 9, 7], [5, 6, 7, 8]) == 1 and agreed([], [5]) == 0


# --- who may see whom -----------------------------------------------------------------------------------------------

def mask_states(reader, ids, layout):
    with torch.inference_mode():
        return behind(reader, ids, layout).states[0]


def blind_to(reader, source, change) -> float:
    """How much the first of two blocks moves when what it must not see is changed."""
    ids, layout = torch.tensor([source.prompt]), blocks([4, 9], [3, 3])
    other, moved = change(ids.clone(), layout)
    return float((mask_states(reader, ids, layout)[:3] - mask_states(reader, other, moved)[:3]).abs().max())


def later_text(ids, layout):
    ids[0, 5:] = ids[0, 5:].flip(0)
    return ids, layout


def other_block(ids, layout):
    return ids, blocks([4, 7], [3, 3])


def one_block(self, past=0):
    """Mutant: every mask sees every earlier mask, of other blocks too."""
    real = self.block == 0
    rows = (real & (self.position <= self.anchor[:, None])) | (~real & (self.anchor <= 9))
    return torch.cat([torch.arange(past) <= self.anchor[:, None], rows], 1)


def no_anchor(self, past=0):
    """Mutant: masks see the text up to their own position: the very tokens they should guess."""
    rows = (self.block[:, None] == self.block) & (self.position <= self.position[:, None])
    return torch.cat([torch.arange(past) <= self.position[:, None], rows], 1)


@pytest.mark.parametrize("change, mutant", [(later_text, no_anchor), (other_block, one_block)])
def test_a_block_sees_the_text_before_it_and_itself(reader, source, monkeypatch, change, mutant):
    assert blind_to(reader, source, change) < ATOL
    monkeypatch.setattr(Layout, "visible", mutant)
    assert blind_to(reader, source, change) > 100 * ATOL, "the mutant must be seen"


def test_later_masks_of_a_block_see_earlier_ones(reader, source):
    ids = torch.tensor([source.prompt])
    short, long = (mask_states(reader, ids, blocks([6], [size])) for size in (2, 4))
    assert torch.allclose(short, long[:2], atol=ATOL), "a mask does not see the ones behind it"
    visible = blocks([6], [3]).visible(past=9)
    assert visible[:, :9].sum(1).tolist() == [7, 7, 7] and visible[:, 9:].tolist() == torch.ones(3, 3).tril().tolist()


def test_reading_the_text_first_is_the_same_as_one_call(reader, source):
    ids, some = torch.tensor([source.prompt]), blocks([3, 6], [2, 4])
    with torch.inference_mode():
        whole = reader(ids, reals(0, ids.shape[1]) + some)[0, ids.shape[1]:]
    assert torch.allclose(whole, mask_states(reader, ids, some), atol=ATOL)


def test_a_quadratic_call_has_a_block_behind_every_guess():
    rows = call(first=10, count=5, guessed=4, k=4, way="quadratic")
    assert len(rows) == (4 + 1) ** 2 and rows.anchor[rows.mask == 1].tolist() == [10, 11, 12, 13, 14]
    assert rows.position[5:9].tolist() == [11, 12, 13, 14], "the first block stands where the guesses stand"
    assert len(call(10, 5, 4, 4, "linear")) == 5 + 4 and len(call(10, 1, 0, 4, "plain")) == 1


# --- which token a mask speaks of -----------------------------------------------------------------------------------

class Perfect(Reader):
    """Masks whose state is the base's own state at the place that speaks of the same token."""

    def __call__(self, ids, layout, cache=None, gated=True):
        return self.base.model(TARGETS).last_hidden_state[:, layout.position]


TARGETS = torch.arange(20, 44)[None]


def off_by_one(reader, ids, layout):
    """Mutant: m_i is taught x_{n+i}, of which the base behind x_n or m_{i-1} speaks already."""
    found = lesson(reader, ids, layout)
    return found._replace(masks=mtp_future_net.each(reader.head(behind(reader, ids, layout).states),
                                                    ids[:, layout.position]))


def test_mask_i_is_taught_the_token_i_places_beyond_the_next(reader):
    """Masks that know what the base knows pay what the base pays for x_{n+1+i}."""
    perfect, layout = Perfect(reader.base, reader.adapters), blocks([2, 8], [4, 3])
    after = torch.tensor([4, 5, 6, 7, 10, 11, 12])  # n + 1 + i
    with torch.inference_mode():
        paid = mtp_future_net.each(reader.base(TARGETS).logits[:, after - 1], TARGETS[:, after])
        found, early = (teach(perfect, TARGETS, layout) for teach in (lesson, off_by_one))
    assert torch.allclose(found.masks, paid, atol=ATOL) and float(found.consistency.max()) < ATOL
    assert not torch.allclose(early.masks, paid, atol=100 * ATOL), "the mutant that is off by one must be seen"


class Oracle(Reader):
    """Its masks know what the base will write, `shift` places off, and are wrong from the guess `wrong` of a call on.
    A mask's state carries its place; the sampler reads it."""

    def __init__(self, reader, whole, shift=0, wrong=99):
        super().__init__(reader.base, reader.adapters)
        self.whole, self.shift, self.wrong, self.seen = whole, shift, wrong, 0

    def __call__(self, ids, layout, cache=None, gated=True):
        states = super().__call__(ids, layout, cache, gated).clone()
        states[:, layout.mask > 0] = 0.0
        states[..., 0] = torch.where(layout.mask > 0, layout.position + 1.0, states[..., 0])
        states[..., 1] = torch.where(layout.mask > 0, layout.mask.float(), states[..., 1])
        return states

    def sampled(self, state, before):
        if state.ndim > 1:
            return super().sampled(state, before)
        at, number = int(state[0]) + self.shift, int(state[1])
        token = self.whole[at] if number <= self.wrong else 3
        return torch.nn.functional.one_hot(torch.tensor(token), self.base.config.vocab_size).float()


@pytest.fixture
def whole(source):
    """Prompt and the base's own continuation."""
    return source.prompt + alone(source, 55).ids


def added(reader, source, p, count=4) -> list[int]:
    """Tokens that each of the first calls adds."""
    return [len(found.written) for found in itertools.islice(calls(reader, source.prompt, p), count)]


@pytest.mark.parametrize("way", ["quadratic", "linear"])
def test_perfect_guesses_are_all_accepted(reader, source, whole, way):
    p = Params(k=4, way=way)
    assert added(Oracle(reader, whole), source, p) == [1, 5, 5, 5]
    early = added(Oracle(reader, whole, shift=-1), source, p)
    assert sum(early) < 10, "masks that speak of the next token instead must fail"


def test_after_a_wrong_guess_only_the_quadratic_layout_has_new_ones(reader, source, whole):
    assert added(Oracle(reader, whole, wrong=2), source, Params(k=4, way="quadratic"), 5) == [1, 3, 3, 3, 3]
    assert added(Oracle(reader, whole, wrong=2), source, Params(k=4, way="linear"), 5) == [1, 3, 1, 3, 1]


def hasty(states, right, guessed, p):
    """Mutant: linear masks are used even when a guess before them was wrong."""
    return states[-p.k:]


def test_masks_behind_a_wrong_guess_are_not_used(reader, source, monkeypatch):
    def prefixes_right() -> bool:
        found = list(itertools.islice(calls(reader, source.prompt, Params(way="linear")), 6))
        return all(not one.ahead or one.accepted == len(one.guesses) for one in found)

    assert prefixes_right()
    monkeypatch.setattr(mtp_future, "useful", hasty)
    assert not prefixes_right(), "the mutant that reads masks behind a wrong guess must be seen"


def test_the_block_behind_the_last_right_token_is_used():
    states = torch.arange(15.0)[:, None]
    assert useful(states, 2, 4, Params(k=3))[:, 0].tolist() == [6, 7, 8]
    assert len(useful(states[:3], 1, 4, Params(k=3, way="linear"))) == 0


class Medusa(Reader):
    """Mutant: guesses are heads on the last real state; masks are only for show."""

    def __call__(self, ids, layout, cache=None, gated=True):
        states = super().__call__(ids, layout, cache, gated)
        last = states[:, layout.mask == 0][:, -1:]
        return torch.where((layout.mask > 0)[None, :, None], last, states)


@pytest.mark.parametrize("kind, moves", [(Reader, True), (Medusa, False)])
def test_guesses_come_from_the_masks(reader, source, kind, moves):
    ids, found = torch.tensor([source.prompt]), []
    for factor in (1.0, -5.0):
        twin = FutureAdapters.beside(reader.base, rank=4, sampler_size=32)
        twin.load_state_dict(reader.adapters.state_dict())
        twin.embed_masks.weight.data *= factor
        layout = call(0, ids.shape[1], 0, 4, "linear")
        with torch.inference_mode():
            found.append(kind(reader.base, twin)(ids, layout)[0, -4:])
    assert (float((found[0] - found[1]).abs().max()) > 1e-2) == moves


def test_the_sampler_hears_the_guess_before(reader, source):
    states = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = (reader.sampled(states[0], torch.tensor(token)) for token in (5, 9))
        assert not torch.allclose(one, other, atol=1e-3)
        alone_, chain = mtp_future.ahead(reader, states, 5, sampler=True)
        assert torch.allclose(chain[1], reader.sampled(states[1], chain[0].argmax()), atol=ATOL)
        assert torch.equal(*mtp_future.ahead(reader, states, 5, sampler=False)), "off: the masks alone"


# --- what is shown --------------------------------------------------------------------------------------------------

def test_the_length_is_kept_and_the_end_of_a_text_is_the_end(reader, source, whole):
    for length in (1, 2, 7):
        decoded = list(written(Oracle(reader, whole), source.prompt, Params(length=length), None))
        assert [token for _, new in decoded for token in new] == whole[len(source.prompt):][:length]
    end = whole[len(source.prompt) + 2]
    first = whole.index(end, len(source.prompt)) - len(source.prompt) + 1
    decoded = list(written(Oracle(reader, whole), source.prompt, Params(), end))
    assert sum(len(new) for _, new in decoded) == first


@pytest.fixture
def records(tiny, whole, monkeypatch):
    """The three records of a run whose first two guesses of each call are right."""
    monkeypatch.setattr(FutureAdapters, "on", lambda self, base: Oracle(Reader(base, self), whole, wrong=2))
    return run("mtp-future", from_text(TEXT), {"length": 20}).traces


def test_accepted_own_and_refused_tokens_are_told_apart(records, whole, source):
    trace = records["sample"]
    start, last = len(source.prompt), trace.steps[-1]
    written_ = range(start, start + 20)
    accepted = [i for i in written_ if last.state[i] == CODE["accepted"]]
    assert len(accepted) == trace.facts["right"].value / 100 * int(trace.facts["right"].unit.split()[-1])
    assert last.ids[list(written_)].tolist() == whole[start: start + 20], "what stands there is the base's"
    refused = trace.steps[1].where("refused")
    assert len(refused) == 2 and (refused >= start + 20).all() and (trace.steps[1].ids[refused] == 3).all()
    assert trace.facts["same"].value == 1 and trace.facts["per_call"].value == pytest.approx(20 / len(trace.steps))


def test_the_clock_stands_beside_the_count_of_calls(records):
    trace = records["sample"]
    assert trace.facts["speed"].unit.endswith("fast") and "clock" in trace.sentence
    assert trace.facts["rows"].value > 5, "every mask is a row that was computed"
    assert trace.cost.macs > 0 and trace.cost.calls == len(trace.steps)


def test_masks_are_filled_in_together_and_wrong_ones_give_way(records, source):
    steps = records["unmask"].steps
    assert all(len(step.where("new")) == 4 for step in steps[:3])
    assert [len(step.where("known")) for step in steps[:3]] == [1, 4, 7]
    assert set(steps[0].distributions) == {"the sampler's guess", "the mask alone"}


def test_attention_keeps_to_the_training_mask(records):
    trace = records["attend"]
    allowed = trace.charts[0].series["block"] > 0
    rows = np.stack([trace.rows.row(0, 0, query) for query in range(trace.canvas.size)])
    assert rows[~allowed].max() < 1e-6 and abs(rows.sum(1) - 1).max() < 0.05
    assert not np.array_equal(allowed, np.tril(np.ones_like(allowed))), "a causal triangle would be another mask"


def test_ranks_count_from_one_and_a_trained_eye_beats_none():
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0]])
    assert rank(logits, torch.tensor([2, 1])).tolist() == [2, 1]


def test_foresight_asks_for_the_token_that_came(reader, source, whole):
    found = foresight(reader, whole, len(source.prompt), 3)
    text = torch.tensor([whole])
    layout = blocks([len(source.prompt) - 1], [3])
    with torch.inference_mode():
        logits = reader.head(behind(reader, text, layout).states)[0]
    targets = text[0, len(source.prompt) + 1: len(source.prompt) + 4]
    assert found.ranks[1, 0].tolist() == rank(logits, targets).tolist()
    assert foresight(reader, whole[: len(source.prompt) + 1], len(source.prompt), 3).ranks.shape == (3, 0, 3)


def test_a_checkpoint_without_masks_is_refused_in_a_sentence(tiny):
    import dataclasses

    from models.engine.method import prepare
    from models.trace.params import ParamError
    job = prepare("mtp-future")
    with pytest.raises(ParamError, match="no trained masks"):
        mtp_future.adapters(dataclasses.replace(job, bundle=dataclasses.replace(job.bundle, name="/own/folder")))


def test_layouts_join_in_order():
    assert [len(part) for part in (reals(3, 2) + blocks([4], [2])).parts] == [4] * 4
    assert mtp_future_layout.blocks([], []).visible(3).shape == (0, 3)


# --- the claim ------------------------------------------------------------------------------------------------------

def test_the_claim_measures_and_states_a_verdict(tiny):
    from models.claims import Lab
    from models.papers.mtp_future import claim
    found = claim.measure(Lab(quick=True))
    assert found.verdict in ("mixed", "does not hold") and "one training" in found.reason
    same = [r for r in found.rows if "identical" in r.name]
    assert len(same) == 6 and all(r.holds for r in same), "two worlds, three modes"


def test_repeated_text_is_left_out():
    from models.papers.mtp_future.claim import Text, first_times
    text = Text([1, 2, 3, 4, 5, 1, 2, 3, 4], [True] * 5 + [False] * 4, 3)
    assert first_times([9, 9, 9], text).tolist() == [True] * 5 + [False] * 3, "1 2 3 4 came before"


def test_an_inexact_mode_is_seen(tiny, monkeypatch):
    from models.papers.mtp_future import claim
    world = claim.sums(3)
    monkeypatch.setattr(mtp_future, "agreed", everything)
    monkeypatch.setattr("models.papers.mtp_future.method.Call.accepted", property(lambda call: len(call.guesses)))
    assert not any(r.holds for r in claim.exact_rows(world, claim.decoded(world, 3)))


def test_the_bases_time_is_not_counted_as_ours(monkeypatch):
    """Timed together, two equal clocks would read half."""
    import time
    from types import SimpleNamespace

    from models.papers.mtp_future import claim
    monkeypatch.setattr(claim, "one_text", lambda *_: time.sleep(0.05))
    monkeypatch.setattr(claim, "alone", lambda *_: time.sleep(0.05) or SimpleNamespace(ms=50.0))
    for found in claim.clock_rows(claim.World("x", None, None, [None] * 3), 3):
        assert 0.75 < found.value < 1.05
