"""Sums of small numbers: the judge against Python's own arithmetic, what is read, and what is kept out of training."""
import numpy as np
import pytest

from models.worlds import sums
from models.worlds.world import END, SPECIALS, drawn


@pytest.mark.parametrize("count", (2, 3))
def test_values_are_what_python_says(count):
    rng = np.random.default_rng(0)
    for _ in range(200):
        doc = sums.sample(rng, count)
        assert doc.truth == eval(doc.prompt.removesuffix("="))
        assert sums.check(doc.text) and not sums.check(f"{doc.prompt} {doc.truth + 1}")
        assert len(doc.prompt.split()) == 2 * count


def test_every_sum_is_there_once_and_no_kept_one_is_drawn():
    ids, values, kept = sums.every(3)
    assert len(np.unique(ids, axis=0)) == len(ids) == 4 * 30**3
    assert 0.05 < kept.mean() < 0.15
    signs = np.where(ids[:, 2::2][:, :2] == sums.ID["+"], 1, -1)
    assert (values == ids[:, 1] - sums.ZERO + (signs * (ids[:, 3:6:2] - sums.ZERO)).sum(1)).all()
    drawn_ones = {tuple(sums.ids(drawn(sums.WORLD, np.random.default_rng(seed)))) for seed in range(100)}
    assert not drawn_ones & set(map(tuple, ids[kept].tolist()))
    asked, truth = sums.exam(("+", "-"), 1)
    assert {*map(tuple, asked.tolist())} <= {*map(tuple, ids[kept].tolist())} and len(asked) > 2500
    assert (truth == asked[:, 1] + asked[:, 3] - asked[:, 5] - sums.ZERO).all()
    assert sums.commonest(np.array([3, -2, -2])).tolist() == [False, True, True]


def test_every_number_is_one_token():
    tokenizer = sums.WORLD.tokenizer()
    for number in (sums.LEAST, -1, 0, 29, sums.MOST):
        assert tokenizer.encode(str(number)).ids == [sums.ZERO + number]
    assert [END, *tokenizer.encode("17 + 4 - 9 =").ids] == sums.ids(sums.read("17 + 4 - 9 ="))
    assert tokenizer.get_vocab_size() == len(SPECIALS) + len(sums.WORDS)


@pytest.mark.parametrize("text, value", (("17+4-9", 12), ("0 - 29 - 29 =", -58), (" 3 + 4 = 99", 7), ("007 + 1", 8)))
def test_what_a_visitor_writes_is_read(text, value):
    assert sums.read(text).truth == value


@pytest.mark.parametrize("text", ("", "=", "5", "5 +", "+ 5", "30 + 1", "1 + 2 + 3 + 4", "1 * 2", "1 2", "a + b",
                                  "٣ + 1", "1 + -2", "9" * 5000 + " + 1", "1.5 + 2"))
def test_what_is_no_sum_is_refused(text):
    with pytest.raises(ValueError, match="A sum is written like"):
        sums.read(text)
    assert not sums.check(f"{text} = 3")
