"""Traces check themselves, never change, and survive a JSON round trip; damaged files end in one sentence."""

import dataclasses
import json

import numpy as np
import pytest

from models.trace import (
    AttendTrace,
    Canvas,
    Chart,
    Cost,
    Distribution,
    Fact,
    Field,
    Heads,
    MaskTrace,
    Rows,
    Step,
    TraceError,
    UnmaskTrace,
    states,
)
from models.trace.serialize import load, save


def canvas(n=4):
    return Canvas("grid", ("",) * n, (2, n // 2), picture=np.zeros((8, 8, 3), np.uint8))


def unmask(*steps):
    return UnmaskTrace("demo", canvas(), steps, fields={"confidence": Field("Confidence", "probability", 0, 1)})


def distribution():
    return Distribution(np.array([2]), np.array([[5, 7]]), np.array([[0.6, 0.3]]), np.array([0.9]),
                        lse=np.array([1.0]), chosen=np.array([5]), logits=np.ones((1, 9), np.float16))


def full():
    step = Step("first", states("new", "unknown", "unknown", "unknown"), ids=np.arange(4, dtype=np.int32),
                fields={"confidence": np.array([0.9, np.nan, 0.2, 0.1], np.float32)},
                distributions={"raw": distribution()}, picture=np.full((8, 8, 3), 7, np.uint8),
                cost=Cost(1, 4, 1000, 64, 2.5))
    chart = Chart("line", "Entropy", "step", "nats", {"here": np.array([[0, 1.0], [1, 0.5]])}, by_step=True)
    return dataclasses.replace(unmask(step), charts=(chart,), facts={"score": Fact("Score", 0.5, "of 1")},
                               vocabulary={5: "${evil}", 7: "\U0001f600"})


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_round_trip_keeps_everything():
    trace = full()
    assert same(load(save(trace)), trace)


def test_round_trip_comparison_sees_a_change():
    other = dataclasses.replace(full(), sentence="other")
    assert not same(load(save(full())), other)


def test_nothing_in_a_trace_can_be_changed():
    trace = full()
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.method = "other"
    with pytest.raises(ValueError):
        trace.steps[0].state[0] = 3
    with pytest.raises(ValueError):
        trace.steps[0].fields["confidence"][0] = 3


@pytest.mark.parametrize("broken, sentence", [
    (lambda: Canvas("sphere", ("",)), "canvas kind"),
    (lambda: Canvas("grid", ("",) * 5, (2, 2)), "does not hold"),
    (lambda: Step("x", np.array([99], np.uint8)), "codes of STATES"),
    (lambda: Step("x", states("new"), level="epoch"), "step level"),
    (lambda: unmask(Step("x", states("new"))), "states for 4 tokens"),
    (lambda: unmask(Step("x", states(*["new"] * 4), fields={"odd": np.zeros(4)})), "does not explain"),
    (lambda: unmask(Step("x", states(*["new"] * 4), parent=0)), "does not come before"),
    (lambda: unmask(), "no step"),
    (lambda: unmask(Step("a", states(*["known"] * 4)), Step("b", states("unknown", *["known"] * 3))), "forgets"),
    (lambda: MaskTrace("m", canvas(), (Step("a", states(*["visible"] * 4)),)), "must hide"),
    (lambda: AttendTrace("m", canvas(), (Step("a", states(*["visible"] * 4)),)), "needs head statistics"),
    (lambda: Distribution(np.array([0]), np.array([[1]]), np.array([[1.4]]), np.array([0.0])), "more than 1"),
    (lambda: Distribution(np.array([0, 1]), np.array([[1]]), np.array([[1.0]]), np.array([0.0])), "one row per"),
    (lambda: Chart("pie", "t", "x", "y", {"a": np.ones(2)}), "unknown"),
    (lambda: Heads(*[np.zeros((1, 2, 3))] * 3, np.zeros((1, 2, 4))), "must share"),
])
def test_contradictions_are_refused(broken, sentence):
    with pytest.raises(TraceError, match=sentence):
        broken()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"schema": 1, "record": "Cost", "trace": {}}',
                                  '{"schema": 99, "record": "UnmaskTrace", "trace": {}}', "\x00", "[" * 100_000])
def test_foreign_files_end_in_one_sentence(text):
    with pytest.raises(TraceError):
        load(text)


def test_a_hostile_array_is_refused():
    text = save(full())
    with pytest.raises(TraceError):
        load(text.replace('"uint8"', '"object"'))
    document = json.loads(text)
    document["trace"]["is"] = "os.system"
    with pytest.raises(TraceError):
        load(json.dumps(document))


def test_packed_rows_stay_within_half_a_step():
    weights = np.random.default_rng(0).dirichlet(np.ones(50), (2, 3, 4)).astype(np.float32)  # [L, H, R, M]
    rows = Rows.pack(np.array([3, 9, 12, 40]), weights)
    error = np.abs(rows.row(1, 2, 12) - weights[1, 2, 2])
    assert error.max() <= weights[1, 2, 2].max() / 255 / 2 + 1e-6
    assert rows.row(0, 0, 4) is None


def test_costs_add_up_but_the_cache_is_a_level():
    assert Cost(1, 2, 3, 10, 1.0) + Cost(1, 2, 3, 4, 1.0) == Cost(2, 4, 6, 10, 2.0)
