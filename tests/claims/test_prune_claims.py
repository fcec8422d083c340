"""The tab's claims run on tiny weights, and their questions and judgements are sound."""
import numpy as np
import pytest

from models.claims import Lab, stamped
from models.claims.prune_lab import Answered, difference, exam, haystack, pairs, questions, right, two_questions
from models.engine.method import find
from models.worlds import retrieval


@pytest.mark.parametrize("id", ["random-keep", "top-attention", "lazyllm", "vflowopt"])
def test_claims_can_be_measured(id, tiny):
    claim = stamped(find(id), Lab(quick=True))
    assert claim.method == id and claim.rows and claim.control and claim.checkpoint
    assert all(np.isfinite(r.value) for r in claim.rows)


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


def test_right_needs_the_right_answer(tiny):
    from models.papers.lazyllm import method as lazyllm
    from models.papers.lazyllm.claim import full
    asked = pairs(questions(2))
    assert not any(a.right for a in exam(lazyllm.METHOD, asked, full)), "random weights cannot know a number"


def test_a_difference_is_paired():
    good, bad = Answered(True, 1, 1, True), Answered(False, 1, 1, True)
    up = difference("", [good] * 8 + [bad] * 2, [bad] * 10, 5)
    assert up.value == 80 and up.holds and right([good, bad]).tolist() == [100, 0]
    assert not difference("", [good, bad] * 3, [bad, good] * 3, 5).holds
    unsure = difference("", [good] + [bad] * 9, [bad] * 10, 5)
    assert unsure.value == 10 and not unsure.holds, "a gain whose interval reaches zero does not hold"
    assert difference("", [good] * 99 + [bad], [good] * 100, -2).holds
