"""The plain table: the same values as the record and the page, readable in a spreadsheet.

Mutants: a column shifted by one step; numbers in the page's coarse codes.
"""
import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from models.trace import STATES
from models.trace.serialize import load, save
from tests import samples
from tests.traps import caught
from visualizers import draw
from visualizers.export import table as plain_table
from visualizers.export.table import table


def read(traces, titles=None) -> list[dict]:
    data = table(traces, titles or [trace.method for trace in traces])
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


@pytest.mark.parametrize("tab", ["mask", "attend", "prune", "unmask", "sample"])
def test_table_record_and_page_hold_the_same_values(tab):
    trace = samples.all_tabs()[tab]
    again = load(save(trace))
    found, drawing = read([trace]), draw(trace)
    assert len(found) == len(trace.steps) * trace.canvas.size

    def same(rows):
        for row in rows:
            step, token = int(row["step"]) - 1, int(row["token"]) - 1
            assert row["state"] == STATES[again.steps[step].state[token]]
            if tab != "attend":  # there the query's mark moves with the pointer
                assert row["state"] == STATES[drawing.frames[step].state[token]]
            for name, field in again.fields.items():
                values, cell = again.steps[step].fields.get(name), row[plain_table.heading(field)]
                if values is None or np.isnan(values[token]):
                    assert cell == ""
                    continue
                np.testing.assert_allclose(float(cell), float(values[token]), rtol=1e-5, atol=1e-9)
                if name in drawing.frames[step].values:
                    np.testing.assert_allclose(float(cell), drawing.frames[step].values[name][token], rtol=1e-3)

    moved = [{**row, "state": other["state"]} for row, other in zip(found, found[1:] + found[:1])]
    caught(same, found, *([moved] if len({row["state"] for row in found}) > 1 else []),
           [{**row, "token": str((int(row["token"]) % trace.canvas.size) + 1)} for row in found])


def test_runs_beside_each_other_stand_one_under_the_other_by_their_titles():
    trace = samples.unmask()
    found = read([trace, replace(trace, method="other")], ["Mine", "The untouched run"])
    assert {row["run"] for row in found} == {"Mine", "The untouched run"}


def test_a_text_that_looks_like_a_formula_is_a_text():
    trace = samples.sample()
    labels = ("=1+1", "@SUM(A1)", *trace.canvas.labels[2:])
    steps = tuple(replace(step, ids=None) for step in trace.steps)
    found = read([replace(trace, canvas=replace(trace.canvas, labels=labels), steps=steps)])
    assert {row["text"] for row in found} >= {"'=1+1", "'@SUM(A1)"}


def test_any_text_of_a_vocabulary_survives():
    trace = samples.hostile()
    assert len(read([trace])) == len(trace.steps) * trace.canvas.size
