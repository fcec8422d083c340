"""Graphs: links stand beneath nodes that keep clear of each other; what is not there yet has no lines."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models.trace import CODE, Canvas, Edges, Step, TraceError, UnmaskTrace, states
from models.trace.serialize import load, save
from tests import samples
from visualizers import draw
from visualizers.drawing import graph
from visualizers.drawing.marks import cells
from visualizers.drawing.payload import pack
from visualizers.drawing.thumbnail import thumbnail
from visualizers.export.figure import page

PLACES = np.array([[0, 0], [1, 0], [2, 1.5]])
JOINED = np.array([[0, 1], [1, 2]], np.int32)
JS_GRAPH = """([step, bare]) => { const d = shown.drawings[0], l = d.layout;
  const gone = l.labels.map((_, i) => d.absent(step, i)); return {
  links: linksAt(d, step).map(([a, b]) => [a, b, pathBetween(l, a, b, gone)]), edges: edgesAt(d, step, bare),
  beneath: linksBeneath(d, step, bare), words: l.labels.map((label, i) => fitted(label, l.graph.wide[i], l.cell)),
  here: gone.map((away) => !away) }; }"""


def scattered(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(0, 1, (number, 2))


def collisions(xy, wide, tall) -> int:
    across, down = np.moveaxis(np.abs(xy[:, None] - xy[None]), -1, 0)
    return int(np.sum((across < (wide[:, None] + wide) / 2) & (down < tall))) - len(xy)


# ---- the record

@pytest.mark.parametrize("change, sentence", [
    ({"kind": "list"}, "kind 'graph'"), ({"positions": None}, "with positions"),
    ({"links": JOINED.astype(np.int64)}, "int32"), ({"links": JOINED[:, :1]}, "int32"),
    ({"links": np.array([[0, 3]], np.int32)}, "missing token"),
    ({"links": np.array([[1, 1]], np.int32)}, "with itself"),
    ({"links": None}, "canvas.directed"), ({"positions": PLACES[:2]}, "one row per token"),
    ({"positions": PLACES * np.nan}, "finite")])
def test_links_that_cannot_be_drawn_are_refused(change, sentence):
    good = Canvas("graph", ("a", "b", "c"), positions=PLACES, links=JOINED, directed=True)
    with pytest.raises(TraceError, match=sentence):
        replace(good, **change)


def test_links_survive_a_file_and_old_files_have_none():
    trace = samples.graph(9, directed=True)
    again = load(save(trace)).canvas
    assert np.array_equal(again.links, trace.canvas.links) and again.links.dtype == np.int32 and again.directed
    document = json.loads(save(samples.mask()))
    for name in ("links", "directed"):
        del document["trace"]["canvas"][name]
    old = load(json.dumps(document)).canvas
    assert old.links is None and not old.directed


# ---- where things stand

@pytest.mark.parametrize("number", [1, 2, 8, 20, 40, 70])
def test_no_node_lies_on_another_and_none_leaves_the_panel(number):
    """Mutants: nodes as wide as their labels; nobody moved where two positions nearly coincide."""
    xy, high, tall, wide = graph.nodes(scattered(number), [14] * number)
    assert collisions(xy, wide, tall) == 0
    assert (xy[:, 0] - wide / 2).min() >= 0 and (xy[:, 0] + wide / 2).max() <= 1
    assert (xy[:, 1] - tall / 2).min() >= 0 and (xy[:, 1] + tall / 2).max() <= high
    if number >= 8:
        assert collisions(xy, graph.wished([14] * number, tall), tall) > 0, "the mutant overlaps"


def test_positions_that_have_room_are_kept_as_they_are():
    xy, *_ = graph.nodes(PLACES, [1] * 3)
    unit = (xy - xy.min(0)) / np.ptp(xy, axis=0)
    assert np.allclose(unit, PLACES / PLACES.max(0))


def test_a_phone_can_read_forty_numbers():
    _, _, tall, wide = graph.nodes(samples.graph(40).canvas.positions, [2] * 40)
    assert tall * 340 * 0.54 > 8.5 and all(graph.fitted("37", one, tall) == "37" for one in wide)


@pytest.mark.parametrize("text, wide, shown", [
    ("37", 1.0, "37"), ("the red fox", 1.9, "th…"), ("the red fox", 9, "the red fox"), ("the red fox", 1.2, ""),
    ("月月月月", 2.6, "月月…"), (" a\nb ", 9, "a b")])
def test_a_long_label_is_shortened(text, wide, shown):
    assert graph.fitted(text, wide, 1.0) == shown


def test_what_is_not_there_yet_has_no_lines():
    """A graph grows by steps; a masked node is there, and only its words are hidden."""
    drawing = draw(samples.graph(12, masked=2))
    here = [graph.present(drawing, step) for step in range(len(drawing.frames))]
    assert [int(seen.sum()) for seen in here[:3]] == [4, 7, 10] and here[0][2]
    for step, seen in enumerate(here):
        pairs = graph.links(drawing, step)
        assert all(seen[a] and seen[b] for a, b in pairs)
        assert len(pairs) < len(drawing.layout.links)
    marks = cells(drawing, 2)
    assert marks[2].text == "" and marks[2].fill and marks[1].text and not marks[1].fill


def test_edges_are_marks_but_stay_on_the_finished_graph():
    drawing = draw(samples.graph(12))
    end = len(drawing.frames) - 1
    assert graph.edges(drawing, 1) and not graph.edges(drawing, 1, bare=True)
    assert drawing.frames[end].clean and graph.edges(drawing, end, bare=True) == graph.edges(drawing, end - 1)


def test_a_graph_whose_nodes_were_judged_ends_on_its_verdicts():
    """Mutant: a clean end, on which nothing says what was refused."""
    trace = samples.graph(12)
    *steps, last = trace.steps
    state = last.state.copy()
    state[last.where("new", "known", "visible")[:1]] = CODE["refused"]
    judged = draw(replace(trace, steps=(*steps, replace(last, state=state))))
    assert draw(trace).frames[-1].clean and not judged.frames[-1].clean and len(judged.frames) == len(trace.steps)


def test_the_graph_is_told_in_words():
    assert "A graph of 12 nodes and 13 directed links" in draw(samples.graph(12, directed=True)).alt


def test_a_line_is_bent_around_a_node_that_is_there():
    """Mutant: straight lines, of which three in a row look like one."""
    canvas = Canvas("graph", ("a", "b", "c"), positions=np.array([[0, 1], [1, 1], [2, 1]]), links=JOINED)
    layout = draw(UnmaskTrace("m", canvas, (Step("one", states("known", "known", "known")),))).layout
    there, without = (np.array([True, seen, True]) for seen in (True, False))
    bent, straight = graph.path(layout, 0, 2, there), graph.path(layout, 0, 2, without)
    assert len(straight) == 2 and len(graph.path(layout, 0, 1, there)) == 2
    assert abs(bent[6][1] - layout.xy[1][1]) > layout.cell / 2 and all(0 < y < layout.high for _, y in bent)


# ---- the painters

def lines_of(figure) -> int:
    return sum(len(found.get_paths()) for found in figure.axes[0].collections if found.get_zorder() == 1)


@pytest.mark.parametrize("directed", [False, True])
def test_paper_draws_every_link_and_an_arrow_where_it_has_a_direction(directed):
    drawing = draw(samples.graph(12, directed=directed))
    bare = replace(drawing, layout=replace(drawing.layout, links=drawing.layout.links[:0]))
    count = len(graph.beneath(drawing, 1))
    assert count == len(graph.links(drawing, 1)) - len(graph.edges(drawing, 1))
    assert lines_of(page([drawing], 1)) - lines_of(page([bare], 1)) == count * (1 + directed)


def test_a_thumbnail_shows_the_links():
    drawing = draw(samples.graph(12))
    bare = replace(drawing, layout=replace(drawing.layout, links=drawing.layout.links[:0]))
    assert thumbnail(drawing) != thumbnail(bare)


def test_a_board_has_no_gaps_between_its_cells():
    step = Step("one", states(*["known"] * 4), picture=samples.picture(8))
    boards = [draw(UnmaskTrace("m", Canvas(kind, ("",) * 4, (2, 2)), (step,))) for kind in ("board", "grid")]
    gaps = [sum(found.get_zorder() == 6 for found in page([one], 0).axes[0].collections) for one in boards]
    assert gaps == [0, 1] and [pack(one)["layout"]["seamless"] for one in boards] == [True, False]


@pytest.mark.browser
def test_two_boards_stand_one_under_the_other_on_a_phone(window, paper_page):
    """Mutant: side by side like photos, with squares of 25 pixels."""
    sides, count = {}, "[...document.querySelectorAll('.ts-cells')].map(cells => cells.clientWidth / 6)"
    for kind in ("board", "grid"):
        one = draw(UnmaskTrace("m", Canvas(kind, ("",) * 36, (6, 6)), (Step("s", states(*["known"] * 36)),)))
        sides[kind] = window.look(paper_page(one, one), lambda page: page.evaluate(count), width=390)
    assert len(sides["board"]) == 2 and min(sides["board"]) > 44 > max(sides["grid"])


@pytest.mark.browser
@pytest.mark.parametrize("directed", [False, True])
def test_browser_and_paper_draw_the_same_graph(directed, window, paper_page):
    drawing = draw(samples.graph(20, directed=directed, masked=3))
    asked = [(step, bare) for step in range(len(drawing.frames)) for bare in (False, True)]
    answers = window.look(paper_page(drawing), lambda p: [p.evaluate(JS_GRAPH, list(one)) for one in asked])
    for (step, bare), found in zip(asked, answers):
        assert [tuple(pair[:2]) for pair in found["links"]] == graph.links(drawing, step)
        for a, b, ends in found["links"]:
            line = graph.path(drawing.layout, a, b, graph.present(drawing, step))
            assert np.shape(line) == np.shape(ends) and np.allclose(line, ends, atol=1e-3)
        assert [tuple(pair) for pair in found["beneath"]] == graph.beneath(drawing, step, bare)
        assert {(a, b) for a, b, _ in found["edges"]} == {(a, b) for a, b, _ in graph.edges(drawing, step, bare)}
        assert found["here"] == graph.present(drawing, step).tolist()
        layout = drawing.layout
        assert found["words"] == [graph.fitted(label, round(float(wide), 4), round(layout.cell, 5))
                                  for label, wide in zip(layout.labels, layout.wide)]


@pytest.mark.browser
def test_every_node_is_reached_by_keys_and_names_its_neighbours(window, paper_page):
    """Mutant: a walk that stops at a node that is not there yet."""
    trace = samples.graph(12, directed=True)
    late = trace.steps[0].state.copy()
    late[2] = CODE["unknown"]
    drawing = draw(replace(trace, steps=(replace(trace.steps[0], state=late, edges={}),)))

    def walk(p):
        p.evaluate("shown.go(0)")
        p.locator("[role=option][tabindex='0']").focus()
        seen = []
        for _ in range(3):
            seen.append(p.evaluate("[document.activeElement.dataset.token, document.activeElement.ariaLabel]"))
            p.keyboard.press("ArrowRight")
        return seen, p.locator(".ts-card").inner_text(), p.locator("[data-token='2']").is_visible()
    seen, card, visible = window.look(paper_page(drawing), walk)
    assert [token for token, _ in seen] == ["0", "1", "3"] and not visible
    assert "linked to 1: upon a" in seen[0][1] and "linked from 0: Once" in seen[1][1] and "“1: upon a”" in seen[1][1]
    assert "Linked from" in card


@pytest.mark.browser
def test_words_stay_inside_their_nodes_on_a_phone(window, paper_page):
    """The measured width of every word, as it is painted at 390 pixels, against its node's."""
    drawings = [draw(samples.graph(40)), draw(samples.graph(20))]

    def measure(p):
        return p.evaluate("""() => shown.views.flatMap((view) => { const l = view.drawing.layout;
          const c = view.canvas.getContext('2d');
          return l.labels.map((label, i) => { const [x, y, w, h] = view.rectangle(i);
          c.font = `${(h * 0.54).toFixed(1)}px system-ui, sans-serif`;
          return [c.measureText(fitted(label, l.graph.wide[i], l.cell)).width, w, h]; }); })""")
    found = np.array(window.look(paper_page(*drawings), measure, width=390))
    assert (found[:, 0] <= found[:, 1]).mean() > 0.95 and found[:, 2].min() >= 12


def test_edges_that_leave_and_enter_one_node_are_not_drawn():
    trace = samples.graph(8)
    own = replace(trace.steps[0], edges={"path": Edges(np.array([1, 0]), np.array([1, 1]), np.ones(2))})
    assert graph.edges(draw(replace(trace, steps=(own,))), 0) == [(0, 1, 1.0)]
