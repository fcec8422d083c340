"""How tokens read: labels join back to the text for every kind of tokenizer, special tokens are marked, what the
tokenizer adds is kept, split characters are read whole, and too long texts are refused."""
import unicodedata

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from models.backbones.text import encode, names, opening, read, written
from models.trace.spelling import PART, joined, spelled
from models.trace.subject import SubjectError
from tests import tokenizer_kinds
from tests.tokenizer_kinds import KINDS

SCRIPTS = ["the", "unbelievable", "sea", " ", "  ", "\n", "\n\n", "\t", ".", "7", "Müller", "e\u0301", "o\u0308\u0323",
           "東京", "海の上", "한국", "😀", "👩‍👩‍👧", "🇩🇪", "👍🏽", "שלום", "مرحبا",
           "ﷺ", "ﬁ", "Ⅷ", "½", "\u3000", "\u00a0", "\u200b", "\ufeff",
           "\u202e", "\ufffd", "</s>", "<s>", "<|endoftext|>", "[MASK]", "[UNK]", "<unk>", "<0xF0>", "<F0>", "Ġ", "▁",
           "##ing", "</w>", "İ", "ß", "\U0010ffff"]
TEXTS = st.one_of(st.lists(st.sampled_from(SCRIPTS), min_size=1, max_size=12).map("".join),
                  st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
LOSSLESS = ("byte-level", "llama", "llama, ends")


def taken(kind: str, text: str):
    tokenizer = KINDS[kind]()
    try:
        return tokenizer, read(tokenizer, text)
    except SubjectError:
        assert not len(tokenizer(text, add_special_tokens=False)["input_ids"])
        assume(False)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
@example("the unbelievable sea 🎉")
@example("unbelievable\n東京\r\n")
@example("Müller 😀")
def test_labels_join_back_to_the_text(kind, text):
    tokenizer, found = taken(kind, text)
    assert "".join(label for label, role in zip(found.labels, found.roles) if role != "added") == text
    assert list(found.ids) == tokenizer(text)["input_ids"]  # what the tokenizer adds is kept
    own = [span for span, role in zip(found.spans, found.roles) if role != "added"]
    assert [a for a, _ in own] == [0, *(b for _, b in own[:-1])] and own[-1][1] == len(text)


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_tokens_in_a_row_read_as_their_decoder_writes_them(kind, text):
    tokenizer, found = taken(kind, text)
    assume("\ufffd" not in text)
    ids = [id for id, role in zip(found.ids, found.roles) if role != "added"]
    whole = tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False)
    assert "".join(written(tokenizer, ids)) in (whole, "" if kind == "byte-level" else " " + whole)
    if kind == "byte-level":  # nothing is normalised: offsets and decoder must say the same of every token
        assert written(tokenizer, ids) == found.labels


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_a_label_holds_what_its_token_reads(kind, text):
    """Mutants: a label moved by one token; a dropped accent given to the word behind it."""
    assume(unicodedata.normalize("NFKC", text) == text)  # one character may become two
    tokenizer, found = taken(kind, text)
    for id, label, role in zip(found.ids, found.labels, found.roles):
        name = names(tokenizer, [id])[0].strip()
        if name.isascii() and name.isalnum() and not role and label.isascii():
            assert name.lower() in label.lower()


@pytest.mark.parametrize("kind, typed", [
    ("byte-level", "<|endoftext|>"), ("llama", "</s>"), ("llama", "<s>"), ("llama", "<unk>"), ("unigram", "</s>"),
    ("wordpiece", "[MASK]"), ("wordpiece", "[UNK]"), ("words", "<|endoftext|>")])
def test_special_tokens_are_marked_and_typed_ones_too(kind, typed):
    found = read(KINDS[kind](), f"the {typed} sea")
    marked = [(label.strip(), role) for label, role in zip(found.labels, found.roles) if role not in ("", "added")]
    assert marked in ([(typed, "special")], [(typed, "special"), ("", "special")])
    plain = read(KINDS[kind](), "the sea")
    assert not set(plain.roles) - {"", "added"}


def test_text_that_only_looks_special_is_text():
    assert set(read(tokenizer_kinds.byte_level(), "</s> <F0> <0xF0> [MASK]").roles) == {""}
    assert read(tokenizer_kinds.llama(), "<0xF0>").labels[1:] != ("<F0>",)


