"""Interventions, whichever method: the run goes on from what a visitor changed, and is the same run before it.

Mutants: a loop that ignores the change (its end is the untouched one); one that draws other dice before it.
"""
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from models.engine.method import atlas, prepare, run
from models.serving import links
from models.serving.session import Ask, play
from models.trace import CODE, interventions
from models.trace.interventions import Interventions
from models.trace.params import ParamError
from tests.traps import caught
from visualizers.page import what_if

WRITTEN = [(id, tab) for id, method in atlas().items() for tab in method.card.tabs
           if tab in interventions.TABS["overwrites"] and tab not in method.fixed]
HEADED = [id for id, method in atlas().items() if "attend" in method.card.tabs and "attend" not in method.fixed]
PRUNED = [id for id, method in atlas().items() if "prune" in method.card.tabs and "prune" not in method.fixed]


pytestmark = pytest.mark.usefixtures("tiny")


def trace_of(id, tab, **changes):
    return run(id, seed=3, interventions=Interventions(**changes)).traces[tab]


@cache
def plain_of(id, tab):
    """The untouched run, made once for all tests of this file."""
    return trace_of(id, tab)


def middle(trace):
    """A step in the middle, a token written in it, and another id that could stand there."""
    for step in range(len(trace.steps) // 2, len(trace.steps)):
        before = trace.steps[step - 1].ids
        fresh = np.flatnonzero((trace.steps[step].ids >= 0) & (before < 0) & (trace.steps[-1].ids >= 0)) if step else []
        if len(fresh):
            at = int(fresh[0])
            return step, at, next(id for id in trace.vocabulary if id != trace.steps[-1].ids[at] and id > 3)
    raise AssertionError("no step in the second half writes a token")


def goes_on(plain, changed, step, at, id):
    """The run is the untouched one before the change, and the change stands to its end."""
    for one, other in zip(plain.steps[:step], changed.steps[:step]):
        np.testing.assert_array_equal(one.ids, other.ids)
    assert changed.steps[-1].ids[at] == id


@pytest.mark.parametrize("id, tab", WRITTEN)
def test_an_overwritten_token_stays_and_what_came_before_is_the_same_run(id, tab):
    plain = plain_of(id, tab)
    step, at, other = middle(plain)
    changed = trace_of(id, tab, overwrites=((step, at, other),))
    caught(lambda found: goes_on(plain, found, step, at, other), changed, plain)


@pytest.mark.parametrize("id, tab", WRITTEN)
def test_what_cannot_stand_there_is_refused_in_a_sentence(id, tab):
    for wrong in ((0, 99_999, 5), (0, middle(plain_of(id, tab))[1], 2**30)):
        with pytest.raises(ParamError, match="please choose"):
            trace_of(id, tab, overwrites=(wrong,))


@pytest.mark.parametrize("id, tab", WRITTEN)
def test_given_text_is_offered_for_a_change_only_where_it_can_be_changed(id, tab):
    """Mutant: candidates for a word of the prompt, which Python then refuses."""
    plain = plain_of(id, tab)
    given = np.flatnonzero(plain.steps[0].state == CODE["context"])
    if not len(given):
        return
    change = {"overwrites": ((0, int(given[0]), next(id for id in plain.vocabulary if id > 3)),)}
    if what_if.fixed_text(atlas()[id]):
        with pytest.raises(ParamError, match="not written in this run"):
            trace_of(id, tab, **change)
    else:
        goes_on(plain, trace_of(id, tab, **change), 0, *change["overwrites"][0][1:])


@pytest.mark.parametrize("id", HEADED)
def test_a_head_that_is_off_changes_what_the_others_see(id):
    """Mutants: the rows of two networks or two readings numbered as if they were layers of one, whose last ones the
    model does not have; a picture of last layers alone, in which nothing could change."""
    plain = trace_of(id, "attend")
    first, last = plain.heads.layers[0], plain.heads.layers[-1]
    changed = trace_of(id, "attend", heads_off=((first, 0),))
    assert trace_of(id, "attend", heads_off=((last, plain.heads.entropy.shape[1] - 1),)).provenance.interventions
    assert any(not np.array_equal(one, other, equal_nan=True) for one, other in
               ((plain.heads.entropy, changed.heads.entropy), (plain.rows.weights, changed.rows.weights)))
    with pytest.raises(ValueError, match="no head 100"):
        trace_of(id, "attend", heads_off=((0, 99),))


def test_only_the_layers_behind_a_head_that_is_off_change():
    plain, changed = (trace_of("attention", "attend", **options) for options in ({}, {"heads_off": ((0, 0),)}))
    np.testing.assert_array_equal(plain.heads.entropy[0], changed.heads.entropy[0])
    again = trace_of("attention", "attend").heads.entropy
    np.testing.assert_array_equal(plain.heads.entropy, again)  # nothing stays switched off


@pytest.mark.parametrize("id", PRUNED)
def test_a_token_kept_by_force_stays_to_the_end_and_the_budget_holds(id):
    plain = trace_of(id, "prune")
    gone = np.flatnonzero(np.isin(plain.steps[-1].state, [CODE["dropped"], CODE["discarded"]]))
    if not len(gone):
        gone = np.flatnonzero(plain.steps[-1].state == CODE["recycled"])
    changed = trace_of(id, "prune", kept=((int(gone[0]),),))
    assert changed.steps[-1].state[gone[0]] != plain.steps[-1].state[gone[0]]
    assert (changed.steps[-1].state == plain.steps[-1].state).sum() < plain.canvas.size
    with pytest.raises(ParamError, match="please keep"):
        trace_of(id, "prune", kept=((99_999,),))


@pytest.mark.parametrize("id, tab", [(id, tab) for id, method in atlas().items() for tab in method.fixed])
def test_who_cannot_be_changed_says_why(id, tab):
    assert atlas()[id].fixed[tab].endswith(".") and tab in atlas()[id].card.tabs


def test_a_method_without_such_a_tab_refuses():
    with pytest.raises(ParamError, match="Masked autoencoder cannot be changed"):
        prepare("mae", interventions=Interventions(overwrites=((0, 0, 5),)))


def test_the_untouched_run_stands_beside_and_the_link_carries_numbers_only():
    ask = Ask("maskgit", "unmask", {"steps": 4}, interventions=Interventions(overwrites=((1, 2, 7),)))
    *_, scene = play(replace(ask, interventions=Interventions(overwrites=((3, 2, 7),))))
    assert [take.role for take in scene.takes] == ["method", "untouched"]
    changed, plain = (take.trace.steps[-1].ids for take in scene.takes)
    assert changed[2] == 7 and (np.delete(changed, 2) == np.delete(plain, 2)).all()  # the last step: nothing follows
    assert "put=1.2.7" in links.to_query(ask)
    query = dict(pair.split("=") for pair in links.to_query(ask).split("&"))
    assert links.from_query(query).interventions == ask.interventions


@pytest.mark.parametrize("words", ["1.2", "a.b.c", "1.2.3.4", "-1.2.3", "1.2.99999999999", "1..3", "١.2.3"])
def test_words_that_are_no_numbers_are_refused(words):
    with pytest.raises(ParamError):
        interventions.from_words({"put": words})
