"""The proof of byte-level on a chain whose answer is known, and the traps of covers, each beside its mutant."""

import itertools
import math

import pytest
import torch

from models.papers.byte_level.byte_vocabulary import Coder, coder_of, split
from models.papers.byte_level.bytereader import healing, naive
from models.papers.byte_level.cover_encodings import advance, enumerate_covers, next_symbols, settle
from models.papers.byte_level.toy_markov import CHAIN, CODER, PIECES, begins, behind, chance, encode, score
from tests.tiny import text_tokenizer

A, B = ord("a"), ord("b")
PROMPTS = ["".join(p) for n in (1, 2, 3, 4, 5) for p in itertools.product("ab", repeat=n)]


def next_letter(prompt: str) -> torch.Tensor:
    data = prompt.encode()
    covers = enumerate_covers(CODER, score, data)
    return next_symbols(CODER, covers, behind)[0]


def test_two_steps_of_lookahead_settle_the_encoding():
    for prompt in PROMPTS[:12]:
        ids = encode(prompt.encode())
        assert begins(ids, 3) == pytest.approx(begins(ids, 5), abs=1e-14)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_exact_is_the_chain_to_ten_digits(prompt):
    found = next_letter(prompt)
    for letter, code in (("a", A), ("b", B)):
        assert abs(float(found[code]) - CHAIN[prompt[-1]][letter]) < 1e-10


def test_naive_prompting_is_wrong_where_the_prompt_ends_in_a():
    class Path:  # what `naive` and `healing` look at
        def __init__(self, data):
            self.ids, self.rows = encode(data), score([encode(data)])[0]
    wrong = naive(CODER, Path(b"bba"))
    assert float(wrong[B]) == 0.0 and CHAIN["a"]["b"] == 0.7, "a lone token a is never followed by b: it would be ab"
    healed = healing(CODER, Path(b"ba"))
    assert abs(float(healed[B]) - 0.7) < 1e-10, "healing is right when the covers differ in the last token only"


def test_the_lemma_holds_and_a_sum_over_all_segmentations_does_not():
    for prompt in PROMPTS:
        data = prompt.encode()
        assert math.exp(enumerate_covers(CODER, score, data).total) == pytest.approx(chance(prompt), abs=1e-12)
    # mutant: drop validity, so that every segmentation that covers the prompt is counted
    lax = Coder(CODER.pieces, encode)
    lax.__dict__["followers"] = lambda query: {ids: torch.ones(len(PIECES), dtype=torch.bool)
                                               for ids in segmentations(query)}
    def marginal(rows):  # a token model that, like a trained one, leaves a little mass on invalid sequences
        return [((row.exp() + 0.01) / (row.exp() + 0.01).sum(-1, keepdim=True)).log() for row in score(rows)]
    strict = enumerate_covers(CODER, marginal, b"abab").total
    assert abs(enumerate_covers(lax, marginal, b"abab").total - strict) > 1e-3


def test_bytes_step_by_step_agree_with_covers_found_afresh():
    for prompt in ("abbaab", "aaabab", "bababb"):
        covers = enumerate_covers(CODER, score, prompt[:1].encode())
        for k in range(1, len(prompt)):
            covers = advance(CODER, covers, ord(prompt[k]), behind)
            fresh = enumerate_covers(CODER, score, prompt[: k + 1].encode())
            assert covers.total == pytest.approx(fresh.total, abs=1e-10)
            assert sorted(map(covers.tokens, range(len(covers)))) == sorted(map(fresh.tokens, range(len(fresh))))


def test_the_encoding_is_found_again_after_it_merged_across_the_cut():
    covers = enumerate_covers(CODER, score, b"a")
    grown = advance(CODER, covers, B, behind)
    assert list(grown.complete(CODER)) == [encode(b"ab")] == [(2,)]
    assert encode(b"ab")[:1] != encode(b"a"), "mutant: appending to enc(x) would look for (a, b)"
    with pytest.raises(AssertionError):
        type(grown)(grown.query, grown.lefts, grown.group[:0], grown.last[:0], grown.inside[:0],
                    grown.logp[:0]).complete(CODER)


@pytest.fixture(scope="module")
def bpe():
    return coder_of(text_tokenizer())


@pytest.mark.parametrize("text", ["The hen.", " The  hen\n\n said", "\u00e9t\u00e9 \u20ac", "we'll 3 plus 4", "\ufffd"])
def test_bytes_go_round_trip_with_every_space(bpe, text):
    data = text.encode()
    assert bpe.decode(bpe.encode(data)) == data
    for k in range(1, len(data)):  # torn characters too
        assert bpe.decode(bpe.encode(data[:k])) == data[:k]
    assert bpe.encode(b" hen") != bpe.encode(b"hen"), "a lost or added leading space would change the covers"


def test_a_typed_special_token_is_text(bpe):
    assert len(bpe.encode(b"<|endoftext|>")) > 1 and bpe.decode(bpe.encode(b"<|endoftext|>")) == b"<|endoftext|>"


@pytest.mark.parametrize("query", [b" he", b" ", b"The", b"he", b"\n", b" hen'", b" 3", b"", b"  ", b" \xc3"])
def test_the_mask_of_all_tokens_is_what_encoding_one_by_one_says(bpe, query):
    found, before = bpe.followers(query), bpe.encode(query)
    for token, piece in enumerate(bpe.pieces):
        if piece and _text(query + piece) and not piece.isspace():
            alone = bpe.encode(query + piece)
            for left in {before, alone[:-1]}:
                allowed = left in found and bool(found[left][token])
                assert allowed == (alone == (*left, token)), (query, piece)


def test_white_space_may_be_encoded_in_two_ways(bpe):
    """GPT-2's pre-tokenizer splits white space before a letter: the encoding of what was read may change."""
    both = bpe.encode(b"\n\n")
    assert len(both) == 1 and len(bpe.encode(b"\n\nOnce")) > 2, "this vocabulary has a token of two line breaks"
    found = bpe.followers(b"\n\n")
    apart = bpe.encode(b"\n") * 2
    letter = bpe.encode(b"O")[0]
    assert set(found) == {both, apart} and found[apart][letter] and not found[both][letter]


def test_a_cut_before_white_space_is_settled_whatever_follows(bpe):
    text = b"The hen lived  near a mill,\n\nand the cat'll sleep"
    for k in range(1, len(text)):
        before, query = split(text[:k])
        assert before + query == text[:k] and not before[-1:].isspace()
        for more in (b"s", b" s", b"\n", b"'ll", b"."):
            assert bpe.encode(text[:k] + more)[: len(bpe.encode(before))] == bpe.encode(before)


def test_settling_keeps_the_covers(bpe):
    torch.manual_seed(0)
    row = torch.randn(len(bpe.pieces)).log_softmax(-1)
    covers = enumerate_covers(bpe, lambda rows: [row.expand(len(r) + 1, -1) for r in rows], b" the ")
    done, rest = settle(bpe, covers)
    assert done == bpe.encode(b" the") and rest.query == b" " and len(rest) == len(covers)
    assert torch.equal(rest.logp, covers.logp)


def segmentations(data: bytes):
    """Every way to write the bytes as tokens, valid or not."""
    if not data:
        return [()]
    return [(t, *rest) for t, p in enumerate(PIECES) if data.startswith(p) for rest in segmentations(data[len(p):])]


def _text(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False
