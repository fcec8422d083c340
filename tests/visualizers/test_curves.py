"""Plotly figures: the right charts, escaped texts, small data."""

import json
from dataclasses import replace

import numpy as np

from models.trace import Chart
from tests import samples
from visualizers.drawing.curves import figure, figures


def test_lines_over_steps_are_left_to_the_player():
    assert len(figures(samples.prune())) == 1 and figures(samples.unmask()) == []


def test_the_baselines_series_stand_beside():
    mine = samples.prune()
    other = replace(mine, charts=tuple(raised(chart) for chart in mine.charts))
    both = figures(mine, other)[0]
    assert len(both.data) == 2 and both.data[1].name.startswith("lazyllm")


def raised(chart: Chart) -> Chart:
    """A chart of the same series, all higher."""
    return replace(chart, series={name: values + 1 for name, values in chart.series.items()})


def test_a_series_of_both_is_drawn_once_and_says_so():
    """Mutant: every series of the baseline again, as bars and marks that say nothing new."""
    points = np.array([[0.0, 1.0], [1.0, np.nan]])
    chart = Chart("scatter", "t", "x", "y", {"notes": points, "texts": points + 1})
    moved = replace(chart, series={"notes": points, "texts": points + 2})
    assert [one.name for one in figure(chart, moved, ("A", "B")).data] == ["notes (both)", "texts", "B: texts"]
    apart = figure(chart, raised(chart), ("A", "B")).data
    assert len(apart) == 4 and len({one.marker.symbol for one in apart}) == 4, "one colour, so other marks"


def test_markup_in_labels_is_escaped():
    bad = "<b>x</b><a href='https://a'>"
    chart = Chart("bar", bad, bad, bad, {bad: np.array([1.0])}, ticks=(bad,), caption=bad)
    drawn = json.loads(figure(chart, chart, (bad, bad)).to_json())
    assert drawn["layout"].pop("meta")["title"] == bad, "for the page, which writes it as text"
    assert "<a" not in json.dumps(drawn) and "<b>x" not in json.dumps(drawn)


def test_words_that_look_like_numbers_are_names():
    """Mutant: the axis left to Plotly, which draws "right" nowhere once most of the words are figures."""
    bar = figure(Chart("bar", "t", "word", "y", {"s": np.arange(3.0)}, ticks=("right", "2", "3")))
    matrix = figure(Chart("matrix", "t", "x", "y", {"s": np.eye(2)}, ticks=("1", "2"), rows=("7", "8")))
    numbered = figure(Chart("bar", "t", "layer", "y", {"s": np.arange(3.0)}))
    assert bar.layout.xaxis.type == matrix.layout.xaxis.type == matrix.layout.yaxis.type == "category"
    assert numbered.layout.xaxis.type is None


def test_a_matrix_says_what_its_rows_are():
    """The axis to the left has no title: nobody knew that 0 to 6 were layers."""
    said = figure(Chart("matrix", "t", "head", "layer", {"s": np.eye(2)}, caption="Means.")).layout.meta["under"]
    assert said == "layer down · Means."
    assert figure(Chart("matrix", "t", "head", "", {"s": np.eye(2)}, caption="Means.")).layout.meta["under"] == "Means."


def test_hover_templates_read_no_braces_from_labels():
    bar = figure(Chart("bar", "t", "x", "%{customdata}", {"s": np.array([1.0])})).data[0]
    assert bar.hovertemplate.count("%{") == 2


def test_large_matrices_are_sent_as_codes():
    values = np.random.default_rng(0).random((200, 300))
    text = figure(Chart("matrix", "m", "x", "y", {"v": values})).to_json()
    assert len(text) < 120_000
    plain = json.dumps(values.round(5).tolist())
    assert len(plain) > 4 * len(text)


def test_names_stand_level_and_a_still_line_is_not_blown_up():
    names = tuple(f"a long name, number {n}" for n in range(12))
    bar = figure(Chart("bar", "t", "x", "y", {"s": np.arange(12.0)}, ticks=names))
    assert bar.layout.xaxis.tickangle == 0 and 1 < len(bar.layout.xaxis.tickvals) < 12
    assert all(len(line) <= 12 for line in bar.data[0].x[0].split("<br>"))
    short, long = (Chart("bar", "t", "x", "y", {"s": np.arange(float(len(names)))}, ticks=tuple(names)) for names in
                   ("ab", ("a", "diamond", "yellow", "square", "orange", "circle", "violet", "purple")))
    assert figure(short, long).layout.xaxis.autotickangles == (0, -90), "the baseline's names need room, too"
    sizes = tuple(f"{n} x {n}" for n in (1, 2, 3, 4, 6, 8))
    maps = figure(Chart("matrix", "m", "x", "y", {"v": np.eye(6)}, ticks=sizes, rows=sizes))
    assert not any("<br>" in name for name in maps.data[0].x), "no size is torn apart"
    layers, many = (figure(Chart("line", "t", "x", "y", {"s": np.array([[1, 2.0], [end, 3.0]])})) for end in (3, 40))
    assert layers.layout.xaxis.dtick == 1 and many.layout.xaxis.dtick is None, "there is no layer 1.5"
    still, moves = (figure(Chart("line", "t", "x", "y", {"s": np.array([[0, 2.0], [1, high]])})) for high in (2.01, 3))
    assert still.layout.yaxis.rangemode == "tozero" and moves.layout.yaxis.rangemode is None
    dots = figure(Chart("scatter", "t", "surprise of the table of word pairs (nats)", "y",
                        {"s": np.full((9, 2), 6e-4)}))
    assert dots.layout.yaxis.range[1] >= 0.01, "millionths are no news either"
    assert max(map(len, dots.layout.xaxis.title.text.split("<br>"))) <= 30