def test_what_the_tokenizer_adds_is_kept_and_marked():
    found = read(tokenizer_kinds.llama("<s> $A </s>"), "the sea")
    assert found.labels == ("<s>", "the", " sea", "</s>") and found.roles == ("added", "", "", "added")
    assert found.before_more().labels == ("<s>", "the", " sea")  # a text that goes on has not ended
    assert opening(tokenizer_kinds.llama()) == (1,) and opening(tokenizer_kinds.byte_level()) == ()
    assert read(tokenizer_kinds.wordpiece(), "the sea").labels == ("[CLS]", "the", " sea", "[SEP]")


def test_words_that_the_vocabulary_lacks_are_marked():
    found = read(tokenizer_kinds.words(), "the  blue sea.")
    assert found.labels == ("the", "  blue", " sea", ".") and found.roles == ("", "unknown", "", "")


def test_capitals_accents_and_spaces_that_a_tokenizer_drops_are_in_the_labels():
    found = read(tokenizer_kinds.wordpiece(), "  The SE\u0301A,\n\tthe\u200b hen  ")
    assert "".join(found.labels[1:-1]) == "  The SE\u0301A,\n\tthe\u200b hen  "
    assert found.labels[1] == "  The" and found.labels[-2].endswith("  ")


def test_a_split_character_stands_at_its_first_token():
    for tokenizer, first in ((tokenizer_kinds.byte_level(), 0), (tokenizer_kinds.llama(), 2)):
        found = read(tokenizer, "😀the")
        assert found.labels[first: first + 4] == ("😀", "", "", "") and "the" in "".join(found.labels[first + 4:])
    assert read(tokenizer_kinds.llama(), "東").labels == ("<s>", "", "東", "", "")  # its own space stands for nothing


def test_candidates_are_named_by_the_decoder():
    """Mutants: a letter of the vocabulary shown; the first-token rule of a decoder used for one in the middle."""
    spm, bpe, bert = tokenizer_kinds.llama(), tokenizer_kinds.byte_level(), tokenizer_kinds.wordpiece()
    assert names(spm, spm.convert_tokens_to_ids(["▁the", "th", "▁", "<0xF0>", "<0x41>", "</s>"])) == (
        " the", "th", " ", "<F0>", "A", "</s>")
    assert names(bpe, bpe("the the\n", add_special_tokens=False)["input_ids"]) == ("the", " the", "\n")
    assert names(bpe, bpe("😀")["input_ids"]) == ("<F0>", "<9F>", "<98>", "<80>")
    joint = next(t for t in bert.get_vocab() if t.startswith("##"))
    assert names(bert, bert.convert_tokens_to_ids(["the", joint])) == (" the", joint[2:])
    assert names(tokenizer_kinds.words(), [2, 5, 0]) == (" the", ",", "<|endoftext|>")
    assert names(bpe, [9_999]) == ("<no token 9999>",)
    ends = tokenizer_kinds.suffixed()
    assert names(ends, ends.convert_tokens_to_ids(["the</w>", "t"])) == ("the ", "t")


@given(st.lists(st.binary(max_size=5), max_size=8))
def test_bytes_in_a_row_read_as_their_characters(pieces):
    alone = [spelled(piece) for piece in pieces]
    assume(not any(PART.search(piece.decode("utf-8", "ignore")) for piece in pieces))
    assert "".join(joined(alone)) == spelled(b"".join(pieces)) or "><" in "".join(joined(alone))
    assert joined([spelled(bytes([byte])) for byte in "aé😀".encode()]) == ("a", "é", "", "😀", "", "", "")


def test_a_character_that_is_not_finished_keeps_its_bytes():
    assert joined(["a", "<F0 9F>", "b"]) == ("a", "<F0 9F>", "b")
    assert joined(["x<F0>", "<9F 98 80>y<E2>"]) == ("x😀", "y<E2>")


def test_a_text_that_does_not_fit_is_refused():
    with pytest.raises(SubjectError, match="room for 3"):
        encode(tokenizer_kinds.byte_level(), "one two three four five", 3)


def test_a_text_without_a_token_is_refused():
    with pytest.raises(SubjectError, match="no token"):
        read(tokenizer_kinds.wordpiece(), "\u200b")
