"""byte-level on a model: what the reader says adds up, the incremental covers stay those of the text, and its traps."""

import math

import pytest
import torch

from models.engine.method import find, prepare, run, twin
from models.papers.byte_level.byte_vocabulary import END
from models.papers.byte_level.bytereader import ByteReader, divergence
from models.papers.byte_level.method import WINDOW, average
from models.trace.subject import SubjectError, from_text
from tests import tiny

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


def mixes_bytes(mix) -> bool:
    """Whether 90 % and 50 % become 70 %."""
    found = mix((torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])), (0.5, 0.5))
    return abs(float(found[0]) - 0.7) < 1e-6 and abs(float(found.sum()) - 1) < 1e-6


def test_the_ensemble_averages_byte_probabilities():
    assert mixes_bytes(average)
    # mutant: averaging logits is a product of the two models
    assert not mixes_bytes(lambda ps, ws: sum(w * p.log() for w, p in zip(ws, ps)).softmax(-1))


def test_two_vocabularies_write_one_text(tiny):
    trace = run("byte-level", params={"weight": 0.5, "length": 6}, seed=1).traces["sample"]
    names = list(trace.steps[1].distributions)
    assert names[:2] == ["average", "second model"]
    mixed = trace.steps[1].distributions["average"]
    parts = [trace.steps[1].distributions[name] for name in ("exact", "second model")]
    for symbol, chance in zip(mixed.top_ids[0], mixed.top_probs[0]):
        known = [dict(zip(d.top_ids[0].tolist(), d.top_probs[0].tolist())).get(int(symbol)) for d in parts]
        if None not in known:
            assert chance == pytest.approx(sum(known) / 2, abs=1e-4)


def test_the_page_is_bytes_and_the_cut_moves_it(tiny):
    text = from_text("The hen lived near a mill, and the cat slept by the fi")
    whole = run("byte-level", text, {"length": 3}).traces["sample"]
    cut = run("byte-level", text, {"length": 3, "cut": 5}).traces["sample"]
    prompt = "".join(x for x, role in zip(cut.canvas.labels, cut.canvas.roles) if role == "prompt")
    assert prompt == text.text[:-5] and whole.canvas.labels[0] != cut.canvas.labels[0]
    assert {"naive", "healing", "exact"} <= set(whole.steps[1].distributions)
    _, line, bars, table = whole.charts
    assert len(line.series["naive"]) == WINDOW + 1 and len(bars.ticks) == 8 and sum(table.series["share"]) <= 1.001
    assert whole.steps[0].distributions["exact"].positions.tolist() == list(range(1, WINDOW + 1))


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
    from models.checkpoints.store import load
    cut = ByteReader(load("text-ar-1"), b"There once lived a king whose daughter was the most beau")
    assert cut.symbols["exact"][ord("t")] > 0.9 > 0.1 > cut.symbols["naive"][ord("t")]


@pytest.mark.weights
def test_canonical_text_stays_valid_at_every_cut(shipped):
    """Prefixes of an encoding are encodings themselves, which the covers rely on."""
    shipped("text-ar-1")
    from models.checkpoints.store import load
    from models.papers.byte_level.byte_vocabulary import coder_of
    from models.trace.subject import ASSETS
    coder = coder_of(load("text-ar-1").tokenizer)
    ids = coder.encode((ASSETS / "texts" / "heldout.txt").read_bytes()[:6000])
    for k in range(1, 40):
        window = ids[k * 30: k * 30 + 12]
        before = coder.decode(ids[: k * 30])
        if before[-1:].isspace() or coder.decode(window)[:1] != b" ":
            continue
        assert all(coder.valid(window[:n]) for n in range(1, 13))
