"""byte-level: the proof on a chain whose answer is known, the covers of a real vocabulary, the reader and the page.

Every trap stands beside the mutant that the same check refuses."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.checkpoints.store import load
from models.engine.method import find, prepare, run, twin
from models.papers.byte_level import claim
from models.papers.byte_level import method as rule
from models.papers.byte_level.byte_vocabulary import END, Coder, coder_of, is_text, split
from models.papers.byte_level.bytereader import ByteReader, divergence, healing, naive
from models.papers.byte_level.cover_encodings import advance, enumerate_covers, next_symbols, settle
from models.papers.byte_level.method import WINDOW, Bytes, average, say
from models.trace.subject import ASSETS, SubjectError, from_text
from tests import tiny
from tests.tiny import text_tokenizer
from tests.traps import caught

# A two-letter Markov chain, three merges and their exact token model: the smallest world in which the next byte is
# known and a prompt must not be read as its encoding (after arXiv 2410.09303). Behind a lone token "a" the token model
# never says "b", because "ab" would have been one token; the chain says it 7 times in 10.
START = {"a": 0.5, "b": 0.5}
CHAIN = {"a": {"a": 0.3, "b": 0.7}, "b": {"a": 0.6, "b": 0.4}}  # P(next letter | letter)
MERGES = (("a", "b"), ("b", "b"), ("a", "a"))  # by rank
PIECES = (b"a", b"b", b"ab", b"bb", b"aa")


def encode(data: bytes) -> tuple[int, ...]:
    """Byte pair encoding over the two letters, lowest rank first, left to right."""
    parts = list(data.decode())
    for left, right in MERGES:
        merged, k = [], 0
        while k < len(parts):
            pair = parts[k: k + 2] == [left, right]
            merged.append(left + right if pair else parts[k])
            k += 2 if pair else 1
        parts = merged
    return tuple(PIECES.index(part.encode()) for part in parts)


CODER = Coder(PIECES, encode)


def chance(text: str) -> float:
    """Probability that a text of the chain starts with `text`."""
    return math.prod([START[text[0]], *(CHAIN[x][y] for x, y in itertools.pairwise(text))]) if text else 1.0


def begins(ids: tuple[int, ...], ahead: int = 3) -> float:
    """Probability that the encoding of a long text starts with these tokens: a sum over the letters that follow."""
    text = CODER.decode(ids).decode()
    longer = (text + "".join(letters) for letters in itertools.product("ab", repeat=ahead))
    return sum(chance(one) for one in longer if encode(one.encode())[: len(ids)] == ids)


def score(rows) -> list[torch.Tensor]:
    """The exact token model: for each row of K tokens the log-probabilities [K + 1, V] after 0..K of them."""
    return [torch.stack([behind(row[:k]) for k in range(len(row) + 1)]) for row in rows]


def behind(ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities [V] of the next token after some."""
    whole = begins(ids)
    return torch.tensor([begins((*ids, t)) / whole if whole else 0.0 for t in range(len(PIECES))], dtype=torch.float64
                        ).log()


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
        if piece and is_text(query + piece) and not piece.isspace():
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


TEXTS = [b"The hen lived near a mi", b"the cat slept by ", b"7 times 2 is", b"hen", b"fire.\n\nOn", b"'ll"]


def reader(data: bytes, name: str = "text-ar-1", fast: bool = False) -> ByteReader:
    return ByteReader(tiny.bundle(name), data, fast)


@pytest.mark.parametrize("data", TEXTS)
def test_each_way_to_say_the_next_byte_is_a_distribution(data):
    for fast in (False, True):
        for probs in reader(data, fast=fast).symbols.values():
            assert len(probs) == END + 1 and float(probs.min()) >= 0 and abs(float(probs.sum()) - 1) < 1e-4


