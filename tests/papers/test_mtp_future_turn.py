"""Your turn with multi-token prediction: the visitor judges drafts; the model's verdict stands beside theirs."""

from functools import cache

import numpy as np
import pytest

from models.papers.mtp_future.turn import DRAFTS, fact, options, sentence
from models.serving import session, turns
from models.trace.params import ParamError

pytestmark = pytest.mark.usefixtures("one_thread")
ASK = session.Ask("mtp-future", "sample")


@cache
def finished(picks):
    *_, scene = turns.take_picks(ASK, picks)
    return {take.role: take.trace for take in scene.takes}


def test_the_bases_own_verdicts_score_all_points_and_the_text_is_hers_whatever_is_picked(tiny):
    """Mutants: a text that goes on from the visitor's verdict; a score that compares with the wrong draft."""
    first = finished((0,) * DRAFTS)["visitor"]
    base = first.charts[0].series["the base"].astype(int)
    again = finished(tuple(map(int, base)))["visitor"]
    assert again.facts["verdicts"].value == 100 and first.facts["verdicts"].value == 100 * (base == 0).mean()
    assert np.array_equal(first.steps[-1].ids, again.steps[-1].ids)
    shifted = (*map(int, base[1:]), 1 - int(base[0] > 0))
    if shifted != tuple(base):
        assert finished(shifted)["visitor"].facts["verdicts"].value < 100


def test_an_offer_hides_nothing_of_the_draft_and_tells_nothing_of_the_verdict(tiny):
    offered = turns.offer(ASK, ())
    assert offered.labels[0].endswith("none of it") and offered.picks == tuple(range(len(offered.picks)))
    assert all(long.startswith(short) for short, long in zip(offered.labels[1:], offered.labels[2:]))
    later = turns.offer(ASK, (0,))
    assert later.at > offered.at and later.made == 1  # the base has written on
    assert turns.offer(ASK, (0,) * DRAFTS) is None
    assert options(finished((0,) * DRAFTS)["visitor"]) is None


def test_a_linear_layout_offers_only_calls_with_a_draft_and_the_base_alone_is_refused(tiny):
    linear = session.Ask("mtp-future", "sample", params={"way": "linear"})
    assert len(turns.offer(linear, (0, 0)).picks) > 1
    with pytest.raises(ParamError, match="drafts nothing"):
        turns.offer(session.Ask("mtp-future", "sample", params={"way": "plain"}), ())


def test_a_verdict_outside_its_draft_is_refused(tiny):
    with pytest.raises(ParamError, match="number of guesses"):
        finished((9,) * DRAFTS)


def test_words_of_the_score():
    mine, base = np.array([2, 0, 1]), np.array([0, 3, 1])
    assert fact(mine, base).value == pytest.approx(100 / 3) and "2 guesses too many" in sentence(mine, base)
    assert "3 too few" in sentence(mine, base) and "All 3" in sentence(base, base)
