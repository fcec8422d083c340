"""Questions about scenes: exact answers, asked only where one is right, and sets of scenes that do not overlap."""
import numpy as np
import pytest

from models.worlds import questions
from models.worlds.questions import Case, Item, QuestionError, answer, ask, digest, draw, exam, read

SCENE = [Item("red", "circle", 0), Item("red", "ring", 3, 2), Item("blue", "square", 9), Item("blue", "ring", 5)]


@pytest.mark.parametrize("question, right", [
    ("What colour is the circle?", "red"), ("what shape is the small thing ?", "ring"), ("How many red things?", "2"),
    ("how many rings?", "2"), ("how many white things?", "0"),
    ("is the red circle left or right of the blue square?", "left"),
    ("is the red ring left or right of the blue square?", "right"), ("what colour is the square ?", "blue")])
def test_answers(question, right):
    assert answer(SCENE, question) == right


@pytest.mark.parametrize("question", [
    "what colour is the ring?", "what shape is the red thing?", "what shape is the pink thing?", "how many ravens?", "",
    "is the red ring left or right of the white ring?", "is the blue square left or right of the blue ring?"])
def test_a_question_without_one_right_answer_is_refused(question):
    with pytest.raises(QuestionError):
        answer(SCENE, question)


def test_what_is_asked_can_be_answered_in_known_words():
    rng = np.random.default_rng(0)
    for _ in range(300):
        items = questions.sample(rng)
        for kind in questions.KINDS:
            if question := ask(rng, items, kind):
                assert answer(items, question.text) == question.answer in questions.ANSWERS
                assert questions.kind_of(question.text) == kind
                assert set(question.text.split()) <= set(questions.WORDS)


def test_the_picture_shows_the_things_where_they_are():
    picture = draw(SCENE)
    assert picture.shape == (64, 64, 3) and (picture[8, 8] == (213, 94, 0)).all()
    top, left, side = questions.box(SCENE[1])
    assert (top, left, side) == (8, 48, 8)
    covered = questions.mask(SCENE[1])
    assert covered[top : top + side, left : left + side].sum() == covered.sum() > 20
    assert (picture[covered] == (213, 94, 0)).all()


def test_small_sprites_differ():
    small = {questions.mask(Item("red", shape, 0, 0)).tobytes() for shape in questions.SHAPES}
    assert len(small) == len(questions.SHAPES)


def test_a_visitors_words_become_a_placed_scene():
    rng = np.random.default_rng(1)
    items, question = read("Small red circle, blue square. Is the red circle LEFT or right of the blue square", rng)
    assert [item.look for item in items] == ["red circle", "blue square"] and items[0].small and not items[1].small
    assert question.answer == answer(items, question.text)


@pytest.mark.parametrize("text", ["red circle", "red circle.", ". what colour is the circle?", "red. how many rings?",
                                  "red circle, " * 6 + ". how many circles?", "huge red circle. how many circles?",
                                  "small. how many circles?"])
def test_other_words_are_refused_in_one_sentence(text):
    with pytest.raises(QuestionError) as refusal:
        read(text, np.random.default_rng(0))
    assert len(str(refusal.value)) < 240


def test_sets_of_scenes_do_not_overlap():
    calibration = exam(1, 24)
    test = exam(2, 40, calibration)
    assert digest(calibration) == digest(exam(1, 24)) != digest(test)
    met = {tuple(sorted(case.items)) for case in calibration}
    assert not any(tuple(sorted(case.items)) in met for case in test)
    again = exam(1, 24, calibration)  # the same seed, and yet none of its scenes
    assert not any(tuple(sorted(case.items)) in met for case in again)


def test_kinds_come_in_turn():
    assert [case.questions[0].kind for case in exam(3, 7)] == [*questions.KINDS, "colour", "shape"]
    assert isinstance(exam(3, 1)[0], Case)
