"""The recorded examples are what the methods do today: same seed, same ids and states, and the same numbers.

A method may be written anew as long as this holds. Where a change of what it does is meant, record it again:
`python -m models traces <id>`. Times are not compared, and a record may gain fields, facts and charts.
"""

import numpy as np
import pytest

from models.engine.method import atlas, find, follow, prepare
from models.serving import recorded
from models.trace import Trace

NEAR = 1e-3  # of a number; a record keeps halves, so large ones may differ by their last bit
CLOCK = ("ms", "as fast", "as long")  # units of what a clock measured


def differences(was: Trace, now: Trace) -> list[str]:
    """Where a run differs from its record, one sentence each."""
    found = [] if len(was.steps) == len(now.steps) else [f"{len(now.steps)} steps instead of {len(was.steps)}"]
    for index, (old, new) in enumerate(zip(was.steps, now.steps)):
        found += [f"step {index} ({old.label}): {what}" for what in unlike(old, new)]
    for name, fact in was.facts.items():
        if not any(word in fact.unit for word in CLOCK):
            found += [] if name in now.facts and near(fact.value, now.facts[name].value) else [f"fact '{name}'"]
    heads = getattr(was, "heads", None)
    for name in ("entropy", "peak", "span", "received") if heads is not None else ():
        found += [] if near(getattr(heads, name), getattr(now.heads, name), far(name)) else [f"heads' {name}"]
    return found


def unlike(old, new) -> list[str]:
    """What differs between two steps."""
    found = [name for name in ("label", "level", "parent") if getattr(old, name) != getattr(new, name)]
    found += [name for name in ("state", "ids") if not np.array_equal(
        *(np.zeros(0) if getattr(step, name) is None else getattr(step, name) for step in (old, new)))]
    for name, values in old.fields.items():
        empty = np.full(len(values), np.nan)  # a field that holds nowhere may be left out
        found += [] if near(values, new.fields.get(name, empty), far(name)) else [f"field '{name}'"]
    for name, guess in old.distributions.items():
        other = new.distributions.get(name)
        same = other is not None and all(np.array_equal(getattr(guess, part), getattr(other, part))
                                         for part in ("positions", "chosen") if getattr(guess, part) is not None)
        found += [] if same and near(guess.entropy, other.entropy) else [f"distribution '{name}'"]
    return found + [f"cost.{name}" for name in ("calls", "rows", "macs")
                    if getattr(old.cost, name) != getattr(new.cost, name)]


def far(name: str) -> float:
    """The tolerance. Reach is a root: of a token that sees itself alone, of rounding."""
    return 20 * NEAR if name == "span" else NEAR


def near(a, b, far: float = NEAR) -> bool:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return a.shape == b.shape and bool(np.all(np.isclose(a, b, rtol=2 * NEAR, atol=far, equal_nan=True)))


@pytest.mark.weights
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("id", list(atlas()))
def test_a_run_is_its_record(id, shipped):
    from models.checkpoints import store
    method = find(id)
    shipped(method.checkpoints[0], *method.companions)
    traces = {tab: recorded.read(id, tab) for tab in method.card.tabs}
    if None in traces.values():
        pytest.skip(f"nothing is recorded yet, for which test_methods.py asks: python -m models traces {id}")
    stamp = next(iter(traces.values())).provenance
    if not store.shipped()[method.checkpoints[0]]["sha256"].startswith(stamp.revision):
        pytest.skip("the record is of other weights; test_methods.py asks for a new one")
    if stamp.device != "cpu":
        pytest.skip(f"recorded on {stamp.device}, whose sums come in another order")
    *_, last = follow(prepare(method, seed=stamp.seed, dtype=stamp.dtype))
    found = {tab: differences(was, last.traces[tab]) for tab, was in traces.items()}
    assert not any(found.values()), {tab: texts[:6] for tab, texts in found.items() if texts}


def test_a_changed_id_state_field_or_cost_is_seen():
    from dataclasses import replace
    trace = recorded.read("var", "unmask")
    step = trace.steps[2]
    one = np.arange(len(step.ids)) == 7
    mutants = (replace(step, ids=step.ids + one), replace(step, state=(step.state + one).astype(np.uint8)),
               replace(step, fields={**step.fields, "entropy": step.fields["entropy"] + 0.01}),
               replace(step, fields={}), replace(step, cost=replace(step.cost, macs=1)), replace(step, label="other"),
               replace(step, distributions={}))
    for mutant in mutants:
        steps = (*trace.steps[:2], mutant, *trace.steps[3:])
        assert all(text.startswith("step 2 ") for text in differences(trace, replace(trace, steps=steps)))
        assert differences(trace, replace(trace, steps=steps))
    assert differences(trace, replace(trace, steps=trace.steps[:5]))
    assert differences(trace, replace(trace, facts={})) and not differences(trace, trace)
