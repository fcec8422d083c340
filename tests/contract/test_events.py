"""Events fold into records when somebody asks, and each record is of its own moment."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from models.baselines.mdm import method as mdm
from models.engine import events
from models.engine.events import Book, Close, Emit, Open, Records, pages
from models.engine.method import find, follow, prepare
from models.serving import session
from models.trace import Canvas, Fact, Heads, Provenance, Step, states

STEP = Step("one", states("masked", "visible"))


def told(tab: str = "mask", **opened) -> Book:
    book = Book()
    book.take(Open(tab, Canvas("list", ("a", "b")), total=3, **opened))
    return book


def each_moment_keeps_its_own_steps(book: Book, read) -> None:
    found = []
    for label in ("one", "two", "three"):
        book.take(Emit("mask", dataclasses.replace(STEP, label=label)))
        found.append(read(book))
    book.take(Close("mask", "done", facts={"n": Fact("N", 1.0)}))
    assert [len(later().steps) for later in found] == [1, 2, 3]
    assert [later().sentence for later in found] == ["", "", ""]


def test_a_record_asked_for_late_is_of_its_own_moment():
    def page(book):
        there = pages({"mask": book})
        return lambda: Records(there, Provenance(), "m")["mask"]

    def whole_book(book):  # the mutant: looks at the book as it is when asked
        return lambda: Records(pages({"mask": book}), Provenance(), "m")["mask"]
    each_moment_keeps_its_own_steps(told(), page)
    with pytest.raises(AssertionError):
        each_moment_keeps_its_own_steps(told(), whole_book)


def test_heads_that_are_known_at_the_start_make_the_first_step_a_picture():
    numbers = np.zeros((1, 1, 2), np.float16)
    heads = Heads(numbers, numbers, numbers, numbers)
    known, unknown = told("attend", heads=heads), told("attend")
    for book in (known, unknown):
        book.take(Emit("attend", STEP))
    assert Records(pages({"attend": known}), Provenance(), "m")["attend"].heads is heads
    assert dict(Records(pages({"attend": unknown}), Provenance(), "m")) == {}


def test_steps_that_nobody_looks_at_are_never_put_together(tiny, monkeypatch):
    """A run of n steps checks each of them as often as it is shown, not n times."""
    checked, page = Counter(), events.BookState.trace
    monkeypatch.setattr(events.BookState, "trace", lambda self, *more: checked.update([self.count]) or page(self,
                                                                                                            *more))
    *_, last = follow(prepare("maskgit"))
    assert set(checked) == {len(trace.steps) for trace in last.traces.values()}
    checked.clear()
    monkeypatch.setattr(session, "UPDATE_SECONDS", 1e9)
    shown = list(session.play(session.Ask("maskgit", "unmask")))
    assert [len(scene.takes[0].trace.steps) for scene in shown] == sorted(checked) and len(shown) == 2
    assert min(checked) == 1 and shown[-1].done, "the first step at once, and the end"


@pytest.mark.parametrize("tab", ["unmask", "sample"])
@pytest.mark.parametrize("method", ["mdm", "joint-sampling"])
def test_a_tab_that_nobody_looks_at_is_never_put_together(tiny, monkeypatch, method, tab):
    """Mutant: ten traces of the Sample tab before Unmask opens."""
    made, page = [], events.BookState.trace

    def noted(self, *more):
        made.append((self.book.open.tab, self.close is not None))
        return page(self, *more)
    monkeypatch.setattr(events.BookState, "trace", noted)
    scenes = session.play(session.Ask(method, tab))
    first = next(scenes)
    assert made == [(tab, False)] and len(first.takes[0].trace.steps) == 1, "the first step, and nothing before it"
    for _ in scenes:
        pass
    assert {asked for asked, whole in made if not whole} == {tab}


def test_every_tab_begins_before_the_run_is_long(tiny):
    """The pair's tables come between the first look and the second."""
    told = [event.tab for event in mdm.run(prepare("mdm")) if isinstance(event, Emit)]
    second = [place for place, tab in enumerate(told) if tab == "unmask"][1]
    assert told[0] == "unmask" and {*told[:second]} == {*find("mdm").card.tabs}
