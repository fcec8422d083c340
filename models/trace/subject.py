"""What the visitor gives: a text, a picture or a caption, checked against one set of limits.

The limits of models/trace/limits.py on texts and pictures are enforced here, whoever calls: page, API or command line;
models/trace/normalise.py makes them plain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.trace import limits, normalise

KINDS = ("photo", "text", "caption", "prompt", "problem", "question", "facts")
ENDING = re.compile(r"\w\.(txt|text|md|rst|csv|tsv|json|html?|xml|log|tex|pdf|docx?|odt|rtf|png|jpe?g|webp|gif|bmp|"
                    r"tiff?|heic|svg)$", re.IGNORECASE)
ASSETS = Path(__file__).resolve().parents[2] / "assets"


class SubjectError(ValueError):
    """Input that cannot be used; the sentence says what to change."""


@dataclass(frozen=True)
class Subject:
    """kind: one of KINDS; name: id of the shipped example, "" for a visitor's own; image uint8 [h, w, 3]; note: what
    was changed to make it plain, in whole sentences."""

    kind: str
    text: str = ""
    image: np.ndarray | None = None
    name: str = ""
    note: str = ""


@dataclass(frozen=True)
class Example:
    """A ready subject. source: a file in assets/photos or assets/texts, or the text itself.

    kind: "" means the kind that its method accepts.
    """

    id: str
    title: str
    source: str
    kind: str = ""


def from_text(text: str, kind: str = "text", name: str = "", note: str = "") -> Subject:
    """A text subject; raises SubjectError when it is empty, too long or not text."""
    if not isinstance(text, str) or not text.strip():
        raise SubjectError("Please type some text first.")
    if len(text) > 2 * limits.CHARACTERS:
        raise SubjectError(_too_long(len(text)))
    found, left = normalise.text(text)
    if len(found) > limits.CHARACTERS:
        raise SubjectError(_too_long(len(found)))
    if not normalise.visible(found):
        raise SubjectError("This text has only characters that nobody sees; please type something readable.")
    return Subject(kind, text=found, name=name, note=" ".join(filter(None, (note, left))))


def nothing_behind(text: str, mark: str) -> None:
    """SubjectError where a text goes on behind the mark at which a model begins: no word is left out in silence."""
    behind = text.lower().partition(mark)[2].strip()
    if behind:
        raise SubjectError(f'Please leave out "{behind[:40]}" behind "{mark}": what stands there the model is to find.')


def from_image(data: bytes | np.ndarray, name: str = "") -> Subject:
    """A photo subject from file bytes or pixels; first frame, upright, RGB; raises SubjectError."""
    try:
        if isinstance(data, np.ndarray):
            pixels, note = _pixels(data)
        elif len(data) > limits.FILE_BYTES:
            raise SubjectError(_too_heavy(len(data)))
        else:
            pixels, note = normalise.picture(data)
        return Subject("photo", image=np.ascontiguousarray(pixels), name=name, note=note)
    except normalise.NotReadable as error:
        raise SubjectError(str(error)) from error


def from_example(example: Example, kind: str) -> Subject:
    """The subject of a shipped example."""
    if kind == "photo":
        return from_image((ASSETS / "photos" / example.source).read_bytes(), example.id)
    path = ASSETS / "texts" / example.source
    is_file = re.fullmatch(r"[\w-]+\.txt", example.source) and path.is_file()
    return from_text(path.read_text("utf-8") if is_file else example.source, kind, example.id)


def from_anything(given: str, kind: str, examples: tuple[Example, ...] = ()) -> Subject:
    """For the command line: an example's id, a file, or (for texts) the text itself."""
    for example in examples:
        if given == example.id:
            return from_example(example, kind)
    path = Path(given) if 0 < len(given) < 256 else None
    if path is not None and path.is_file():
        return from_file(path, kind)
    wanted = "a PNG, JPEG, WebP or GIF file" if kind == "photo" else "a text, or the path of a text file"
    known = f", or one of the examples: {', '.join(e.id for e in examples)}" if examples else ""
    if path is not None and path.is_dir():
        raise SubjectError(f"'{path.name}' is a folder; please give {wanted}{known}.")
    if kind == "photo" or looks_like_a_file(given):
        typed = "" if kind == "photo" else " If it was meant as text, please put it into a file."
        raise SubjectError(f"There is no file '{given[:80]}'; please give {wanted}{known}.{typed}")
    return from_text(given, kind)


def from_file(path: Path, kind: str) -> Subject:
    """The subject in a file."""
    if path.stat().st_size > limits.FILE_BYTES:
        raise SubjectError(_too_heavy(path.stat().st_size))
    data = path.read_bytes()
    if kind == "photo":
        return from_image(data)
    try:
        text, note = normalise.text_of(data)
    except normalise.NotReadable as error:
        raise SubjectError(str(error)) from error
    if not text.strip():
        raise SubjectError(f"The file '{path.name}' is empty; please give one with text.")
    return from_text(text, kind, note=note)


def looks_like_a_file(given: str) -> bool:
    """Whether somebody meant a file: one line with a known ending, one word with any, or a path from a root."""
    one = "\n" not in given and len(given) < 256
    return one and bool(ENDING.search(given.strip()) or re.fullmatch(r"\S*\w\.[a-z][a-z0-9]{1,4}", given.strip(), re.I)
                        or re.fullmatch(r"(~|\.{1,2})?[/\\]\S+", given.strip()))


def _too_long(count: int) -> str:
    return f"This text has {count:,} characters; please keep it under {limits.CHARACTERS:,}."


def _too_heavy(count: int) -> str:
    return f"This file has {count / 1e6:.1f} MB; the limit is {limits.FILE_BYTES / 1e6:.0f} MB."


def _pixels(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """Pixels [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] of 8 or 16 bits as uint8 [h, w, 3], and what was done."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.dtype not in (np.uint8, np.uint16):
        raise SubjectError("This picture is not an ordinary colour picture; please use an RGB PNG, JPEG or WebP file.")
    normalise.small_enough(pixels.shape[1], pixels.shape[0])
    deep = pixels.dtype == np.uint16
    pixels = np.round(pixels / 257).astype(np.uint8) if deep else pixels
    pixels = np.repeat(pixels, 3, -1) if pixels.shape[2] == 1 else pixels
    found, note = normalise.on_ground(pixels) if pixels.shape[2] == 4 else (pixels, "")
    return found, " ".join(filter(None, ("Its 16 bits per pixel were scaled to 8." if deep else "", note)))
