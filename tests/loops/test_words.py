"""The game of planted words that all judges share, as a record: states, copies, and words of the visitor's own."""

import numpy as np
import pytest

from models.engine.method import prepare, run
from models.loops.mask import words
from models.trace import CODE
from models.trace.params import ParamError
from models.trace.subject import SubjectError, from_text


def step(trace, label: str):
    return next(one for one in trace.steps if label in one.label)


def test_states_say_what_happened(tiny):
    trace = run("electra", params={"temperature": 0.2}, seed=4).traces["mask"]
    original = step(run("electra", params={"writer": "copy"}, seed=4).traces["mask"], "wrote").ids
    wrote, verdict = step(trace, "wrote"), step(trace, "verdict")
    assert np.array_equal(wrote.ids != original, wrote.state == CODE["new"])
    flagged = verdict.fields["suspicion"] >= trace.provenance.params["threshold"]
    fake = wrote.state == CODE["new"]
    for state, which in (("accepted", fake & flagged), ("new", fake & ~flagged), ("refused", ~fake & flagged)):
        assert np.array_equal(verdict.state == CODE[state], which)


def test_a_copy_leaves_nothing_to_find(tiny):
    facts = run("electra", params={"writer": "copy"}).traces["mask"].facts
    assert facts["replaced"].value == 0 and "auc" not in facts and "accuracy" not in str(facts).lower()


def test_the_visitors_words_are_the_ones_replaced(tiny):
    job = prepare("electra")
    count, = words.budget(job)
    trace = run("electra", choice=(tuple(range(5, 5 + count)),)).traces["mask"]
    assert set(step(trace, "selected").where("masked", "reused")) == set(range(5, 5 + count))
    for wrong in (tuple(range(count - 1)), (*range(count - 1), 9_999), (*range(count - 1), 0)):
        with pytest.raises(ParamError, match="words"):
            run("electra", choice=(wrong,))


def test_a_visitors_own_replacement_is_judged(tiny):
    trace = run("electra", from_text("The little red hen lived near a mill."), {"own": "hen = cat"}).traces["mask"]
    wrote = step(trace, "wrote")
    assert trace.vocabulary[wrote.ids[wrote.where("new")[0]]].strip() == "cat" and trace.facts["replaced"].value == 1
    for wrong in ("fox = hen", "hen", "hen = ", "red = an extraordinarily long replacement"):
        with pytest.raises(ParamError, match="own"):
            run("electra", from_text("The little red hen lived near a mill."), {"own": wrong})


def test_texts_that_do_not_fit_are_refused(tiny):
    for text in ("word " * 900, "a"):
        with pytest.raises(SubjectError):
            run("electra", from_text(text))
