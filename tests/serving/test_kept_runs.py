"""Kept runs: the same question of a shipped example is answered at once, and nobody's own subject is ever kept."""
from dataclasses import replace

import numpy as np
import pytest

from models.serving import kept_runs
from models.serving.session import Ask
from models.trace import limits
from models.trace.subject import from_text

ASK = Ask("maskgit", "unmask", {"steps": 3}, seed=4)


@pytest.fixture(autouse=True)
def shelf(monkeypatch, tiny):
    monkeypatch.setattr(limits, "KEPT_BYTES", 50_000_000)
    kept_runs.SHELF.clear()
    yield
    kept_runs.SHELF.clear()


def test_the_second_visitor_gets_the_same_run_at_once_and_is_told():
    first, second = list(kept_runs.played(ASK)), list(kept_runs.played(ASK))
    assert len(first) > 1 and len(second) == 1 and second[0].done
    one, other = first[-1].takes[0].trace, second[0].takes[0].trace
    for mine, theirs in zip(one.steps, other.steps):
        np.testing.assert_array_equal(mine.ids, theirs.ids)
    assert kept_runs.NOTE in other.provenance.note and kept_runs.NOTE not in one.provenance.note


@pytest.mark.parametrize("other", [replace(ASK, seed=5), replace(ASK, params={"steps": 4}), replace(ASK, example="one"),
                                   replace(ASK, own=from_text("red circle", "caption"))])
def test_another_question_is_another_run(other):
    list(kept_runs.played(ASK))
    assert len(list(kept_runs.played(other))) > 1


def test_a_visitors_own_subject_is_never_kept():
    list(kept_runs.played(replace(ASK, own=from_text("red circle", "caption"))))
    assert not kept_runs.SHELF and kept_runs.key_of(replace(ASK, choice=((1,),))) == ""


def test_what_a_visitor_typed_into_a_setting_is_never_kept():
    """Mutant: such words as a part of the key, which outlives the visitor."""
    ask = Ask("graphadapter", "sample", {"without": ""})
    assert kept_runs.key_of(ask) and kept_runs.key_of(replace(ask, params={"without": "Tom, my friend"})) == ""


def test_the_shelf_is_bounded_by_bytes_and_the_least_asked_leave(monkeypatch):
    list(kept_runs.played(ASK))
    size = next(iter(kept_runs.SHELF.values()))[1]
    monkeypatch.setattr(limits, "KEPT_BYTES", int(2.5 * size))
    for seed in (5, 6):
        list(kept_runs.played(replace(ASK, seed=seed)))
    assert len(kept_runs.SHELF) == 2 and kept_runs.taken(kept_runs.key_of(ASK)) is None
    monkeypatch.setattr(limits, "KEPT_BYTES", 0)
    list(kept_runs.played(replace(ASK, seed=7)))
    assert kept_runs.taken(kept_runs.key_of(replace(ASK, seed=7))) is None
