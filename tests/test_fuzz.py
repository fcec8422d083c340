"""Whatever a program sends to the API ends in a record or in one sentence: never a traceback, a hang or a leaked path.

CI tries 300 calls, `make fuzz` 10,000. Tiny random weights: it is about the ways in, not about the numbers.
"""

import os
import time

import gradio as gr
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app
from models.engine.method import offered
from models.trace import TABS
from models.trace.params import schema

CALLS = int(os.environ.get("FUZZ_CALLS", 300))
SECONDS = 30  # of one call on tiny weights, with room for a busy machine
ODD = st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=40),
                st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(), max_size=2))
NASTY = st.sampled_from(["", "../../etc/passwd", "<script>alert(1)</script>", "${1+1} {{x}} \\", "\x00\x07", "🎈" * 40,
                         "a" * 9000, "שלום", "red circle, blue square", "3 plus 4", "secret", "%s%n", "file:///etc/hosts"])


@st.composite
def calls(draw):
    """A tab and what is sent to it: mostly a method of it with what its schema allows, sometimes anything."""
    id = draw(st.sampled_from(sorted(offered())))
    given_ = {name: draw(value(spec) if draw(st.integers(0, 5)) else ODD)
              for name, spec in schema(offered()[id].params)["properties"].items() if draw(st.booleans())}
    if not draw(st.integers(0, 9)):
        given_[draw(st.text(max_size=8))] = draw(ODD)
    own, tabs = offered()[id].examples[0].id, offered()[id].card.tabs
    return draw(st.sampled_from((*tabs * 4, *TABS))), {
        "method": draw(st.one_of(*[st.just(id)] * 9, st.sampled_from(["", "nobody", "__class__"]), ODD)),
        "subject": draw(st.one_of(st.just(""), st.just(own), NASTY, st.text(max_size=60), ODD)),
        "params": given_ if draw(st.integers(0, 9)) else draw(ODD),
        "seed": draw(st.one_of(st.integers(0, 9), ODD)),
        "summary_only": draw(st.one_of(st.booleans(), ODD))}


def value(spec: dict):
    """A value that the schema allows, small where a number sets the work."""
    if "enum" in spec:
        return st.sampled_from(spec["enum"])
    if spec["type"] == "boolean":
        return st.booleans()
    if spec["type"] == "string":
        return st.text(max_size=12)
    low, high = spec["minimum"], min(spec["maximum"], max(spec["minimum"], 12))
    return st.integers(int(low), int(high)) if spec["type"] == "integer" else st.floats(low, high)


@pytest.fixture(scope="module")
def weights():
    from tests import tiny
    tiny.use()
    yield
    tiny.forget()


@pytest.mark.slow
@settings(max_examples=CALLS, deadline=None, database=None, derandomize=CALLS <= 300,
          suppress_health_check=list(HealthCheck))
@given(calls())
def test_any_call_ends_in_a_record_or_a_sentence(weights, call):
    (tab, values), began = call, time.monotonic()
    try:
        found = app.endpoint(tab)(**values)
        assert found["summary"]["steps"] and ("trace" in found) is not (values["summary_only"] is True)
    except gr.Error as error:
        said = str(error.message)
        assert 5 < len(said) < 400 and "\n" not in said and "Traceback" not in said
        assert "site-packages" not in said and os.getcwd() not in said
    assert time.monotonic() - began < SECONDS