def test_every_column_of_a_narrow_matrix_has_its_name_and_a_legend_fits_its_card():
    """Of four columns beside long rows the first and the last were named, over each other."""
    rows, names = tuple(f"layer {i}, head 1" for i in range(6)), ("same symbol, earlier", "what followed it", "itself")
    drawn = figure(Chart("matrix", "t", "on", "", {"share": np.ones((6, 3))}, ticks=names, rows=rows))
    axis = drawn.layout.xaxis  # level on a wide page, upright on a narrow one, never slanted
    assert axis.autotickangles == (0, -90) and axis.tickvals is None and drawn.layout.height > 300
    heads = figure(Chart("matrix", "t", "head", "", {"nats": np.ones((2, 4))}, ticks=[f"head {i}" for i in range(4)],
                         rows=("layer 1", "layer 2")))
    assert list(heads.data[0].x) == [f"{i}" for i in range(4)] and heads.layout.xaxis.tickangle == 0
    line = {"teacher at -7.3 nats": np.array([[0.0, 1.0], [1.0, 2.0]])}
    one = Chart("line", "l", "x", "y", line)
    both = figure(one, raised(one), ("A", "Trained on bytes"))
    assert all(len(part) <= 30 for one in both.data for part in one.name.split("<br>")) and "<br>" in both.data[1].name


def test_a_word_of_all_names_is_left_to_the_axis_and_a_run_of_one_name_is_written_once():
    """Mutants: `head 1` to `head 4` over each other under a small matrix; `A rocket` at four of its 16 patches."""
    heads = Chart("matrix", "t", "head", "layer", {"s": np.eye(4)}, tuple(f"head {n}" for n in range(1, 5)))
    drawn = figure(heads)
    assert list(drawn.data[0].x) == ["1", "2", "3", "4"] and drawn.layout.xaxis.tickvals is None
    assert drawn.data[0].hovertemplate.startswith("%{y}, head %{x}")
    names = ("rocket",) * 4 + ("grass",) * 4
    runs = figure(Chart("matrix", "t", "x", "y", {"s": np.eye(8)}, names, names)).layout
    assert list(runs.yaxis.tickvals) == [2, 6]


def test_names_use_the_room_that_there_is_and_a_long_legend_gets_its_own():
    """Mutants: lines of twelve letters under two bars; eight keys that push the plot away; other names at the twin."""
    names = ("the guess", "the encoder's own features")
    chart = Chart("bar", "t", "x", "y", {"s": np.arange(2.0)}, names)
    assert figure(chart, many=1).data[0].x[0] == "the guess" and "<br>" not in figure(chart, many=1).data[0].x[1][:13]
    few = replace(chart, ticks=names[1:], series={"s": np.arange(1.0)})
    assert figure(chart, few, ("A", "B")).data[1].x[0] == figure(chart).data[0].x[1]
    points = {f"a series of some length {n}": np.eye(2) for n in range(8)}
    tall, small = (figure(Chart("scatter", "t", "x", "y", dict(list(points.items())[:n]))).layout.height
                   for n in (8, 1))
    assert tall - small > 8 * 15


def test_lines_of_the_baseline_are_told_apart():
    line = np.array([[0.0, 1.0], [1.0, 2.0]])
    chart = Chart("line", "l", "x", "y", {"a": line, "b": line + 1, "c": line + 2})
    looks = {(one.line.color, one.line.dash) for one in figure(chart, raised(chart), ("Mine", "Other")).data}
    assert len(looks) == 6


def test_bars_that_stand_alone_take_the_whole_place():
    """Mutant: half of the room kept free for a series that has nothing at that place."""
    gone = np.nan
    bar = [figure(Chart("bar", "t", "x", "y", {"trained": np.array([1.0, gone]), "counted": np.array([other, 2.0])},
                        ticks=("4", "16"))).layout.barmode for other in (gone, 1.0)]
    assert bar == ["overlay", "group"]


def test_long_names_in_a_legend_fit_a_phone():
    chart = Chart("bar", "t", "x", "y", {"words of one topic": np.arange(2.0)}, ticks=("4", "16"))
    names = [one.name for one in figure(chart, raised(chart), ("A", "Scan and Snap, its decoder frozen")).data]
    assert len(names) == 2 and all(len(line) <= 30 for name in names for line in name.split("<br>"))


def test_columns_with_equal_names_stay_apart():
    chart = Chart("matrix", "m", "x", "y", {"v": np.eye(3)}, ticks=("the", "cat", "the"), rows=("a", "b", "c"))
    assert len(set(figure(chart).data[0].x)) == 3


def test_every_kind_draws():
    line = np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 3.0]])
    for chart in (Chart("line", "l", "x", "y", {"a": line, "b": line}, reference=1.0),
                  Chart("scatter", "s", "x", "y", {"a": line}), Chart("bar", "b", "x", "y", {"a": line[:, 1]}),
                  Chart("matrix", "m", "x", "y", {"a": line - 1})):
        for dark in (False, True):
            assert figure(chart, chart, ("a", "b"), dark).to_json()
