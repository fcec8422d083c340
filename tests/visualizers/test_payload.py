"""What is sent to the page: small, plain, complete, and nothing in it can run."""

import base64
import json

import numpy as np
import pytest

from tests import samples
from visualizers import draw
from visualizers.drawing.payload import NONE, pack
from visualizers.player import player


def array(payload, index, dtype):
    return np.frombuffer(base64.b64decode(payload["arrays"][index]), dtype)


def size(drawing) -> int:
    return len(json.dumps(pack(drawing), allow_nan=False))


def test_a_grid_run_with_pictures_is_small():
    assert size(draw(samples.unmask(steps=20))) < 250_000


def test_a_long_text_is_small():
    assert size(draw(samples.long_text())) < 250_000


def test_equal_arrays_are_sent_once():
    payload = pack(draw(samples.attend()))
    assert len(payload["arrays"]) == len(set(payload["arrays"]))
    pictures = pack(draw(samples.mask()))["pictures"]
    assert len(pictures) == 2  # four steps and the canvas show two different pictures


def test_states_and_ids_arrive_as_they_were():
    trace = samples.unmask()
    payload = pack(draw(trace))
    for step, frame in zip(trace.steps, payload["frames"]):
        assert np.array_equal(array(payload, frame["state"], np.uint8), step.state)
        ids = array(payload, frame["ids"], "<u2")
        words = [payload["words"][i] if i != NONE else None for i in ids]
        assert words == [trace.vocabulary.get(int(i)) for i in step.ids]


def test_candidates_arrive_to_a_fraction_of_a_percent():
    trace = samples.sample()
    payload = pack(draw(trace))
    found = payload["frames"][0]["candidates"]["model"]
    probs = array(payload, found["probs"], "<u2") / 65535
    assert np.abs(probs - trace.steps[0].distributions["model"].top_probs[0]).max() < 1e-4


def test_half_precision_probabilities_do_not_overflow():
    trace = samples.sample()
    from dataclasses import replace
    first = trace.steps[0]
    half = replace(first.distributions["model"], top_probs=np.array([[1.0] + [0.0] * 7], np.float16))
    payload = pack(draw(replace(trace, steps=(replace(first, distributions={"model": half}),))))
    probs = array(payload, payload["frames"][0]["candidates"]["model"]["probs"], "<u2")
    assert probs.tolist() == [65535] + [0] * 7


def test_undefined_numbers_are_not_zero():
    trace = samples.mask()
    payload = pack(draw(trace))
    codes = array(payload, payload["frames"][2]["values"]["loss"], np.uint8)
    assert np.array_equal(codes == 255, ~np.isfinite(trace.steps[2].fields["loss"]))


@pytest.mark.parametrize("tab", ["mask", "attend", "prune", "unmask", "sample"])
def test_the_scene_is_one_ascii_text_without_angle_brackets(tab):
    value = player.scene(draw(samples.all_tabs()[tab]), turn=player.turn("Choose.", [3]))
    assert value.isascii() and "<" not in value
    assert json.loads(value)["turn"]["groups"] == [3]


def test_hostile_words_survive_the_way_unchanged():
    loaded = json.loads(player.scene(draw(samples.hostile())))
    assert loaded["left"]["layout"]["labels"][:4] == list(samples.HOSTILE[:4])
    assert "<" not in player.scene(draw(samples.hostile()))


def test_templates_are_static():
    clean, bad = (player.player(player.scene(draw(t))) for t in (samples.sample(), samples.hostile()))
    for name in ("html_template", "css_template", "js_on_load"):
        assert getattr(clean, name) == getattr(bad, name)
    assert "`" not in clean.css_template and "\\" not in clean.css_template and "{{" not in clean.css_template
    assert "${" not in clean.css_template
