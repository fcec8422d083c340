"""The five viewers: words, legends, view options answered from the trace alone."""

from dataclasses import replace

import numpy as np
import pytest

from models.trace import CODE, STATES, Canvas, Cost, Field, Provenance, Step, states
from models.trace.percent import fine_percent
from tests import samples
from visualizers import draw
from visualizers.drawing import palette, sample
from visualizers.drawing.mask import about
from visualizers.drawing.units import tidy


@pytest.mark.parametrize("tab", ["mask", "attend", "prune", "unmask", "sample"])
def test_a_viewer_draws_and_says_what_it_shows(tab):
    trace = samples.all_tabs()[tab]
    drawing = draw(trace, title="A title")
    occurring = {STATES[code] for step in trace.steps for code in np.unique(step.state)}
    assert {state for state, _ in drawing.legend} <= occurring | {palette.QUERY}
    assert drawing.title == "A title" and len([f for f in drawing.frames if not f.clean]) == len(trace.steps)
    assert str(trace.canvas.size) in drawing.alt.replace(",", "") or "by" in drawing.alt
    assert 0 <= drawing.view["start"] < len(trace.steps)


def test_prune_opens_where_somebody_is_missing():
    """Mutant: the last step, where LeMo's loss counts every word again and nothing is marked."""
    trace = samples.prune()
    whole = replace(trace.steps[-1], label="the loss", state=np.full(trace.canvas.size, CODE["known"], np.uint8))
    longer = replace(trace, steps=(*trace.steps, whole))
    assert draw(longer).view["start"] == draw(trace).view["start"] == len(trace.steps) - 1


def test_a_cut_from_which_nobody_leaves_stays_visible():
    """Mutant: a last step "finished" of the picture without the grid that was the point of it."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    canvas = Canvas("grid", ("",) * 4, shape=(2, 2), picture=pixels)
    cut, other = (replace(samples.prune(), canvas=canvas, fields={}, charts=(), steps=tuple(
        Step(f"step {n}", states(*["visible"] * 3, last if n else "visible"), picture=pixels + np.uint8(n),
             cost=Cost(1, 4, 4)) for n in range(2))) for last in ("visible", "dropped"))
    assert not any(frame.clean for frame in draw(cut).frames) and any(frame.clean for frame in draw(other).frames)


def test_where_no_token_is_asked_about_attention_opens_on_what_the_method_paints():
    """Mutant: ViT's last corner asked, though its sentence is about the class token."""
    trace = samples.attend()
    plain = tuple(replace(step, state=np.where(step.state == CODE["new"], CODE["known"], step.state).astype(np.uint8),
                          fields={"cls": np.zeros(trace.canvas.size)}) for step in trace.steps)
    told = replace(trace, steps=plain, fields={"cls": Field("Class token's attention", "")})
    asked = replace(told, steps=(*plain[:-1], replace(trace.steps[-1], fields={})))
    assert draw(told).view["by"] == "cls" and draw(asked).view["by"] == "attention:row"


def test_mask_opens_on_what_was_predicted_and_not_on_the_holes():
    """Mutant: the step that hides most, on which a method and its baseline look the same."""
    trace = samples.mask()
    hidden, own = ([np.full(trace.canvas.size, CODE[name], np.uint8) for name in names] for names in
                   (("masked", "new", "masked"), ("masked-hard", "new", "masked")))
    steps = [tuple(replace(trace.steps[0], label=f"{i}", state=state) for i, state in enumerate(states))
             for states in (hidden, own)]
    assert draw(replace(trace, steps=steps[0])).view["start"] == 1
    assert draw(replace(trace, steps=steps[1])).view["start"] == 0, "a mask that a rule chose is what there is to see"


def test_the_legend_leaves_out_what_cannot_be_seen():
    assert "unknown" not in dict(draw(samples.sample()).legend)  # text that is not there yet takes no place
    assert "unknown" in dict(draw(samples.unmask()).legend)


def test_words_that_are_filled_in_have_their_place_before():
    """Mutant: "so you that it couldn any hand" while words of the middle are still to be drawn."""
    trace = samples.sample()
    states = [np.full(trace.canvas.size, CODE["context"], np.uint8) for _ in range(3)]
    for state, name in zip(states, ("unknown", "new", "context")):
        state[2] = CODE[name]
    one = replace(trace.steps[0], fields={})
    gap, told = (replace(trace, steps=(replace(one, state=states[0]), replace(one, state=last))) for last in states[1:])
    assert (draw(gap).layout.unseen, draw(told).layout.unseen, draw(trace).layout.unseen) == ("box", "gone", "gone")


