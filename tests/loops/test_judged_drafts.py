"""Judging drafts: words and score; drafts are offered before anybody knows how they fare, in every method whose drafts
are judged; and what is written is the model's own, whatever is picked."""

from functools import cache

import numpy as np
import pytest

from models.engine.method import atlas
from models.loops.sample.judged_drafts import DRAFTS, PENDING, fact, options, sentence
from models.serving import session, turns
from models.trace import CODE
from models.trace.params import ParamError

GAMES = [id for id, method in atlas().items() if method.turn is not None and method.turn.options is options]
pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def judged(id, picks):
    """The visitor's record."""
    *_, scene = turns.take_picks(session.Ask(id, "sample"), picks)
    return next(take.trace for take in scene.takes if take.role == "visitor")


def test_words_of_the_score():
    mine, base = np.array([2, 0, 1]), np.array([0, 3, 1])
    assert fact(mine, base).value == pytest.approx(100 / 3) and "2 guesses too many" in sentence(mine, base)
    assert "3 too few" in sentence(mine, base) and "All 3" in sentence(base, base)


@pytest.mark.parametrize("id", GAMES)
def test_an_offer_hides_nothing_of_the_draft_and_goes_on(id, tiny):
    ask = session.Ask(id, "sample")
    offered, later = turns.offer(ask, ()), turns.offer(ask, (0,))
    last = offered.trace.steps[-1]
    assert last.label.startswith(PENDING) and len(offered.picks) == len(last.where("new")) + 1
    assert offered.picks == tuple(range(len(offered.picks))) and offered.labels[0].endswith("none of it")
    if offered.trace.canvas.kind == "text":
        assert all(long.startswith(short) for short, long in zip(offered.labels[1:], offered.labels[2:]))
    assert later.at > offered.at and later.made == 1  # the model has written on
    assert turns.offer(ask, (0,) * DRAFTS) is None and options(judged(id, (0,) * DRAFTS)) is None


@pytest.mark.parametrize("id", ["speculative", "lantern"])
def test_a_pictures_offer_tells_nothing_of_the_verdict(id, tiny):
    """What stands where is the round before and the drafts; what the round made of them comes with the next step."""
    ask = session.Ask(id, "sample")
    offered = turns.offer(ask, (0,))
    last = offered.trace.steps[-1]
    draft = last.where("new")
    assert offered.at == draft[0]
    later = turns.offer(ask, (0, 0)).trace.steps[len(offered.trace.steps) - 1]
    assert np.array_equal(later.ids[draft], last.ids[draft]), "the drafts that are judged are those that were offered"
    standing = np.setdiff1d(np.flatnonzero(last.ids >= 0), draft)
    assert (standing < draft[0]).all() and np.isin(last.state[standing], [CODE["accepted"], CODE["merged"],
                                                                          CODE["known"]]).all()


@pytest.mark.parametrize("id", ["speculative", "mtp-future"])
def test_the_models_own_verdicts_score_all_points_and_what_is_written_is_hers(id, tiny):
    """Mutants: a text that goes on from the visitor's verdict; a score that compares with another draft."""
    first = judged(id, (0,) * DRAFTS)
    own = tuple(first.charts[0].series["the model"].astype(int).tolist())
    again, late = judged(id, own), (0, *own[:-1])
    assert again.facts["verdicts"].value == 100
    assert first.facts["verdicts"].value == 100 * own.count(0) / DRAFTS
    assert np.array_equal(first.steps[-1].ids, again.steps[-1].ids)
    assert late == own or judged(id, late).facts["verdicts"].value < 100


@pytest.mark.parametrize("id", GAMES)
def test_a_verdict_stays_inside_its_draft(id, tiny):
    with pytest.raises(ParamError, match="number of guesses"):
        judged(id, (9,) * DRAFTS)
