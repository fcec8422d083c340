"""Runs beside each other show one moment: aligned by names, by layers, by ends, or by the share of the run."""

from dataclasses import replace

import pytest

from tests import samples
from visualizers import draw
from visualizers.drawing.marks import number_scale
from visualizers.export.figure import at_step

pytestmark = pytest.mark.browser


def test_runs_are_aligned_by_the_names_of_their_steps(window, paper_page):
    trace = samples.mask()
    shorter = replace(trace, steps=trace.steps[1:], method="mae")  # has no first step of that name
    drawings = draw(trace), draw(shorter)
    shown = window.look(paper_page(*drawings), lambda page: page.evaluate(
        "[0, 1, 2].map(i => shown.drawings[1].at(i))"))
    assert shown == [0, 0, 1] == [at_step(drawings[1], i, drawings[0]) for i in range(3)]
    assert number_scale(drawings[1], "loss") is not None
    first = trace.steps[1]  # a step without a namesake stands as far between those that have one
    drawings = [draw(replace(trace, steps=tuple(replace(first, label=name) for name in names)))
                for names in ("abcde", "axye")]
    shown = window.look(paper_page(*drawings), lambda page: page.evaluate(
        "[0, 1, 2, 3, 4].map(i => shown.drawings[1].at(i))"))
    assert shown == [0, 0, 1, 2, 3] == [at_step(drawings[1], i, drawings[0]) for i in range(5)]


def test_a_stage_of_a_layer_stands_beside_that_layer(window, paper_page):
    """Sparsifiner's "layer 1: missed" stood beside the layer before it."""
    trace = samples.mask()
    mine, theirs = (replace(trace, steps=tuple(replace(trace.steps[n % 3], label=name) for n, name in enumerate(names)))
                    for names in (("start", "layer 1: guess", "layer 1: missed", "layer 1", "layer 2"),
                                  ("start", "layer 1", "layer 2")))
    drawings = draw(mine), draw(theirs)
    shown = window.look(paper_page(*drawings), lambda page: page.evaluate(
        "[0, 1, 2, 3, 4].map(i => shown.drawings[1].at(i))"))
    assert shown == [0, 1, 1, 1, 2] == [at_step(drawings[1], i, drawings[0]) for i in range(5)]


def test_the_end_stands_beside_the_end(window, paper_page):
    """VFlowOpt's last layers stood beside "what enters" of the baseline, whose one step of all layers is named so."""
    trace = samples.attend()
    mine, theirs = (replace(trace, steps=tuple(replace(trace.steps[0], label=name) for name in names.split("; ")))
                    for names in ("picture; enters; layers 1-3; layers 4-6; layers 7-8", "picture; enters; layers 1-8"))
    drawings = draw(mine), draw(theirs)
    shown = window.look(paper_page(*drawings), lambda page: page.evaluate(
        "[0, 1, 2, 3, 4].map(i => shown.drawings[1].at(i))"))
    assert shown == [0, 1, 2, 2, 2] == [at_step(drawings[1], i, drawings[0]) for i in range(5)]


def test_the_end_of_a_text_stands_beside_the_end_of_a_longer_one(window, paper_page):
    """HLP ended after 14 words, and the text beside it, 12 words too long, never came further than those 14."""
    steps = samples.sample().steps
    mine, theirs = (replace(samples.sample(), steps=tuple(replace(step, label=name) for step, name in
                                                          zip(steps, names.split("; "))))
                    for names in ("1: a; 2: b; 3: end", "1: a; 2: b; 3: c; 4: d; 5: e"))
    drawings = draw(mine), draw(theirs)
    assert [drawing.frames[-1].clean for drawing in drawings] == [True, True]
    shown = window.look(paper_page(*drawings), lambda page: page.evaluate(
        "[0, 1, 2, 3].map(i => shown.drawings[1].at(i))"))
    assert shown == [0, 1, 4, 5] == [at_step(drawings[1], i, drawings[0]) for i in range(4)]


def test_a_name_of_many_steps_aligns_nothing(window, paper_page):
    """A refused trial of the baseline stood beside the end of a run: the last of several branches had its name."""
    trace = samples.sample()
    steps = trace.steps
    many = replace(trace, steps=tuple(replace(step, label=("branch", "trial 1")[n % 2]) for n, step in
                                      enumerate(steps[:7])))
    few = replace(trace, steps=tuple(replace(step, label=name) for step, name in
                                     zip(steps, ("branch", "trial 1", "trial 2"))))
    drawings = draw(many), draw(few)
    total = len(drawings[0].frames)
    shown = window.look(paper_page(*drawings), lambda page: page.evaluate(
        f"Array.from({{length: {total}}}, (_, i) => shown.drawings[1].at(i))"))
    assert shown == [at_step(drawings[1], i, drawings[0], total) for i in range(total)]
    assert shown[-2:] == [2, 3], "the last step stands beside the last, the clean end beside the clean end"


def test_runs_of_equal_length_stay_in_step(window, paper_page):
    trace = samples.unmask(steps=4)
    renamed = replace(trace, steps=(*trace.steps[:2], replace(trace.steps[2], label="other"), trace.steps[3]))
    shown = window.look(paper_page(draw(trace), draw(renamed)), lambda page: page.evaluate(
        "[0, 1, 2, 3].map(i => shown.drawings[1].at(i))"))
    assert shown == [0, 1, 2, 3] == [at_step(draw(renamed), i, draw(trace)) for i in range(4)]


def test_a_run_opens_on_its_own_moment_whatever_stands_beside_it(window, paper_page):
    """A method of 5 steps beside a baseline of 17 opened at step 5 of 17, where it had hardly begun."""
    short, long = (draw(samples.unmask(steps=n)) for n in (5, 17))
    for start in (2, 4):
        mine = replace(short, view={**short.view, "start": start})
        at = window.look(paper_page(mine, long), lambda page: page.evaluate("shown.drawings[0].at(shown.step)"))
        assert at == start


def test_runs_of_other_lengths_show_the_same_share_of_the_run(window, paper_page):
    """Mutant: steps of the same number, so that the short run is over after a sixth of the long one."""
    def run(steps):
        trace = samples.unmask(steps=steps)
        named = tuple(replace(step, label=f"{step.label} of {steps}") for step in trace.steps)
        return draw(replace(trace, steps=named))
    long, short = run(13), run(4)

    def look(page):
        at = "[0, 4, 8, 12].map(i => shown.drawings[1].at(i))"
        ends = page.evaluate("""[...document.querySelectorAll('.ts-plot')].map((plot) => [
          ...plot.querySelectorAll('path')].map((p) => p.getBBox()).map((box) => Math.round(box.x + box.width)))""")
        page.evaluate("shown.go(4)")
        return page.evaluate(at), ends, page.locator(".ts-panel").all_inner_texts()
    total = max(len(d.frames) for d in (long, short))
    steps, ends, labels = window.look(paper_page(long, short), look)
    assert steps == [at_step(short, i, long, total) for i in (0, 4, 8, 12)] and steps[0] == 0 < steps[1] < steps[2]
    assert all(min(plot) > 0.7 * max(plot) for plot in ends), ends
    own = len([frame for frame in short.frames if not frame.clean])
    assert f"of {own}" in labels[1] and "its step" not in labels[0]
