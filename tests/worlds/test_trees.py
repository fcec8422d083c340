"""Expression trees: every reduction can be checked, in any order; what is no expression is refused."""
import numpy as np
import pytest

from models.worlds import trees
from models.worlds.trees import Tree, apply, check, parsed, read
from models.worlds.world import World, drawn
from tests.traps import caught

ASKED = read("(12 + 9) - 3 * 9")  # a: 12 + 9 = 1, b: 3 * 9 = 7, c: a - b = 14
WORLD = World(trees.WORDS, trees.chain, check)


def test_operations_stand_before_those_that_work_on_them():
    assert ASKED.prompt == "@node #0 problem a: 12 + 9 b: 3 * 9 c: a - b ;"
    assert ASKED.values == {"a": 1, "b": 7, "c": 14} and ASKED.answer == 14
    assert parsed(ASKED.prompt).values == ASKED.values and ASKED.infix() == "(12 + 9) - (3 * 9)"
    assert ASKED.ready({}) == ["a", "b"] and ASKED.ready({"a": 1}) == ["b"] and ASKED.ready(ASKED.values) == []


@pytest.mark.parametrize("expression", ["19 - 5 + 8 - 16", "7 * (15 - (4 + 18))", "(6 + 17) * (11 - 13)", "1*2+3*4"])
def test_values_are_what_python_makes_of_the_expression(expression):
    """Mutant: from left to right without brackets or precedence."""
    def flat(text):
        words = text.translate({40: None, 41: None}).replace("*", " * ").replace("+", " + ").split()
        value = int(words[0])
        for sign, number in zip(words[1::2], words[2::2]):
            value = apply(value, sign, int(number))
        return value
    assert read(expression).answer == eval(expression) % trees.SIZE == eval(read(expression).infix()) % trees.SIZE
    if expression.startswith("7"):
        caught(lambda f: f(expression) == eval(expression) % trees.SIZE, lambda text: read(text).answer, flat)


@pytest.mark.parametrize("said, known, right", [
    ("a: 12 + 9 = 1", {}, True), ("a: 12 + 9 = 2", {}, False), ("a: 12 + 8 = 0", {}, False), ("", {}, False),
    ("c: 1 - 7 = 14", {}, False), ("c: 1 - 7 = 14", {"a": 1, "b": 7}, True), ("d: 1 + 1 = 2", {}, False),
    ("c: 2 - 7 = 15", {"a": 2, "b": 7}, True), ("c: 1 - 7 = 14", {"a": 2, "b": 7}, False),
    ("a: 12 + 9 = 1 ;", {}, False)])
def test_a_reduction_is_judged_on_what_is_known(said, known, right):
    assert ASKED.true(said, known) is right


def test_the_answer_of_a_text_is_judged_by_its_own_tree():
    right = f"{ASKED.prompt} a: 12 + 9 = 1 answer 14"
    caught(check, right, right.replace("answer 14", "answer 4"), ASKED.prompt, right.replace("9 b", "8 b"))


def test_every_document_is_right_and_reductions_come_in_any_order():
    rng = np.random.default_rng(0)
    docs = [drawn(WORLD, rng) for _ in range(300)]
    assert all(check(doc.text) for doc in docs)
    orders = {tuple(word for word in doc.pieces[1].split() if word.endswith(":")) for doc in docs}
    assert len(orders) > 1 and all(order[-1] == "c:" for order in orders), "the whole comes last"
    assert {word for doc in docs for word in doc.text.split()} <= {*trees.WORDS}
    operands = [[side for one in doc.truth.operations.values() for side in one[::2]] for doc in docs]
    shapes = {tuple(side in trees.LETTERS for side in sides) for sides in operands}
    assert len(shapes) == 5, "every one of three operations"


@pytest.mark.parametrize("text", [
    "", "Once upon a time.", "1 + 2 + 3", "1 + 2 + 3 + 4 + 5", "20 + 1 + 2 + 3", "-1 + 2 + 3 + 4", "1 / 2 + 3 - 4",
    "a + 1 + 2 + 3", "f(1) + 2 + 3", "((((1", "1.5 + 2 + 3 + 4", "True + 1 + 2 + 3", "(" * 500, "1 + 2; 3 + 4",
    "9" * 5000 + " + 1 + 2 + 3", "\0"])
def test_other_texts_are_no_expressions(text):
    with pytest.raises(ValueError, match="An expression has 3 operations"):
        read(text)
    with pytest.raises(ValueError, match="A problem begins like"):
        parsed(text)


def test_a_tree_of_other_operations_has_other_values():
    assert Tree({**ASKED.operations, "a": trees.Operation("12", "-", "9")}).answer == 16
