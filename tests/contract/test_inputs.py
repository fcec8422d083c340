"""Parameters, subjects and checkpoint names: everything from outside is checked in one place, with one sentence."""

import io
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from PIL import Image

from models.checkpoints.store import CheckpointError, load, resolve
from models.trace import limits
from models.trace.params import Choice, Flag, ParamError, Span, Words, parse, schema
from models.trace.subject import SubjectError, from_anything, from_image, from_text


@dataclass(frozen=True)
class Params:
    ratio: Annotated[float, Span(0.1, 0.9, 0.05, "Ratio")] = 0.75
    steps: Annotated[int, Span(1, 32, 1, "Steps")] = 8
    order: Annotated[str, Choice(("random", "confidence"), "Order")] = "confidence"
    exact: Annotated[bool, Flag("Exact")] = True
    note: Annotated[str, Words("Note", 5)] = ""


def test_text_values_are_read_as_numbers_and_flags():
    assert parse(Params, {"ratio": "0.5", "steps": "4", "exact": "false"}) == Params(0.5, 4, "confidence", False)


@pytest.mark.parametrize("given", [
    {"ratio": 1.0}, {"ratio": float("nan")}, {"ratio": "inf"}, {"ratio": None}, {"ratio": True}, {"ratio": [0.5]},
    {"steps": 2.5}, {"steps": "many"}, {"steps": 10**40}, {"order": "alphabet"}, {"order": 3}, {"exact": "maybe"},
    {"note": "too long"}, {"note": 5}, {"seed": 1}, {"<img src=x>": 1},
])
def test_what_is_outside_the_declaration_is_refused(given):
    with pytest.raises(ParamError) as caught:
        parse(Params, given)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_schema_says_what_parse_enforces():
    found = schema(Params)["properties"]
    assert found["steps"]["type"] == "integer" and found["steps"]["maximum"] == 32
    assert found["order"]["enum"] == ["random", "confidence"] and found["ratio"]["default"] == 0.75


@pytest.mark.parametrize("text", ["", "   \n", "\x00\x01", "a" * (limits.CHARACTERS + 1), None, 7])
def test_useless_texts_are_refused(text):
    with pytest.raises(SubjectError):
        from_text(text)


@pytest.mark.parametrize("text", ["emoji 🎈 and 漢字", "שלום", "a\r\nb\tc", "bell \x07 inside"])
def test_any_script_is_fine(text):
    assert from_text(text).text.strip()


def encoded(picture: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def test_odd_but_honest_pictures_become_rgb():
    noise = Image.effect_noise((40, 30), 50)
    frames = [Image.new("RGB", (40, 30), c) for c in ("red", "blue")]
    for data in (encoded(noise.convert("CMYK"), "JPEG"), encoded(noise.convert("RGBA"), "PNG"),
                 encoded(noise, "PNG"), encoded(noise.convert("P"), "PNG"),
                 encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])):
        assert from_image(data).image.shape == (30, 40, 3)


@pytest.mark.parametrize("data", [
    b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"GIF89a" + b"\x00" * 20, b"x" * (limits.FILE_BYTES + 1),
])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(SubjectError):
        from_image(data)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (3000, 2000)])
def test_sizes_outside_the_limits_are_refused(size):
    with pytest.raises(SubjectError, match="pixels"):
        from_image(encoded(Image.new("RGB", size), "PNG"))


def test_a_cameras_photo_is_read_small_and_that_is_said():
    noisy = Image.effect_noise((4000, 3000), 60).convert("RGB")
    found = from_image(encoded(noisy, "JPEG"))
    assert found.image.shape[0] * found.image.shape[1] <= limits.PIXELS and min(found.image.shape[:2]) >= 750
    assert "of its 4000 x 3000 pixels" in found.note
    with pytest.raises(SubjectError, match="12000"):
        from_image(encoded(Image.new("L", (12000, 9000)), "JPEG"))


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    data = encoded(Image.new("1", (12000, 12000)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # the app lowers it, so that Pillow refuses first
    monkeypatch.setattr(Image.Image, "convert", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(SubjectError, match="12000"):
        from_image(data)


def test_wrong_arrays_are_refused():
    for pixels in (np.zeros((20, 20, 3)), np.zeros((20, 20, 7), np.uint8), np.zeros(9, np.uint8)):
        with pytest.raises(SubjectError):
            from_image(pixels)


def test_a_missing_picture_file_is_named():
    with pytest.raises(SubjectError, match="nowhere.png"):
        from_anything("nowhere.png", "photo")


def test_checkpoints_come_from_the_declared_list(tmp_path, monkeypatch):
    assert resolve(None, ("a-1", "b-1")) == "a-1" and resolve("b-1", ("a-1", "b-1")) == "b-1"
    for name in ("../../etc", "/etc", "other/repo", "x" * 5000, str(tmp_path)):
        with pytest.raises(CheckpointError):
            resolve(name, ("a-1",))
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path), ("a-1",)) == str(tmp_path)
    monkeypatch.setenv("SPACE_ID", "someone/space")  # a hosted visitor never reaches the disk
    with pytest.raises(CheckpointError):
        resolve(str(tmp_path), ("a-1",))


def test_foreign_and_damaged_checkpoints_end_in_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="not shipped"):
        load("never-trained-1")
    (tmp_path / "config.json").write_text('{"architectures": ["os.system"]}')
    with pytest.raises(CheckpointError, match="supported are"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(CheckpointError, match="damaged"):
        load(str(tmp_path))


def test_a_run_that_takes_too_long_is_stopped_with_a_sentence_and_closed(monkeypatch, tiny):
    """Mutants: a limit on the page alone; a run that goes on behind its error."""
    import gradio as gr

    import app
    from models.serving import session

    monkeypatch.setattr(limits, "SECONDS", 0.0)
    closed = []

    def slow(job):
        try:
            yield from real(job)
        finally:
            closed.append(True)

    real = session.follow
    monkeypatch.setattr(session, "follow", slow)
    with pytest.raises(ParamError, match="fewer steps"):
        list(session.play(session.Ask("mdm", "unmask")))
    assert closed
    with pytest.raises(gr.Error, match="fewer steps"):
        app.endpoint("unmask")("mdm")
