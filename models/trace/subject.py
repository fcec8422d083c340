"""What the visitor gives: a text, a picture or a caption, checked against one set of limits.

The limits of models/trace/limits.py on texts and pictures are enforced here, whoever calls: page, API or command line.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.trace import limits

KINDS = ("photo", "text", "caption", "prompt", "problem", "question")
FILE_NAME = re.compile(r"[^\s]+\.(txt|md|text|png|jpe?g|webp)", re.I)  # a text that is none, but a file's name
ASSETS = Path(__file__).resolve().parents[2] / "assets"


class SubjectError(ValueError):
    """Input that cannot be used; the sentence says what to change."""


@dataclass(frozen=True)
class Subject:
    """kind: one of KINDS; name: id of the shipped example, "" for a visitor's own; image uint8 [h, w, 3]."""

    kind: str
    text: str = ""
    image: np.ndarray | None = None
    name: str = ""


@dataclass(frozen=True)
class Example:
    """A ready subject. source: a file in assets/photos or assets/texts, or the text itself.

    kind: "" means the kind that its method accepts.
    """

    id: str
    title: str
    source: str
    kind: str = ""


def from_text(text: str, kind: str = "text", name: str = "") -> Subject:
    """A text subject; raises SubjectError when it is empty, too long or not text."""
    if not isinstance(text, str) or not text.strip():
        raise SubjectError("Please type some text first.")
    if len(text) > limits.CHARACTERS:
        raise SubjectError(f"This text has {len(text):,} characters; please keep it under {limits.CHARACTERS:,}.")
    cleaned = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "", text.replace("\r\n", "\n"))
    if not cleaned.strip():
        raise SubjectError("This text has only control characters; please type something readable.")
    return Subject(kind, text=cleaned, name=name)


def from_image(data: bytes | np.ndarray, name: str = "") -> Subject:
    """A photo subject from file bytes or pixels; first frame, RGB, at most limits.PIXELS; raises SubjectError."""
    if isinstance(data, np.ndarray):
        return _checked_pixels(data, name)
    if len(data) > limits.FILE_BYTES:
        raise SubjectError(f"This file has {len(data) / 1e6:.1f} MB; the limit is {limits.FILE_BYTES / 1e6:.0f} MB.")
    return _checked_pixels(_decode(data), name)


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
    path = Path(given) if len(given) < 256 else None
    if path is not None and path.is_file():
        data = path.read_bytes()
        return from_image(data) if kind == "photo" else from_text(_utf8(data), kind)
    if kind == "photo":
        raise SubjectError(f"There is no picture file '{given[:80]}'; give a PNG, JPEG or WebP file.")
    if FILE_NAME.fullmatch(given):
        raise SubjectError(f"There is no file '{given[:80]}'; give a text, or the path of a text file.")
    return from_text(given, kind)


def _decode(data: bytes) -> np.ndarray:
    from PIL import Image
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
        if picture.width * picture.height > limits.PIXELS:  # known before anything is decoded
            raise SubjectError(f"This picture has {picture.width} x {picture.height} pixels; the limit is "
                               f"{limits.PIXELS / 1e6:.0f} megapixels.")
        return np.asarray(picture.convert("RGB"))
    except SubjectError:
        raise
    except Image.DecompressionBombError as error:
        megapixels = limits.PIXELS / 1e6
        raise SubjectError(f"This picture has far too many pixels; the limit is {megapixels:.0f} MP.") from error
    except Exception as error:
        raise SubjectError("This file cannot be read as a picture; please use a PNG, JPEG or WebP file.") from error


def _checked_pixels(pixels: np.ndarray, name: str) -> Subject:
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, -1)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
        raise SubjectError("This picture is not an ordinary colour picture; please use an RGB PNG, JPEG or WebP file.")
    height, width = pixels.shape[:2]
    if min(height, width) < limits.SIDE:
        raise SubjectError(f"This picture has {width} x {height} pixels; please use at least "
                           f"{limits.SIDE} x {limits.SIDE}.")
    if height * width > limits.PIXELS:
        raise SubjectError(f"This picture has {width} x {height} pixels; the limit is {limits.PIXELS / 1e6:.0f} MP.")
    return Subject("photo", image=np.ascontiguousarray(pixels[..., :3]), name=name)


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SubjectError("This file is not UTF-8 text.") from error
