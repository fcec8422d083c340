"""Horizon-length prediction: what is left of a gap, who learns it, that it decides nothing; traps beside mutants."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.engine.method import prepare, run
from models.papers.hlp import claim, gaps
from models.papers.hlp import recipe as recipes
from models.papers.hlp.gaps import EOI, MID, OUTSIDE, PRE, SUF, Gap, horizon, lesson
from models.papers.hlp.method import NTP, marked, writing
from models.papers.hlp.network import HorizonLlama
from models.papers.hlp.record import repeated
from models.trace.subject import SubjectError, from_text
from models.worlds import tales
from models.worlds.world import END
from tests.traps import as_, caught, learns, only_these_move

TEXT = from_text("Program: { a = 6; [b = a - a; give] b; } Result: 0.")
GAP = Gap((20, 21, 22, 23, 24, 25, 26), 2, 3)  # 20 21 [22 23 24] 25 26
pytestmark = pytest.mark.usefixtures("one_thread")


def test_all_is_left_at_the_sign_of_the_middle_and_nothing_where_the_end_is_told():
    """Mutants: off by one to either side, words instead of a share, and the end counted as a word."""
    ids, left = (np.array(part) for part in lesson(GAP))
    assert ids.tolist() == [END, PRE, 20, 21, SUF, 25, 26, MID, 22, 23, 24, EOI]
    assert tales.WORLD.tokenizer().encode("<|prefix|><|suffix|><|middle|><|filled|>").ids == [PRE, SUF, MID, EOI]
    within = left != OUTSIDE
    caught(lambda left: (left == [*[OUTSIDE] * 7, 1, 2 / 3, 1 / 3, 0, OUTSIDE]).all(), left, np.roll(left, 1),
           np.roll(left, -1), np.where(within, 3 * left, left), np.where(within, (3 * left + 1) / 4, left))


@pytest.fixture
def arms(tiny):
    made = [kind(0) for kind in (recipes.TaleHLP, recipes.TaleFIM)]
    for one in made:
        one.prepare(None)
        one.rows, one.length = 4, 170
    model = HorizonLlama.on(tiny.fresh("tale-ar-2"))
    torch.nn.init.normal_(model.horizon_head.weight)
    return made, model, made[0].batch(3, 0.0)


def test_both_arms_read_the_same_whole_texts_three_in_four_with_a_gap(arms):
    (ours, control), _, batch = arms
    assert all(torch.equal(one, other) for one, other in zip(batch.values(), control.batch(3, 0.0).values()))
    ours.rows = 60
    ids, left = ours.batch(4, 0.0).values()
    signs = torch.stack([(ids == sign).sum(1) for sign in (PRE, SUF, MID, EOI)])
    assert (signs == signs[0]).all(), "none is torn at the end of a row"
    assert 0.65 < signs[0].sum() / (ids[:, 1:] == END).sum() < 0.85 and torch.equal(left == 1, ids == MID)


def test_the_gauge_learns_inside_gaps_alone(arms, monkeypatch):
    """Mutant: at every place, of plain texts and around the gaps too."""
    (ours, _), model, batch = arms

    def inside(outside: float) -> bool:
        monkeypatch.setattr(recipes, "OUTSIDE", outside)
        far = (model.left(batch["ids"]) - batch["left"]).abs()[batch["left"] >= 0].mean()
        return bool(torch.isclose(ours.loss(model, batch, 0.0)[1]["gauge"], far, atol=1e-4))

    caught(inside, OUTSIDE, 7.0)


def test_what_is_left_changes_the_network_in_one_arm_and_is_read_off_in_the_other(arms, monkeypatch):
    (ours, control), model, batch = arms
    learns(model, lambda net: ours.loss(net, batch, 0.0)[0], rate=1e-2)
    monkeypatch.setattr(recipes, "cross_entropy", lambda logits, *_, **__: 0 * logits.sum())

    for names, right, mutant in ((["horizon_head"], control, ours), (["horizon_head", "model"], ours, control)):
        caught(lambda arm, names=names: only_these_move(model, lambda net: arm.loss(net, batch, 0.0)[0], names), right,
               mutant)


class StopsByGauge(HorizonLlama):
    """Mutant: a gap ends where the gauge says so."""

    def told(self, states):
        logits, left = super().told(states)
        logits[left < 0.5, EOI] = 1e4
        return logits, left


def test_the_gauge_ends_no_gap_and_page_and_claim_write_the_same(tiny):
    job, net = prepare("hlp", TEXT), tiny.fresh(NTP)

    def same(net) -> bool:
        net.horizon_head.bias.data.fill_(-9.0)  # nothing is ever left
        shown = writing(replace(job, bundle=replace(job.bundle, model=net)), marked(job)[0])
        return [one.word for one in shown] == gaps.fill(net, [marked(job)[0]])[0]

    caught(same, net, as_(StopsByGauge, net))


def test_nothing_is_cut_off_to_fit(tiny, monkeypatch):
    """Mutant: what is written behind the true length is thrown away, and with it what is to be seen."""
    net = tiny.fresh(NTP)
    net.lm_head.weight.data[EOI] = 0

    def whole(most: int) -> bool:
        monkeypatch.setattr(gaps, "MOST", most)
        return [len(words) for words in gaps.fill(net, [GAP, GAP._replace(first=1, count=2)])] == [6, 4]

    caught(whole, 2, 1)


def test_the_text_behind_a_gap_stands_behind_its_words_and_the_shares_are_the_true_ones(tiny):
    traces, gap = run("hlp", TEXT, {"longest": 1.0}).traces, marked(prepare("hlp", TEXT))[0]
    ids, words = traces["sample"].steps[-1].ids.tolist(), traces["sample"].canvas.size - len(gap.text) + gap.count
    assert ids[: gap.first] == list(gap.text[: gap.first]) and ids[gap.first + words:] == gap.behind
    shares = traces["sample"].charts[0].series["by what stood there"][:, 1]
    assert np.allclose(shares, horizon(gap.count)[: len(shares)]) and len(shares) == len(traces["sample"].steps) - 1
    assert repeated(GAP, [9, 25, 26]) == 2 and repeated(GAP, [25, 26, 9]) == 0
    for text in ("A happy tale of the sea.", "A [happy] tale of [the] sea.", "A happy [ ] tale."):
        with pytest.raises(SubjectError, match="Please put"):
            run("hlp", from_text(text))


def test_a_clock_says_the_best_that_counting_can_and_ends_are_not_scored():
    learned = [GAP._replace(count=count) for count in (4, 8, 16)]
    assert np.allclose(claim.clock(learned)[[0, 4, 8, 16, 17]], [1, 0.5, 0.25, 0, 0])
    assert claim.inside(np.array([9.0, *horizon(4)[1:-1], 9.0]), learned[0]) == 0
