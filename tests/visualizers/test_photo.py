"""A photo is shown as sharp as it came where nobody painted; what a model painted keeps its own pixels."""

from dataclasses import replace

import numpy as np
import pytest

from models.backbones.pictures import square
from models.engine.events import Open
from models.engine.sharp_photo import sharpened
from models.trace import TraceError
from models.trace.photo import encoded, sharp
from models.trace.serialize import load, save
from models.trace.subject import from_image
from tests import samples
from visualizers import draw
from visualizers.drawing.canvas import own_cells
from visualizers.export.pixels import sharpest


def seen():
    """A mask record whose photo came with 256 pixels a side."""
    large = samples.picture(256)
    large[..., 0] = np.arange(256)  # no two columns alike
    trace, small = samples.mask(), square(large, 64)
    canvas = replace(trace.canvas, picture=small, photo=encoded(large))
    painted = small.copy()
    painted[:8, 8:16] = 7
    steps = (replace(trace.steps[0], picture=small), replace(trace.steps[1], picture=painted))
    return replace(trace, canvas=canvas, steps=(*steps, *trace.steps[2:])), large


def test_a_canvas_keeps_the_photo_and_only_where_it_is_the_same():
    large = samples.picture(256)
    canvas = replace(samples.mask().canvas, picture=square(large, 64))
    event, subject = Open("mask", canvas), from_image(large)
    kept = sharp(sharpened(event, subject).canvas)
    assert kept.shape == (256, 256, 3) and np.abs(kept.astype(int) - large).mean() < 6
    other = replace(canvas, picture=canvas.picture[::-1].copy())
    assert sharpened(Open("mask", other), subject).canvas.photo is None, "turned on the way"
    assert sharpened(event, from_image(square(large, 64))).canvas.photo is None, "nothing sharper is known"


def test_a_trace_carries_it_and_old_ones_open_without():
    trace, _ = seen()
    again = load(save(trace))
    assert np.array_equal(again.canvas.photo, trace.canvas.photo)
    old = save(replace(trace, canvas=replace(trace.canvas, photo=None))).replace(', "photo": null', "")
    assert '"photo"' not in old and load(old).canvas.photo is None


@pytest.mark.parametrize("file", [np.zeros(40, np.uint8), encoded(samples.picture(300)), np.zeros(300_000, np.uint8)])
def test_a_hostile_photo_is_refused_in_a_sentence(file):
    trace, _ = seen()
    with pytest.raises(TraceError, match="cannot be read as a picture"):
        draw(replace(trace, canvas=replace(trace.canvas, photo=file)))


def test_painted_cells_are_told_from_the_visitors_own():
    trace, large = seen()
    assert own_cells(trace.canvas, trace.steps[0].picture).all()
    own = own_cells(trace.canvas, trace.steps[1].picture)
    assert np.flatnonzero(~own).tolist() == [1]
    drawing = draw(trace)
    shown = sharpest(drawing, 1, drawing.picture(1))
    assert (shown[:32, 32:64] == 7).all() and np.array_equal(shown[40:, :], drawing.layout.photo[40:, :])


@pytest.mark.browser
def test_the_browser_lays_the_photo_under_the_marks_and_leaves_painted_cells_crisp(window, paper_page):
    drawing = draw(seen()[0], by="state")

    def look(page):
        page.wait_for_function("shown.drawings[0].images.filter(i => i && i.complete && i.naturalWidth).length >= 2")
        page.evaluate("shown.undress(true); shown.go(1)")
        return page.evaluate("""() => { const c = shown.views[0].canvas, at = c.getContext('2d');
          const row = y => [...at.getImageData(0, Math.round(y * c.height), c.width, 1).data];
          return [row(0.06), row(0.42), c.width]; }""")
    painted, own, width = window.look(paper_page(drawing), look)
    inside = np.array(painted).reshape(-1, 4)[int(width * 0.14):int(width * 0.235), :3]
    assert (inside == 7).all(), "what was painted is no longer crisp"
    assert not (np.array(own).reshape(-1, 4)[2:-2, 3] < 255).any(), "a picture without marks has hairlines"
    colours = len(np.unique(np.array(own).reshape(-1, 4), axis=0))
    assert colours > 70, f"{colours} colours in a row: no more than 64 pixels were drawn"
