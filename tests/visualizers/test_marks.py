"""What a frame becomes: hidden tokens hide, numbers get their place on one shared scale, nothing is invented."""

from dataclasses import replace

import numpy as np
import pytest

from models.trace import CODE, STATES, Canvas, Field, MaskTrace, Step
from tests import samples
from visualizers import draw
from visualizers.drawing import palette
from visualizers.drawing.canvas import candidates
from visualizers.drawing.marks import Scale, cells, number_codes, resolved
from visualizers.export.pixels import pieces


def grid(*states: str, numbers=None, picture=True) -> MaskTrace:
    fields = {} if numbers is None else {"loss": Field("Loss", "squared")}
    values = {} if numbers is None else {"loss": np.asarray(numbers, float)}
    step = Step("one", np.array([CODE[s] for s in states], np.uint8), fields=values,
                picture=samples.picture(8) if picture else None)
    return MaskTrace("m", Canvas("grid", ("",) * len(states), (1, len(states))), (step,), fields=fields)


def shows_through(marks) -> list[int]:
    """Tokens whose own picture can be seen."""
    return [mark.token for mark in marks if mark.fill is None or mark.share < 1]


def test_hidden_cells_cover_their_picture():
    marks = cells(draw(grid("masked", "visible", "unknown", "new", "masked-hard")), 0, "state")
    assert shows_through(marks) == [1, 3]
    tinted = [replace(mark, share=0.5) for mark in marks]  # the mutant: a tint where a cover is needed
    assert shows_through(tinted) != [1, 3]


def test_a_known_cell_shows_its_picture_untinted():
    mark = cells(draw(grid("masked", "known")), 0, "state")[1]
    assert mark.fill is None and mark.share == 0


@pytest.mark.parametrize("dark", [False, True])
def test_no_state_covers_what_it_marks(dark):
    """Fault 7: blue, orange and green washes over scenes of the same hues. Only a cell without content is filled."""
    trace = grid(*STATES, numbers=np.arange(len(STATES)))
    for mark, name in zip(cells(draw(trace), 0, "state", dark), STATES):
        assert (mark.fill is None) == (not palette.LOOKS[name].hides), name
        assert mark.fill is None or mark.fill == palette.COVER["dark" if dark else "light"]
    tinted = cells(draw(trace), 0, "loss", dark)
    assert all(mark.fill and mark.share <= 0.5 for mark in tinted)


@pytest.mark.parametrize("dark", [False, True])
def test_an_empty_place_in_a_text_stays_to_be_seen_under_a_number(dark):
    """Mutant: a scale's low end at a twelfth over a dark page, as good as nothing."""
    step = Step("one", np.array([CODE["masked"], CODE["visible"]], np.uint8), fields={"n": np.zeros(2)})
    text = MaskTrace("m", Canvas("text", ("a ", "b ")), (step,), fields={"n": Field("Number", "", 0.0, 1.0)})
    hidden, seen = cells(draw(text), 0, "n", dark)
    assert hidden.share == 1 > seen.share and hidden.fill != seen.fill


def test_picture_only_takes_every_mark_away_but_uncovers_nothing():
    marks = cells(draw(grid("new", "refused", "dropped", "masked-hard")), 0, "picture")
    assert [mark.cue for mark in marks] == [""] * 4 and [mark.fade for mark in marks] == [1.0] * 4
    assert shows_through(marks) == [0, 1, 2]


@pytest.mark.parametrize("tab", ["unmask", "sample", "mask"])
def test_a_generation_ends_without_marks(tab):
    trace = samples.all_tabs()[tab]
    drawing, still = draw(trace), draw(replace(trace, sentence=""))
    last = len(drawing.frames) - 1
    ran = len(trace.steps) - 1
    assert drawing.frames[-1].clean and not any(frame.clean for frame in still.frames)
    for by in ("state", "auto", *drawing.fields):
        assert not any(mark.cue and mark.cue != "given" for mark in cells(drawing, last, resolved(drawing, last, by)))
    assert any(mark.cue for mark in cells(drawing, ran, "state"))  # the mutant: the run's own last step


