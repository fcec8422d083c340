"""What is sent to the page: small, plain, complete, and nothing in it can run."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from tests import samples
from visualizers import draw
from visualizers.drawing import payload
from visualizers.drawing.layout import Layout
from visualizers.drawing.marks import Frame
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


def test_a_picture_of_a_record_is_encoded_once_and_forgotten_with_it(monkeypatch):
    """Mutants: encoded again for every drawing of a run that grows; kept when nobody holds the record; kept although
    it may change."""
    made = []
    monkeypatch.setattr(payload, "data_url", lambda pixels: made.append(pixels.shape) or f"url {len(made)}")
    pixels = np.zeros((8, 8, 3), np.uint8)
    assert payload.kept_url(pixels) != payload.kept_url(pixels)
    pixels.setflags(write=False)
    assert payload.kept_url(pixels) == payload.kept_url(pixels) and len(made) == 3
    kept = len(payload._urls)
    del pixels
    assert len(payload._urls) == kept - 1


@pytest.mark.parametrize("vocabulary, ids, read", [
    ({3: "<F0 9F>", 4: "<98 80>"}, [3, 4, -1], ["\U0001f600", "", "c"]),  # parts of a character, which join
    ({3: "sea", 4: "day"}, [3, -1, 4], None),
    ({3: "sea", 4: "day"}, [7, -1, 4], ["a", "b", "day"])])  # the label says otherwise than the vocabulary: id 7 is "x"
def test_texts_are_sent_where_the_vocabulary_does_not_tell_them(vocabulary, ids, read):
    vocabulary = vocabulary | {7: "x"}
    layout = Layout("text", ("a", "b", "c"), ids=np.array([7, -1, -1], np.int32))
    frame = Frame("one", np.zeros(3, np.uint8), ids=np.array(ids, np.int32))
    drawing = replace(draw(samples.sample()), layout=layout, frames=(frame,), vocabulary=vocabulary)
    packed = pack(drawing)
    found = packed["frames"][0].get("texts")
    assert (found is None) == (read is None)
    if read is not None:
        at = array(packed, found, "<u2")
        assert [packed["words"][i] if i != NONE else label for i, label in zip(at, layout.labels)] == read
