"""The plain table: the same values as the record and the page, readable in a spreadsheet.

Mutants: a column shifted by one step; numbers in the page's coarse codes.
"""
import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from models.serving.recorded import FOLDER
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


HOSTILE = ("=1+1", "@SUM(A1)", " =cmd|' /C calc'!A0", "\n=1", "＝1", "\t=1", "+1", "-1")
HARMLESS = ('say "so", twice', "a\r\nb", "1,5", "", " ", "né 😀", "a=b")


def test_a_text_that_looks_like_a_formula_is_a_text_and_any_other_comes_back_as_it_is():
    """Mutants: a blank before the sign; a quote, a comma or a line break that ends a cell."""
    trace, texts = samples.sample(), (*HOSTILE, *HARMLESS)
    labels = (*texts, *trace.canvas.labels[len(texts):])
    steps = tuple(replace(step, ids=None) for step in trace.steps)
    found = read([replace(trace, canvas=replace(trace.canvas, labels=labels), steps=steps)])
    assert [row["text"] for row in found[:len(texts)]] == [*(f"'{text}" for text in HOSTILE), *HARMLESS]


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.json")))
def test_the_table_of_every_recorded_run_holds_what_the_page_shows(name):
    """Its last step, token for token: what it reads, its state and every field, by name and unit.

    Mutant: the vocabulary's word where the token has a label of its own, as a node of a graph has."""
    trace = load((FOLDER / name).read_text("utf-8"))
    found, drawing, last = read([trace]), draw(trace), len(trace.steps) - 1
    assert len(found) == len(trace.steps) * trace.canvas.size
    for token, row in enumerate(found[last * trace.canvas.size:]):
        assert row["text"].removeprefix("'") == drawing.texts(last)[token].removeprefix("'"), token
        assert row["state"] == STATES[trace.steps[last].state[token]]
        assert row["what"].removeprefix("'") == drawing.frames[last].label
        for name, field in trace.fields.items():
            values = trace.steps[last].fields.get(name)
            there = values is not None and not np.isnan(values[token])
            assert row[plain_table.heading(field)] == (f"{float(values[token]):.6g}" if there else "")


def test_any_text_of_a_vocabulary_survives():
    trace = samples.hostile()
    assert len(read([trace])) == len(trace.steps) * trace.canvas.size
