"""What was seen in screenshots of every tab: each fault has the check that sees it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from models.serving.recorded import FOLDER
from models.trace import CODE, Cost
from models.trace.serialize import load
from tests import samples
from visualizers import draw
from visualizers.drawing.curves import figure
from visualizers.drawing.units import headline
from visualizers.page import nodes, turns


def recorded(name: str):
    return load((FOLDER / f"{name}.json").read_text("utf-8"))


def with_refused():
    """A text whose last three tokens stand beside it: a heading and two refused guesses."""
    trace = samples.sample()
    size, last = trace.canvas.size, trace.steps[-1]
    roles, labels = list(trace.canvas.roles or ("",) * size), list(trace.canvas.labels)
    roles[-3:], labels[-3:] = ["beside"] * 3, ["\n\nrefused: ", " little", " girl"]
    state = last.state.copy()
    state[-3:] = [CODE["context"], CODE["refused"], CODE["refused"]]
    step = replace(last, state=state, ids=None)
    return replace(trace, canvas=replace(trace.canvas, roles=tuple(roles), labels=tuple(labels), ids=None),
                   steps=(*(replace(s, ids=None) for s in trace.steps[:-1]), step))


def test_what_was_refused_is_no_part_of_the_finished_text():
    """Mutant: refused guesses became words like the others in the clean last step."""
    drawing = draw(with_refused())
    assert drawing.frames[-1].clean and set(drawing.frames[-1].state[-3:]) == {CODE["unknown"]}


@pytest.mark.browser
def test_refused_guesses_stand_beside_the_text_with_their_spaces(window, paper_page):
    drawing = draw(with_refused())

    def look(page):
        page.evaluate("shown.go(shown.total - 2)")
        beside, text = page.locator(".ts-beside"), page.locator(".ts-apart > div").first
        found = beside.inner_text(), text.inner_text(), beside.bounding_box()["x"] - text.bounding_box()["x"]
        page.evaluate("shown.go(shown.total - 1)")
        return *found, beside.is_visible()
    beside, text, right, end = window.look(paper_page(drawing), look)
    assert " ".join(beside.split()) == "refused: little girl" and "refused" not in text and right > 100 and not end


@pytest.mark.browser
def test_a_deep_networks_map_lies_on_its_side(window, paper_page):
    heads = samples.attend().heads
    deep = {name: np.repeat(getattr(heads, name), 6, 0)[:20] for name in ("entropy", "peak", "span", "received")}
    trace = samples.attend()
    tall = replace(trace, heads=replace(heads, **deep, layers=tuple(range(20))), rows=None,
                   steps=tuple(replace(trace.steps[0], label=f"layer {n}", level="layer") for n in range(20)))
    box = "[...document.querySelectorAll('.ts-map')].map(m => [m.clientWidth, m.clientHeight])[0]"
    sizes = [window.look(paper_page(draw(one)), lambda page: page.evaluate(box)) for one in (trace, tall)]
    assert sizes[1][0] > sizes[1][1] and sizes[1][1] < 200, sizes


def test_the_joint_of_two_masks_says_who_is_nearer():
    """Mutant: one fact that is the same for all, and "equal here" above both."""
    facts = [tuple(recorded(name).facts.values()) for name in ("joint-sampling.sample", "joint-sampling.sample.beside")]
    assert [one["won"] for one in headline(facts)] == ["best", ""]


@pytest.mark.parametrize("name", ["illama", "vit", "sparsifiner"])
def test_a_probability_of_an_answer_that_may_be_wrong_wins_nothing(name):
    """A rocket called a lighthouse with more confidence was "best here"."""
    assert recorded(name).facts["answer"].better == ""


def test_work_that_was_not_counted_is_not_said():
    trace = samples.attend()
    none = replace(trace, steps=tuple(replace(step, cost=Cost()) for step in trace.steps))
    some = replace(trace, steps=tuple(replace(step, cost=Cost(1, 5, 700)) for step in trace.steps))
    assert "multiply-adds" not in str(nodes.strip(none, (some,), {}))
    assert "multiply-adds" in str(nodes.strip(some, (), {})) and "against 0" not in str(nodes.strip(some, (none,), {}))


@pytest.mark.parametrize("name", ["joint-sampling.sample", "mdm.sample", "lantern", "mtp-future.attend", "mto.attend",
                                  "lut"])
def test_names_under_a_chart_do_not_run_into_each_other(name):
    """Adjacent names that stand level leave a gap; where they would not, they stand upright or are thinned out."""
    for chart in recorded(name).charts:
        if chart.kind not in ("matrix", "bar") or not chart.ticks:
            continue
        axis, rows = figure(chart).layout.xaxis, max((len(row) for row in chart.rows), default=0)
        room = 28 - max(0, rows - 8) if chart.kind == "matrix" else 44
        shown = axis.tickvals if axis.tickvals is not None else range(len(chart.ticks))
        if axis.autotickangles is not None:  # Plotly turns them where they would touch
            assert len(shown) * 2 <= room + 1
            continue
        names = figure(chart).data[0].x if chart.kind == "matrix" else chart.ticks
        wide = [max(map(len, names[place].split("<br>"))) for place in shown]
        slot = room / len(wide)
        assert all(min(a, 12) / 2 + min(b, 12) / 2 <= slot + 1 for a, b in zip(wide, wide[1:])), chart.title


@pytest.mark.browser
def test_a_dark_picture_is_no_hole_in_a_dark_page(window, paper_page):
    """A scene's ground is as dark as a dark page: its cells had no edge."""
    trace = samples.unmask()
    known = np.full(trace.canvas.size, CODE["known"], np.uint8)
    ground = np.full((64, 64, 3), (29, 29, 34), np.uint8)
    step = replace(trace.steps[-1], state=known, picture=ground)
    drawing = draw(replace(trace, steps=(*trace.steps[:-1], step), sentence=""))

    def look(page):
        page.evaluate("shown.go(shown.total - 1)")
        page.wait_for_timeout(300)
        return page.evaluate("""() => {
          const view = shown.views[0], [x, y, w, h] = view.rectangle(0), pen = view.canvas.getContext("2d");
          const row = pen.getImageData(0, Math.round(h / 2), Math.round(w), 1).data;
          return Math.max(...row) - row[4 * Math.round(w / 2)];
        }""")
    assert window.look(paper_page(drawing), look, color_scheme="dark") > 20


