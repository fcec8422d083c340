"""What is on the screen as a plain table: one row per token and step, readable in a spreadsheet.

Columns: run (the method's title), step, what (the step's label), token, text, state, then every named field with its
unit; a field that is not defined somewhere is an empty cell. Numbers are those of the trace, not the coarser ones of
the picture. A text that a spreadsheet would take for a formula gets an apostrophe before it.
"""
from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np

from models.trace import STATES, Field, Trace
from models.trace.spelling import standing

FIRST = ("run", "step", "what", "token", "text", "state")
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")


def table(traces: Sequence[Trace], titles: Sequence[str]) -> bytes:
    """The traces one under the other as CSV: UTF-8 with a mark at its start, by which spreadsheets know it."""
    fields = {name: field for trace in traces for name, field in trace.fields.items()}
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*FIRST, *map(heading, fields.values())])
    for trace, title in zip(traces, titles, strict=True):
        writer.writerows(rows(trace, title, tuple(fields)))
    return out.getvalue().encode("utf-8-sig", "backslashreplace")


def heading(field: Field) -> str:
    return f"{field.title} ({field.unit})" if field.unit else field.title


def rows(trace: Trace, title: str, names: Sequence[str]) -> Iterator[list]:
    """One row per step and token; steps and tokens are counted from 1, as on the page."""
    for number, step in enumerate(trace.steps, 1):
        columns, words = [step.fields.get(name) for name in names], texts(trace, number - 1)
        for token in range(trace.canvas.size):
            numbers = ["" if values is None else cell(values[token]) for values in columns]
            state = STATES[int(step.state[token])]
            yield [plain(title), number, plain(step.label), token + 1, plain(words[token]), state,
                   *numbers]


def texts(trace: Trace, step: int) -> tuple[str, ...]:
    """How all tokens read at this step, as in the picture."""
    ids, canvas = trace.steps[step].ids, trace.canvas
    own = None if canvas.ids is None else canvas.ids.tolist()
    return canvas.labels if ids is None else standing(canvas.labels, own, ids.tolist(), trace.vocabulary)


def cell(value: np.floating) -> str:
    return "" if np.isnan(value) else f"{float(value):.6g}"


def plain(words: str) -> str:
    first = words.lstrip(" \u00a0\u200b") or words  # some programs take blanks off before they look
    return f"'{words}" if first.startswith(FORMULA) else words
