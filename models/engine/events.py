"""What a run tells while it goes on, and how it folds into records: Open, Emit and Close, one book per tab.

A book grows; a page is the book as it stood after so many steps, from which the record of that moment can be made at
any time later. Numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from models.trace import TRACES, Canvas, Chart, Fact, Field, Heads, Provenance, Rows, Step, Trace, TraceError


@dataclass(frozen=True)
class Open:
    """Starts a tab's record. total: how many steps will come (for progress), 0 if unknown.

    heads, rows: attention that is known before the first step, so that the picture can answer from then on.
    """

    tab: str
    canvas: Canvas
    fields: Mapping[str, Field] = field(default_factory=dict)
    total: int = 0
    heads: Heads | None = None
    rows: Rows | None = None


@dataclass(frozen=True)
class Emit:
    """One step of a tab's record; `vocabulary` explains ids that appear in it for the first time."""

    tab: str
    step: Step
    vocabulary: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Close:
    """Ends a tab's record. kept: q and k of the layers, for exact rows on demand. path: what computed, for a run that
    calls no kernel; kernels name themselves."""

    tab: str
    sentence: str = ""
    charts: tuple[Chart, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    heads: Heads | None = None
    rows: Rows | None = None
    path: str = ""
    kept: Any = None


Event = Open | Emit | Close


class Book:
    """Collects the events of one tab."""

    def __init__(self) -> None:
        self.open: Open | None = None
        self.steps: list[Step] = []
        self.vocabulary: dict[int, str] = {}
        self.close: Close | None = None

    def take(self, event: Event) -> None:
        if isinstance(event, Open):
            self.open = event
        elif isinstance(event, Emit):
            self.steps.append(event.step)
            self.vocabulary.update(event.vocabulary)
        else:
            self.close = event


@dataclass(frozen=True)
class BookState:
    """A book as it stood after `count` steps; the book may have grown since."""

    book: Book
    count: int
    close: Close | None

    def trace(self, provenance: Provenance, method: str) -> Trace:
        """The record of these steps; TraceError when it cannot stand yet."""
        book, first = self.book, self.book.open
        assert first is not None, "steps come after an Open"
        end = self.close or Close(first.tab)
        stamp = replace(provenance, path=provenance.path or end.path)
        extra: dict[str, Any] = {}
        if first.tab == "attend":
            extra = {"heads": end.heads or first.heads, "rows": end.rows or first.rows}
        known = {f.name for f in fields(Trace)}
        shared: dict[str, Any] = {
            "method": method, "canvas": first.canvas, "steps": tuple(book.steps[: self.count]), "fields": first.fields,
            "vocabulary": dict(book.vocabulary), "charts": end.charts, "facts": end.facts, "sentence": end.sentence,
            "provenance": stamp}
        assert set(shared) == known
        return TRACES[first.tab](**shared, **extra)


def pages(books: Mapping[str, Book]) -> dict[str, BookState]:
    """What is there now, by tab; tabs without a step are left out."""
    return {tab: BookState(book, len(book.steps), book.close) for tab, book in books.items() if book.steps}


def traces(there: Mapping[str, BookState], stamp: Provenance, method: str) -> dict[str, Trace]:
    """The records of a finished run, by tab."""
    return {tab: page.trace(stamp, method) for tab, page in there.items()}


class Records(Mapping[str, Trace]):
    """Records by tab while the run goes on. Each is put together when it is first asked for, so that a tab which nobody
    looks at costs nothing; one that cannot stand yet is not there."""

    def __init__(self, there: Mapping[str, BookState], stamp: Provenance, method: str):
        self.there, self.stamp, self.method = there, stamp, method
        self.made: dict[str, Trace | None] = {}

    def __getitem__(self, tab: str) -> Trace:
        if tab not in self.made:
            self.made[tab] = self._record(tab)
        if (found := self.made[tab]) is None:
            raise KeyError(tab)
        return found

    def _record(self, tab: str) -> Trace | None:
        try:
            return self.there[tab].trace(self.stamp, self.method) if tab in self.there else None
        except TraceError:
            return None

    def __iter__(self) -> Iterator[str]:
        return (tab for tab in self.there if tab in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def progress(books: Mapping[str, Book]) -> float:
    """Share of the announced steps that are there, over all tabs."""
    total = sum(book.open.total for book in books.values() if book.open)
    return min(1.0, sum(len(book.steps) for book in books.values()) / total) if total else 0.0
