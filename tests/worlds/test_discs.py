"""Boards of discs in words: the judge takes what was told, in its order, and nothing else."""
import numpy as np
import pytest

from models.worlds import discs
from models.worlds.boards import FlatBoard
from models.worlds.world import drawn, exam

TOLD = "told red b2 blue c1"


@pytest.mark.parametrize(("said", "right"), {
    "tell red b2 blue c1 .": True, "tell red b2 blue c1 . ask": True, "tell red b2 .": False,
    "tell blue c1 red b2 .": False, "tell red b2 green c1 .": False, "tell red b2 blue c1 red a1 .": False,
    "tell red b2 blue c1": False, "ask c1 blue": True, "ask c1 blue a3 red": True, "ask c1 red": False,
    "ask a3 red": True, "ask a3 b2": False, "tell": False}.items())
def test_only_what_was_told_is_told_on_and_answered(said, right):
    assert discs.check(f"{TOLD} {said}") is right


def test_documents_are_right_and_those_that_are_kept_out_are_never_drawn():
    rng = np.random.default_rng(0)
    for doc in [drawn(discs.WORLD, rng) for _ in range(200)] + exam(discs.WORLD, 3, 50):
        assert discs.check(doc.text) and not discs.check(doc.text.replace("tell", "say").replace("ask", "say"))
    known = discs.boards(5, 300)
    assert len(set(known)) == 300 and not set(known) & {discs.board(rng) for _ in range(300)}


def test_every_word_is_one_token_and_those_of_messages_stand_together():
    ids = discs.WORLD.tokenizer().encode(" ".join(discs.SAID)).ids
    assert ids == list(range(discs.FIRST, discs.FIRST + 16))


def test_a_visitors_board_is_read_in_any_order_and_refused_with_a_sentence():
    board = discs.boards(7, 1)[0]
    words = discs.told(board, reversed(range(discs.FIELDS)))
    assert discs.read(words.title().replace(" C", ", c")) == board == discs.read(discs.told(board))
    for text, says in ((words[:-3], "a fact is|has none yet"), (words + " red a1", "told twice"), ("pink a1", "a fact"),
                       (discs.told(board, range(11)), "d3 has none yet")):
        with pytest.raises(ValueError, match=says):
            discs.read(text)


def test_what_is_known_is_a_bound_that_sure_mistakes_lower():
    board = discs.boards(3, 1)[0]
    even, sure = np.full((discs.FIELDS, discs.LOOKS), 0.25), np.eye(discs.LOOKS)[list(board)]
    assert discs.known(even, board).sum() == 0 and discs.known(sure, board).sum() == discs.BITS
    assert discs.known(np.roll(sure, 1, -1), board).sum() < -100
    mixed = np.concatenate([sure[:1], np.roll(sure, 1, -1)[1:2], even[2:]])
    assert [rows.nonzero()[0].tolist() for rows in discs.believed(mixed, board)] == [[0], [1]]
    pictures = [FlatBoard(3, 4) for _ in range(2)]
    for picture, seen in zip(pictures, (even, sure), strict=True):
        discs.paint(picture, range(discs.FIELDS), seen)
    few, many = ((picture.picture() != FlatBoard(3, 4).picture()).sum() for picture in pictures)
    assert 0 < few < many, "who is sure sees large discs"