def test_what_is_inserted_takes_no_place_before_and_is_said_to_be_inserted():
    masked = samples.unmask()
    labels = tuple(map(str, range(masked.canvas.size)))
    text = replace(masked, canvas=Canvas("text", labels), steps=tuple(replace(s, picture=None) for s in masked.steps))
    grown = replace(text, canvas=replace(text.canvas, roles=("inserted",) * text.canvas.size))
    assert (draw(text).layout.unseen, draw(grown).layout.unseen) == ("box", "gone")
    assert "unknown" in dict(draw(text).legend) and "unknown" not in dict(draw(grown).legend)
    assert dict(draw(grown).legend)["new"] == "inserted now" and "Tokens inserted per step" in draw(grown).alt


@pytest.mark.parametrize("value, text", [(0.0832, "0.0832"), (61.0, "61"), (1234.4, "1,234"), (2_500_000, "2.5 M"),
                                         (float("nan"), "not defined"), (1e-7, "1e-07"), (3.0e9, "3 G")])
def test_numbers_have_two_or_three_digits(value, text):
    assert tidy(value) == text


def settings(**given):
    return {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **given}


@pytest.mark.parametrize("given", [
    {}, {"temperature": 0.5}, {"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.2},
    {"temperature": 0.8, "top_k": 10, "top_p": 0.9, "min_p": 0.05}])
def test_the_settings_mean_what_the_kernels_mean(given):
    torch = pytest.importorskip("torch")
    from kernels import Sampler
    from kernels.sampling import warp
    logits = np.random.default_rng(0).normal(0, 2, (6, 50)).astype(np.float16)
    truth = warp(torch.tensor(logits), Sampler(**settings(**given))).softmax(-1).numpy()
    assert np.abs(sample.warped(logits, **settings(**given)) - truth).max() < 1e-5


def swapped(logits, temperature, top_p):
    """The mutant: nucleus before temperature."""
    cut = np.where(sample._outside_nucleus(logits.astype(np.float32), top_p), -np.inf, logits.astype(np.float32))
    return sample.softmax(cut / temperature)


def test_the_order_of_the_settings_matters():
    logits = np.random.default_rng(0).normal(0, 2, (6, 50)).astype(np.float16)
    right = sample.warped(logits, **settings(temperature=0.5, top_p=0.7))
    assert np.abs(swapped(logits, 0.5, 0.7) - right).max() > 0.01


def test_settings_change_distributions_never_the_text():
    trace = samples.sample()
    before, after = draw(trace), draw(trace, temperature=0.3)
    assert "model, as set now" in after.frames[0].candidates and "model, as set now" not in before.frames[0].candidates
    assert all(after.texts(i) == before.texts(i) for i in range(3))
    old, new = before.frames[0].candidates["model"], after.frames[0].candidates["model, as set now"]
    assert new.entropy[0] < old.entropy[0] and new.chosen[0] == old.chosen[0]


def test_the_runs_own_settings_add_nothing():
    trace = replace(samples.sample(), provenance=Provenance(params={"temperature": 0.3}))
    assert list(draw(trace, temperature=0.3).frames[0].candidates) == ["model"]


def test_without_logits_no_setting_can_be_asked():
    trace = samples.sample()
    bare = tuple(replace(step, distributions={n: replace(d, logits=None) for n, d in step.distributions.items()})
                 for step in trace.steps)
    assert sample.answers(trace) == {"temperature", "top_k", "top_p", "min_p"}
    assert sample.answers(replace(trace, steps=bare)) == frozenset()
    assert list(draw(replace(trace, steps=bare), temperature=0.3).frames[0].candidates) == ["model"]


def test_a_repeated_step_is_about_what_is_new_in_it():
    trace = samples.mask()
    mask, rebuilt = trace.steps[1], trace.steps[2]
    judged = replace(mask, label="the error", fields={**mask.fields, "loss": rebuilt.fields["loss"]})
    assert about(replace(trace, steps=(*trace.steps, judged))) == ["", "", "", "loss"]


def test_layers_and_steps_are_linked_only_where_they_are_the_same():
    trace = samples.attend()
    assert not draw(trace).attention.linked
    steps = tuple(replace(trace.steps[0], label=f"layer {i}", level="layer") for i in range(4))
    assert draw(replace(trace, steps=steps)).attention.linked


def test_layers_follow_steps_behind_steps_that_are_no_layers():
    """Layer 6 stood under a label of layer 1 or 3: the first step was the reading order, so nothing was linked."""
    trace = samples.attend()
    steps = tuple(replace(trace.steps[0], label=f"layer {i}", level="layer") for i in range(4))
    found = draw(replace(trace, steps=(replace(trace.steps[0], label="reading order"), *steps))).attention
    assert found.linked and [found.layer(step, 9) for step in range(5)] == [0, 0, 1, 2, 3]
    mixed = draw(replace(trace, steps=(*steps, replace(trace.steps[0], label="the end")))).attention
    assert not mixed.linked and mixed.layer(2, 3) == 3


def test_a_net_without_attention_is_not_said_to_have_any():
    """Fault 18: legend and menus said "attention" and "entropy" for convnets."""
    trace = samples.attend()
    own = {"received": Field("Heard by others", "shares"), "norm": Field("Length of the activation", "")}
    fields = {name: np.ones(trace.canvas.size) for name in own}
    drawing = draw(replace(trace, fields=own, steps=(replace(trace.steps[0], fields=fields),)))
    said = [drawing.attention.title, *(scale.title for scale, _ in drawing.attention.quantities.values())]
    assert said == ["What the marked cell hears", "Heard by others"]


def test_a_text_opens_in_the_colours_of_good_and_bad_if_a_number_says_so():
    """Also where drafts were judged: their states stay on the edge of a word."""
    trace = samples.sample()
    name, number = list(trace.fields.items())[-1]
    drafts = tuple(replace(step, state=np.where(step.state == CODE["new"], CODE["refused"], step.state))
                   for step in trace.steps)
    assert sample.first_number(trace) == "entropy" and sample.first_number(replace(trace, steps=drafts)) == "state"
    signed = replace(trace, steps=drafts, fields={**trace.fields, name: replace(number, diverging=True)})
    assert sample.first_number(signed) == name


def test_a_sampled_token_says_how_probable_it_was():
    trace = samples.sample()
    found = trace.steps[2].distributions["model"]
    at = int(trace.steps[2].where("new")[0])
    row = int(np.flatnonzero(found.positions == at)[0])
    second = replace(found, chosen=np.where(found.positions == at, found.top_ids[:, 1], found.chosen))
    step = replace(trace.steps[2], distributions={"model": second})
    first, other = (sample.drawn(one, trace.vocabulary) for one in (trace.steps[2], step))
    assert first == f"the most probable token, {fine_percent(float(found.top_probs[row, 0]))}"
    assert other.startswith(f"drawn at {fine_percent(float(found.top_probs[row, 1]))}; ") and "had" in other
    assert draw(trace).frames[2].note == first
    assert draw(replace(trace, steps=(replace(step, note="own words"),))).frames[0].note == "own words"


def test_of_an_error_the_low_end_is_the_good_one():
    fields = draw(samples.mask()).fields
    assert fields["loss"].better == "lower" and fields["predicted"].better == ""


def test_a_live_run_can_be_drawn_before_it_ends():
    trace = samples.unmask()
    part = replace(trace, steps=trace.steps[:1], charts=(), facts={}, sentence="")
    assert draw(part).facts == () and draw(part).view["start"] == 0


def test_a_board_that_fills_up_opens_where_known_and_hidden_look_at_each_other():
    """Mutant: ENAT's last step, in which nothing is hidden any more and nothing changes."""
    trace = samples.attend()
    size, made = trace.canvas.size, []
    for known in (0, size // 2, size * 7 // 10, size):
        state = np.where(np.arange(size) < known, CODE["known"], CODE["unknown"]).astype(np.uint8)
        state[:2] = CODE["new"]
        made.append(replace(trace.steps[0], state=state, level="step"))
    assert draw(replace(trace, steps=tuple(made))).view["start"] == 2
    assert draw(replace(trace, steps=tuple(made[:2]))).view["start"] == 1, "one that stays hidden opens at its end"
