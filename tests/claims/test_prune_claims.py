"""The tab's claims run on tiny weights, and their questions and judgements are sound."""
import pytest

from models.claims.prune_lab import (
    SEEDS,
    USUAL,
    VALIDATION,
    exam,
    full,
    haystack,
    pairs,
    questions,
    two_questions,
)
from models.papers.lazyllm import method as lazyllm
from models.papers.lazyllm.sweep import PLACES, WORK, even, rates, work
from models.worlds import retrieval
from tests.traps import caught


def test_questions_have_names_never_trained_on_and_one_truth():
    tasks = questions(18)
    assert len({task.prompt for task in tasks}) == 18
    assert {task.kind for task in questions(9, retrieval.KINDS)} == set(retrieval.KINDS)
    for task in tasks:
        answer, _ = retrieval.truth(task.prompt)
        assert answer == task.answer.strip(" .")
    assert len(haystack()) > 30 and not any("secret number" in s for s in haystack())
    for prompt, answer in two_questions(6):
        assert prompt.count("Answer:") == 2 and retrieval.truth(prompt)[0] == answer.strip(" .")


def test_cuts_are_chosen_on_questions_that_are_not_scored():
    """The mutant chooses on the first of the scored ones."""
    scored = {task.prompt for task in questions(12)}
    caught(lambda *seeds: not scored & {task.prompt for task in questions(12, seeds=seeds)}, VALIDATION, SEEDS)


def test_the_sweep_compares_cuts_at_equal_work():
    share = {places: work(even(places)) for places in PLACES}
    assert all(abs(found - WORK) < 1e-4 for found in share.values())
    assert work(rates((3, 5), 0.5)) != pytest.approx(work(rates((3,), 0.5))), "the mutant: one rate for all sets"


def test_right_needs_the_right_answer_and_work_is_counted(tiny):
    asked = pairs(questions(2))
    whole, cut = exam(lazyllm.METHOD, asked, full), exam(lazyllm.METHOD, asked, lazyllm.policy, USUAL)
    assert not whole.hits.any(), "random weights cannot know a number"
    assert whole.share.tolist() == [100, 100] and (cut.share < 80).all() and not cut.twice.any()
    assert (cut.total > cut.share).all(), "what comes back is computed then"
