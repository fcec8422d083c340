"""The answer that a retrieval prompt asks for can be read back from the prompt alone."""
import numpy as np
import pytest

from models.worlds import retrieval

FILLER = ["The old mill stood still.", "Nobody came that day, not even the miller.", "It rained for an hour."] * 20


@pytest.mark.parametrize("kind", retrieval.KINDS)
def test_truth_is_the_answer_and_points_at_the_gold_line(kind):
    rng = np.random.default_rng(3)
    for split in ("train", "test"):
        for _ in range(40):
            task = retrieval.task(rng, kind, int(rng.integers(300, 2500)), FILLER, split)
            answer, (first, last) = retrieval.truth(task.prompt)
            assert answer == task.answer.strip().rstrip(".")
            assert task.gold[0] <= first < last <= task.gold[1]


def test_other_prompts_have_no_truth():
    assert retrieval.truth("Once upon a time") is None
    assert retrieval.truth("blue fox: 12\n\nQuestion: What is the number of the red owl? Answer:") is None


def test_an_answer_that_is_begun_is_still_asked_for():
    text = "The secret number of the lighthouse is 5283. The sea is salt.\n\n" \
           "Question: What is the secret number of the lighthouse? Answer:"
    begun = text + " The secret number of the lighthouse is"
    assert retrieval.truth(begun) == retrieval.truth(text) and retrieval.truth(text)[0] == "5283"
    assert retrieval.truth(begun + "? What else?") is None