@pytest.mark.parametrize("data", TEXTS)
def test_byte_by_byte_is_the_same_as_all_at_once(data):
    going, bundle = reader(data[:1]), tiny.bundle("text-ar-1")
    for byte in data[1:]:
        going.push(byte)
    fresh = ByteReader(bundle, data)
    # the fresh one conditions on the settled tokens without the end-of-text token that began the text
    beginning = going.coder.encode(data)
    assert going.covers.query == fresh.covers.query
    assert sorted(map(going.covers.tokens, range(len(going.covers)))) == sorted(
        map(fresh.covers.tokens, range(len(fresh.covers)))), beginning
    if fresh.covers.query == data:  # nothing was settled: the same context, so the same numbers
        assert going.covers.total == pytest.approx(fresh.covers.total, abs=1e-4)
        torch.testing.assert_close(going.symbols["exact"], fresh.symbols["exact"], atol=1e-4, rtol=1e-3)


def test_the_chain_rule_holds_up_to_invalid_mass():
    """P(x + b) summed over b is P(x) without what the model puts on invalid encodings."""
    start = reader(b" the hen l")
    for _ in range(3):
        before, symbols, invalid = start.covers.total, start.symbols["exact"], start.invalid
        byte = int(symbols[:256].argmax())
        start.push(byte)
        ratio = math.exp(start.covers.total - before)
        assert ratio == pytest.approx(float(symbols[byte]) * (1 - invalid), rel=1e-3)


def test_one_model_call_per_byte():
    start = reader(b" the hen l")
    start.meter.lap()
    for byte in b"ived n":
        start.push(byte)
    assert start.meter.lap().calls <= 6


def test_fast_only_skips_the_mask():
    exact, fast = reader(b" the hen l"), reader(b" the hen l", fast=True)
    assert len(exact.covers) == len(fast.covers) and fast.invalid == 0 < exact.invalid
    fast.push(ord("i"))
    exact.push(ord("i"))
    assert len(fast.covers) >= len(exact.covers)


def test_healing_is_not_the_method():
    """Healing draws the last token again; covers that end in another left part are invisible to it."""
    worst = max(divergence(r.symbols["exact"], r.symbols["healing"])
                for r in (reader(b" hen li"), reader(b" Question: Wh"), reader(b" answer")))
    assert worst > 1e-4


def test_the_ensemble_averages_byte_probabilities():
    def mixes_bytes(mix) -> bool:  # 90 % and 50 % become 70 %
        found = mix((torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])), (0.5, 0.5))
        return abs(float(found[0]) - 0.7) < 1e-6 and abs(float(found.sum()) - 1) < 1e-6

    def product(ps, ws):  # averaging logits
        return sum(w * p.log() for w, p in zip(ws, ps)).softmax(-1)
    caught(mixes_bytes, average, product)


def test_two_vocabularies_write_one_text(tiny):
    trace = run("byte-level", params={"weight": 0.5, "length": 6}, seed=1).traces["sample"]
    names = list(trace.steps[1].distributions)
    assert names[:2] == ["average", "second model"]
    mixed = trace.steps[1].distributions["average"]
    parts = [trace.steps[1].distributions[name] for name in ("exact", "second model")]
    for symbol, share in zip(mixed.top_ids[0], mixed.top_probs[0]):
        known = [dict(zip(d.top_ids[0].tolist(), d.top_probs[0].tolist())).get(int(symbol)) for d in parts]
        if None not in known:
            assert share == pytest.approx(sum(known) / 2, abs=1e-4)


