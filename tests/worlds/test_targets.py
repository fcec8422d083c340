"""Reach-the-target puzzles: the judge takes any way that hits, and every word of a thought can be checked."""
import numpy as np
import pytest

from models.worlds import targets
from models.worlds.targets import Puzzle, check, sound
from models.worlds.world import drawn, held_out
from tests.traps import caught

ASKED = "7 5 3 9 2 to 4 :"  # 7 + 5 + 3 - 9 - 2
RIGHT = "+ 12 + 15 - 6 - 4 hit answer + + - -"
THOUGHTS = {"a dead way first": f"+ 12 + 15 + 24 back {RIGHT}", "no thought": "hit answer + + - -"}


@pytest.mark.parametrize("name", THOUGHTS)
def test_any_way_that_hits_is_right(name):
    assert check(f"{ASKED} {THOUGHTS[name]}") and check(f"{ASKED} {RIGHT} <|endoftext|>")
    assert sound(f"{ASKED} {THOUGHTS[name]}") == (name != "no thought")


@pytest.mark.parametrize("said", [
    RIGHT.replace("answer + + - -", "answer + + - +"), RIGHT + " +", RIGHT[:-2], RIGHT.split(" answer")[0],
    "answer + + - 2", "", "hit answer - answer + + - -"])
def test_what_misses_is_wrong(said):
    assert not check(f"{ASKED} {said}") and not sound(f"{ASKED} {said}")


@pytest.mark.parametrize("said", [
    RIGHT.replace("12", "13"), f"+ 12 back {RIGHT}", RIGHT.replace("- 4 hit", "- 4"), f"+ 12 + 15 + 24 {RIGHT}",
    f"+ 12 + 15 - 6 + 8 hit {RIGHT}"])
def test_a_thought_with_an_untrue_word_is_not_sound(said):
    """A slip, a way that was not dead, no "hit", a sign too many, a hit that missed; the answer is right."""
    assert check(f"{ASKED} {said}")
    caught(sound, f"{ASKED} {RIGHT}", f"{ASKED} {said}")


def test_a_way_is_dead_as_soon_as_the_rest_cannot_reach():
    asked = Puzzle((7, 5, 3, 9, 2), 4)
    caught(lambda dead: dead("++") is False and dead("+++") is True and dead("++--") is False and dead("++-+") is True,
           asked.dead, lambda way: asked.totals(way)[-1] != asked.target,  # only a miss at the end, or at once
           lambda way: len(way) == 4 and not asked.hits(tuple(way)))
    assert asked.solutions == [tuple("++--")]


def test_every_document_is_right_and_every_thought_sound():
    rng = np.random.default_rng(0)
    docs = [drawn(targets.WORLD, rng) for _ in range(400)]
    assert all(check(doc.text) and doc.truth.target >= 0 for doc in docs)
    assert all(sound(doc.text) == ("hit" in doc.text) for doc in docs)
    dead = [doc.text.count("back") for doc in docs if "hit" in doc.text]
    assert 0.5 < len(dead) / len(docs) < 0.7
    assert set(dead) == set(range(targets.MOST_DEAD + 1)) and 1.2 < np.mean(dead) < 1.8
    known = {*targets.WORDS}
    assert all(set(doc.text.split()) <= known for doc in docs) and not any(held_out(doc.prompt) for doc in docs)


@pytest.mark.parametrize("text", ["Once upon a time.", "7 5 3 to 4 :", "7 5 3 9 2 to 4", "7 5 3 9 20 to 4 :",
                                  "7 5 3 9 2 4 :", "7 5 3 9 x to 4 :", ""])
def test_other_texts_are_no_puzzles(text):
    with pytest.raises(ValueError, match="A puzzle is 5 numbers"):
        check(text)