def test_what_a_mask_run_rebuilt_is_what_it_ends_on():
    trace = samples.mask()
    judged = replace(trace.steps[1], label="the error")  # shows the original again
    drawing = draw(replace(trace, steps=(*trace.steps, judged)))
    assert drawing.picture(5) is trace.steps[2].picture
    assert drawing.frames[4].label == "the original" and drawing.picture(4) is trace.canvas.picture


def test_every_token_answers_with_the_candidates_of_its_birth():
    """Fault 4: on the last step one token of 65 had rivals."""
    drawing = draw(samples.sample())
    for step, frame in enumerate(drawing.frames):
        for token in np.flatnonzero(np.isin(frame.state, [CODE["new"], CODE["known"]])):
            at, lists = drawing.candidates(step, int(token))
            drawn = [found.picked(int(token)) for found in lists.values()]
            assert drawn and min(drawn) >= 0 and at <= step, (step, token)
            for found in lists.values():
                assert found.picked(int(token)) in found.ids[np.flatnonzero(found.positions == token)[0]]


def test_a_drawn_id_outside_the_list_joins_it_with_its_own_probability():
    trace = samples.sample()
    found = next(iter(trace.steps[0].distributions.values()))
    rare = np.argmin(found.logits[0])
    lse = np.log(np.exp(found.logits.astype(np.float32)).sum(1))
    for kept in (True, False):
        drawn = replace(found, chosen=np.full(len(found.positions), rare, np.int32), lse=lse,
                        logits=found.logits if kept else None)
        shown = candidates(drawn)
        assert shown.ids[0, -1] == rare
        wanted = np.exp(found.logits[0, rare].astype(np.float32) - lse[0])
        assert shown.probs[0, -1] == pytest.approx(wanted, rel=1e-2) if kept else np.isnan(shown.probs[0, -1])


def test_without_a_picture_a_known_cell_has_plain_ink():
    mark = cells(draw(grid("masked", "known", picture=False)), 0, "state")[1]
    assert mark.fill == palette.colour("known") and mark.share == 1


def test_a_dropped_token_fades_to_a_quarter():
    mark = cells(draw(grid("masked", "dropped")), 0, "state")[1]
    assert mark.fade == 0.25 and mark.cue == "hatch"


def test_numbers_take_the_ends_of_the_scale_and_nan_nothing():
    drawing = draw(grid("masked", "visible", "visible", numbers=[2.0, 4.0, np.nan], picture=False))
    marks = cells(drawing, 0, "loss")
    ramp = palette.ramp()
    assert [m.fill for m in marks] == [palette.hexed(ramp[0]), palette.hexed(ramp[-1]), None]


def test_a_field_a_step_does_not_carry_is_undefined_not_zero():
    trace = samples.mask()
    drawing = draw(trace)
    assert set(number_codes(drawing, 0, "loss")) == {palette.NOTHING}
    assert (number_codes(drawing, 2, "loss") != palette.NOTHING).sum() == 48


def test_a_shared_scale_moves_both_pictures():
    own = Scale("Loss", "squared", 0.0, 1.0)
    wide = own.widened(Scale("Loss", "squared", 0.0, 2.0))
    drawing = draw(grid("masked", "visible", numbers=[0.0, 1.0], picture=False))
    assert number_codes(drawing, 0, "loss").tolist() == [0, 254]
    assert number_codes(drawing, 0, "loss", wide).tolist() == [0, 127]  # half of the common range


def test_diverging_fields_are_symmetric_about_zero():
    trace = grid("masked", "visible", numbers=[-1.0, 3.0])
    trace = replace(trace, fields={"loss": Field("Loss", "", diverging=True)})
    scale = draw(trace).fields["loss"]
    assert (scale.low, scale.high) == (-3.0, 3.0)


