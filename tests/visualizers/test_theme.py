"""Colours: every state has one, states are told apart without colour, text stays readable on every tint."""

import numpy as np
import pytest

from models.trace import STATES
from visualizers.drawing import palette

SAME = [("unknown", "masked"), ("visible", "known"), ("reused", "recycled", "merged")]


def luminance(colour: str) -> float:
    parts = [c / 255 for c in palette.rgb(colour)]
    line = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * line[0] + 0.7152 * line[1] + 0.0722 * line[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def group(state: str) -> str:
    return next((names[0] for names in SAME if state in names), state)


def confusable(looks) -> list[tuple[str, str]]:
    """Pairs of states that are no family and differ by nothing but colour."""
    def signs(look):
        return look.cue, look.hides, look.fade < 1
    names = list(looks)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1:]
            if group(a) != group(b) and signs(looks[a]) == signs(looks[b])]


def test_every_state_has_a_look():
    assert list(palette.LOOKS) == [*STATES, palette.QUERY]
    assert all(look.cue in palette.CUES for look in palette.LOOKS.values())


def test_states_differ_by_more_than_colour():
    assert confusable(palette.LOOKS) == []


def test_the_colour_rule_sees_a_state_that_only_has_a_colour():
    mutant = {**palette.LOOKS, "refused": palette.Look("refused", "#d55e00", "#d55e00", cue="outline")}
    assert ("new", "refused") in confusable(mutant)


def test_the_look_of_the_table():
    expected = {"unknown": "#d9d6cd", "new": "#e69f00", "recomputed": "#cc79a7", "reused": "#56b4e9",
                "accepted": "#009e73", "refused": "#d55e00"}
    assert {name: palette.LOOKS[name].light for name in expected} == expected
    assert palette.LOOKS["dropped"].fade == 0.25 and palette.LOOKS["unknown"].dark == "#3a3a41"


@pytest.mark.parametrize("diverging", [False, True])
def test_a_number_tints_at_most_half(diverging):
    assert max(palette.soft_share(code, diverging) for code in range(255)) <= 0.5


def test_the_magnitude_scale_is_cividis():
    from matplotlib import colormaps
    truth = colormaps["cividis"](np.linspace(0, 1, 255))[:, :3] * 255
    assert np.abs(palette.ramp().astype(float) - truth).max() < 5
    jet = colormaps["jet"](np.linspace(0, 1, 255))[:, :3] * 255  # the mutant: a scale that is not colour-blind safe
    assert np.abs(jet - truth).max() > 50


def test_the_diverging_scale_is_palest_in_the_middle():
    bright = palette.ramp(True).astype(int).sum(1)
    assert bright.argmax() in range(120, 135) and bright[0] < bright[127] > bright[-1]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("diverging", [False, True])
def test_text_reads_on_every_number(dark, diverging):
    panel = palette.PAGE["dark" if dark else "light"]["panel"]
    for code, colour in enumerate(palette.ramp(diverging)):
        fill, share = palette.hexed(colour), palette.soft_share(code, diverging)
        under = palette.mix(fill, panel, share)
        assert contrast(palette.ink_on(fill, share, dark), under) > 4.4, (code, under)


@pytest.mark.parametrize("dark", [False, True])
def test_text_reads_on_every_state(dark):
    panel = palette.PAGE["dark" if dark else "light"]["panel"]
    for state in STATES:
        own = palette.colour(state, dark)
        assert contrast(palette.ink_on(own, 0.3, dark), palette.mix(own, panel, 0.3)) > 4.5, state


@pytest.mark.parametrize("name", ["light", "dark"])
def test_page_colours_have_contrast(name):
    page = palette.PAGE[name]
    assert contrast(page["ink"], page["panel"]) > 7
    assert contrast(page["soft"], page["paper"]) > 4.5 and contrast(page["soft"], page["panel"]) > 4.5
    assert contrast(page["accent"], page["panel"]) > 4.5
