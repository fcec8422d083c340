"""What is not defined says so: no sentence, fact, label or alternative text ever shows NaN as a number, whatever is
asked, and a record keeps it."""

import json
import math
import re

import numpy as np
import pytest

from models.engine.method import atlas, follow, prepare
from models.trace import Fact
from models.trace.serialize import load, save
from models.trace.subject import from_image, from_text
from visualizers import draw
from visualizers.drawing.units import fact_text

EMPTY = np.full((64, 64, 3), 128, np.uint8)  # a photo without anything: all patches are equal
LEAST = {"photo": from_image(EMPTY), "text": from_text("The sea.")}
PLAIN = [id for id, method in atlas().items() if method.kind() in LEAST]


SENSELESS = re.compile(r"\d{5} %|(errs by|error of|inpainting) \(?0\.00(?!\d)")  # compared with an error of nothing


NAN = re.compile(r"\b(nan|inf)\b")  # also in "(r = nan)."


def words_of(trace) -> list[str]:
    shown = draw(trace)
    return [trace.sentence, shown.alt, *(f"{fact.title} {fact_text(fact)}" for fact in trace.facts.values()),
            *(part for step in trace.steps for part in (step.label, step.note))]


def no_constant(name: str):
    """For json, which calls it where NaN or Infinity stands as a number; arrays are kept as letters, which may spell
    it."""
    raise AssertionError(f"{name} as a number")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("id", PLAIN)
def test_the_least_that_can_be_asked_shows_no_nan(tiny, id):
    from models.trace.subject import SubjectError
    subject = LEAST[atlas()[id].kind()]
    try:
        *_, last = follow(prepare(id, subject))
    except SubjectError as error:  # too little for this method: a sentence
        assert str(error).endswith(".")
        return
    for trace in last.traces.values():
        assert not [text for text in words_of(trace) if NAN.search(text)]
        assert not [text for text in words_of(trace) if SENSELESS.search(text)]
        json.loads(save(trace), parse_constant=no_constant)


def test_a_fact_without_a_value_is_kept_as_such(tiny):
    from dataclasses import replace
    *_, last = follow(prepare("attention", from_text("The sea.")))
    trace = replace(last.traces["attend"], facts={"rho": Fact("Order", float("nan"), "rank correlation")})
    again = load(save(trace))
    assert math.isnan(again.facts["rho"].value) and fact_text(again.facts["rho"]) == "not defined"


def test_one_is_no_plural_and_all_are_not_only(tiny):
    from models.papers.electra.method import say
    facts = {name: Fact(name, value) for name, value in (("replaced", 1.0), ("found", 100.0), ("alarms", 0.0))}
    assert say(facts).startswith("1 word was replaced")
    *_, last = follow(prepare("lazyllm", from_text("x"), {"length": 1, "rounds": 1}))
    assert last.traces["prune"].sentence.startswith("No token is left out: all reach")


def test_no_room_at_all_is_no_negative_number():
    from models.backbones.text import fitting
    from models.trace.subject import SubjectError
    with pytest.raises(SubjectError, match="no room for a text"):
        fitting(3, -4)