def test_attention_row_is_that_of_layer_head_and_query():
    trace = samples.attend()
    drawing = draw(trace, layer=1, head=2, query=20)
    row = trace.rows.row(1, 2, 20)
    codes = number_codes(drawing, 0, "attention:row")
    assert codes[21:].max() == 0  # causal: nothing after the query
    assert np.argmax(codes) == np.argmax(row)
    assert np.abs(codes / 254 * row.max() - row).max() < row.max() / 200
    other = number_codes(draw(trace, layer=1, head=3, query=20), 0, "attention:row")  # the mutant: another head
    assert not np.array_equal(codes, other)


def test_mean_over_heads_is_a_mean_of_probabilities_not_of_codes():
    trace = samples.attend()
    drawing = draw(trace, layer=0, head=-1, query=30)
    mean = np.mean([trace.rows.row(0, head, 30) for head in range(4)], axis=0)
    shown = number_codes(drawing, 0, "attention:row") / 254 * mean.max()
    assert np.abs(shown - mean).max() < mean.max() / 100
    naive = trace.rows.weights[0, :, 30].mean(0) / 255 * mean.max()  # the mutant: each head scaled to its own peak
    assert np.abs(naive - mean).max() > mean.max() / 20


def test_a_query_without_a_row_shows_nothing():
    trace = samples.attend()
    stored = replace(trace.rows, queries=trace.rows.queries[:3], weights=trace.rows.weights[:, :, :3],
                     scale=trace.rows.scale[:, :, :3])
    drawing = draw(replace(trace, rows=stored), query=40)
    assert set(number_codes(drawing, 0, "attention:row")) == {palette.NOTHING}


def test_statistics_of_queries_without_a_row_stay_undefined():
    trace = samples.attend()
    holes = trace.heads.entropy.copy()
    holes[:, :, 5] = np.nan
    drawing = draw(replace(trace, heads=replace(trace.heads, entropy=holes)))
    assert number_codes(drawing, 0, "attention:entropy")[5] == palette.NOTHING


def test_a_step_about_a_number_is_coloured_by_it():
    drawing = draw(samples.mask())
    assert [resolved(drawing, i, "auto") for i in range(3)] == ["state", "state", "state"]
    fields = {"predicted": samples.mask().steps[1].fields["predicted"]}
    first = replace(samples.mask().steps[0], fields=fields)
    trace = replace(samples.mask(), steps=(first, *samples.mask().steps[1:]))
    assert resolved(draw(trace), 0, "auto") == "predicted"


@pytest.mark.parametrize("tab", ["mask", "attend", "prune", "unmask", "sample"])
def test_one_mark_per_token_in_order(tab):
    trace = samples.all_tabs()[tab]
    drawing = draw(trace)
    for step in range(len(trace.steps)):
        assert [mark.token for mark in cells(drawing, step)] == list(range(trace.canvas.size))


def pyramid() -> MaskTrace:
    """A map of one cell above a map of four, each with its own colour behind it."""
    canvas = Canvas("pyramid", ("",) * 5, positions=np.array([[1, 0.5], [0.5, 2], [1.5, 2], [0.5, 3], [1.5, 3]]))
    picture = np.full((70, 70, 3), 9, np.uint8)
    return MaskTrace("m", canvas, (Step("one", np.full(5, CODE["known"], np.uint8), picture=picture),
                                   Step("two", np.full(5, CODE["masked"], np.uint8))))


def test_a_pyramid_is_made_of_squares_that_fill_the_panel():
    layout = draw(pyramid()).layout
    assert layout.kind == "places" and layout.cell == pytest.approx(1 / 3.5)
    low, high = layout.xy.min(0) - layout.cell / 2, layout.xy.max(0) + layout.cell / 2
    assert (low[1], high[1]) == pytest.approx((0, 1)) and low[0] == pytest.approx(1 - high[0])
    assert np.abs(layout.xy[1] - layout.xy[2]).max() == pytest.approx(layout.cell), "neighbours touch"


def test_only_places_show_the_picture():
    drawing = draw(pyramid())
    cut = pieces(drawing.picture(0), drawing.layout, [0, 4], "#ffffff")
    seen = (cut == 9).all(-1)
    assert seen.sum() == 2 * 20 * 20 and seen[5, 35] and seen[60, 40] and not seen[60, 20] and not seen[5, 5]