def test_the_page_is_bytes_and_the_cut_moves_it(tiny, monkeypatch):
    text = from_text("The hen lived near a mill, and the cat slept by the fi")
    whole = run("byte-level", text, {"length": 3}).traces["sample"]
    cut = run("byte-level", text, {"length": 3, "cut": 5}).traces["sample"]
    prompt = "".join(x for x, role in zip(cut.canvas.labels, cut.canvas.roles) if role == "prompt")
    assert prompt == text.text[:-5] and whole.canvas.labels[0] != cut.canvas.labels[0]
    assert {"naive", "healing", "exact"} <= set(whole.steps[1].distributions)
    _, line, bars, table = whole.charts
    assert len(line.series["naive"]) == WINDOW + 1 and len(bars.ticks) == 8 and sum(table.series["share"]) <= 1.001
    assert whole.steps[0].distributions["exact"].positions.tolist() == list(range(1, WINDOW + 1))
    monkeypatch.setattr("models.papers.byte_level.method.LARGE", 0)  # a call of a large network takes long
    large = run("byte-level", text, {"length": 1}).traces["sample"]
    assert large.steps[0].distributions["exact"].positions.tolist() == list(range(1, WINDOW // 2 + 1))


def test_the_baseline_reads_the_same_cut(tiny):
    job = prepare("byte-level", params={"cut": 3})
    assert twin(job).params.cut == 3
    with pytest.raises(SubjectError):
        run("byte-level", from_text("abc"), {"cut": 3})


def test_a_text_without_spaces_is_refused_before_it_gets_slow(tiny):
    with pytest.raises(SubjectError, match="without a space"):
        run("byte-level", from_text("x" * 300))
    assert run("byte-level", from_text("\u6f22\u5b57\u304b\u306a" * 4), {"length": 2}).done


def test_examples_end_where_prompting_goes_wrong():
    texts = [e.source for e in find("byte-level").examples[:3]]
    assert texts[0][-1].isalpha() and texts[2].endswith(" ")


@pytest.mark.weights
def test_a_word_cut_short_is_completed(shipped):
    shipped("text-ar-1")
    cut = ByteReader(load("text-ar-1"), b"There once lived a king whose daughter was the most beau")
    assert cut.symbols["exact"][ord("t")] > 0.9 > 0.1 > cut.symbols["naive"][ord("t")]
    end = ByteReader(load("text-ar-1"), b"He said that he would come to the").symbols
    assert divergence(end["exact"], end["naive"]) > 0.1, "a token's end is not where all agree: they, then, there"
    assert divergence(end["exact"], end["healing"]) < 0.01


@pytest.mark.weights
def test_canonical_text_stays_valid_at_every_cut(shipped):
    """Prefixes of an encoding are encodings themselves, which the covers rely on."""
    shipped("text-ar-1")
    coder = coder_of(load("text-ar-1").tokenizer)
    ids = coder.encode((ASSETS / "texts" / "heldout.txt").read_bytes()[:6000])
    for k in range(1, 40):
        window = ids[k * 30: k * 30 + 12]
        before = coder.decode(ids[: k * 30])
        if before[-1:].isspace() or coder.decode(window)[:1] != b" ":
            continue
        assert all(coder.valid(window[:n]) for n in range(1, 13))


def test_passages_are_held_out_sentences_with_room():
    found = claim.passages(np.random.default_rng(0))
    assert len(found) > 400 and all(len(p) > claim.CONTEXT + claim.WALK + 20 for p in found[:50])


def test_the_sentence_names_a_difference_only_where_there_is_one(tiny):
    source = Bytes(prepare("byte-level", from_text("Once upon a ti")))
    source.start()
    even = source.symbols["exact"]
    more = even.index_add(0, torch.tensor([32]), even.new_tensor([0.02]))  # one byte too much, and none too little
    for said, near in ((even, True), (more, False)):
        source.symbols = {**source.symbols, "naive": said}
        assert ("gives every byte within 1 % of what the exact distribution gives it" in say(source)) == near
    source.symbols, many = {**source.symbols, "naive": even}, source.covers
    source.covers = replace(many, logp=many.logp[:1])  # a text that ends behind a whole token of its own
    assert "since no other token sequence covers" in say(source)
    source.symbols, source.covers = {**source.symbols, "naive": even.flip(0)}, many
    assert "the exact probability of" in say(source) and "naive prompting says" in say(source)


def test_the_end_of_a_text_is_called_what_the_model_calls_it():
    assert [rule.letter(one, "<|im_end|>") for one in (END, 10, 200)] == ["<|im_end|>", "\n", "<C8>"]


def test_one_character_of_many_bytes_is_refused_in_a_sentence():
    with pytest.raises(SubjectError, match="one more behind it"):
        run("byte-level", from_text("🎉"))
