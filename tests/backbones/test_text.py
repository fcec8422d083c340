"""Pieces of text tokens are exact and complete, and too long texts are refused."""
import pytest

from models.backbones.text import encode, pieces
from models.trace.subject import SubjectError
from tests.tiny import text_tokenizer


def test_pieces_are_exact_and_split_characters_are_shown_as_bytes():
    tokenizer = text_tokenizer()
    plain = "The hen, 3 plus 4.\n\n  End"
    assert "".join(pieces(tokenizer, encode(tokenizer, plain, 99))) == plain
    shown = pieces(tokenizer, encode(tokenizer, "é€", 99))
    assert " ".join(shown).replace("> <", " ") == "<C3 A9 E2 82 AC>"


def test_a_text_that_does_not_fit_is_refused():
    with pytest.raises(SubjectError, match="room for 3"):
        encode(text_tokenizer(), "one two three four five", 3)
