"""Judging drafts: words and score, and that a picture's drafts are offered before anybody knows how they fare."""

import numpy as np
import pytest

from models.loops.sample.judged_drafts import DRAFTS, PENDING, fact, sentence
from models.serving import session, turns
from models.trace import CODE

pytestmark = pytest.mark.usefixtures("one_thread")


def test_words_of_the_score():
    mine, base = np.array([2, 0, 1]), np.array([0, 3, 1])
    assert fact(mine, base).value == pytest.approx(100 / 3) and "2 guesses too many" in sentence(mine, base)
    assert "3 too few" in sentence(mine, base) and "All 3" in sentence(base, base)


@pytest.mark.parametrize("id", ["speculative", "lantern"])
def test_an_offer_shows_the_drafts_and_nothing_of_the_verdict(id, tiny):
    """What stands where is the round before and the drafts; what the round made of them comes with the next step."""
    ask = session.Ask(id, "sample")
    offered = turns.offer(ask, (0,))
    *_, before, last = offered.trace.steps
    draft = last.where("new")
    assert last.label.startswith(PENDING) and offered.at == draft[0] and len(offered.picks) == len(draft) + 1
    later = turns.offer(ask, (0, 0)).trace.steps[len(offered.trace.steps) - 1]
    assert np.array_equal(later.ids[draft], last.ids[draft]), "the drafts that are judged are those that were offered"
    standing = np.setdiff1d(np.flatnonzero(last.ids >= 0), draft)
    assert (standing < draft[0]).all() and np.isin(last.state[standing], [CODE["accepted"], CODE["merged"],
                                                                          CODE["known"]]).all()


def test_the_models_own_verdicts_score_all_points(tiny):
    """Mutant: a score that compares with the round before."""
    ask = session.Ask("speculative", "sample")

    def score(picks):
        *_, scene = turns.take_picks(ask, picks)
        trace = next(take.trace for take in scene.takes if take.role == "visitor")
        return trace.facts["verdicts"].value, trace.charts[0].series["the model"].astype(int).tolist()

    _, own = score((0,) * DRAFTS)
    assert score(tuple(own))[0] == 100
    late = (0, *own[:-1])
    assert late == tuple(own) or score(late)[0] < 100