@pytest.mark.browser
def test_a_curve_of_one_run_counts_its_own_steps(window, paper_page):
    """VAR draws 6 maps; beside a run of 16 rows its curve said "step 16"."""
    few, many = samples.unmask(steps=4), samples.unmask(steps=9)
    few, many = (replace(trace, charts=tuple(replace(chart, title=f"{chart.title}, {n}") for chart in trace.charts))
                 for n, trace in enumerate((few, many)))
    ends = window.look(paper_page(draw(few), draw(many)), lambda page: page.evaluate("""() =>
      [...document.querySelectorAll(".ts-plot")].map((plot) => plot.querySelector("text:last-of-type").textContent)"""))
    assert {"step 4", "step 9"} == set(ends)


def test_a_square_of_a_board_is_no_part_of_a_word():
    """The maze's ways read "…b1" and "…a2"."""
    assert nodes.choices(("b1", "a2"), "board") == ["b1", "a2"] and nodes.choices(("ing",), "text") == ["…ing"]


def test_who_chooses_patches_for_a_question_is_told_the_question(monkeypatch):
    """VFlowOpt's turn asked for patches and did not say what for."""
    subject = SimpleNamespace(kind="question", text="red circle, small pink ring. What colour is the small thing?")
    monkeypatch.setattr(turns.session, "job", lambda ask: SimpleNamespace(subject=subject))
    assert turns.asks("Choose the patches", None) == "Choose the patches. The question: What colour is the small thing?"
