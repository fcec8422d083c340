"""What people bring, made plain: one function per kind of subject, and a sentence for everything it changed.

Texts: line ends, byte-order marks, control characters, signs without a width. Pictures: turned upright, one frame,
eight bits, transparency laid on white, RGB. Page, API and command line come here through models/trace/subject.py.

Not covered: colour profiles; and no text is composed or decomposed (NFC, NFKC): that is each tokenizer's own business.
"""

from __future__ import annotations

import io
import re
import unicodedata

import numpy as np

from models.trace import limits

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
GROUND = (255, 255, 255)  # under what is transparent
BREAKS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # line ends of all systems, pages, Unicode's own
CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")
UNSEEN = re.compile("[\u200b\u2060\ufeff]")  # joiners (U+200C, U+200D) stay: they belong to emoji and scripts
CHOICES = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # which form of the sign before them is meant
TORN = re.compile("[\ud800-\udfff]")
SINGLE = {"control characters": "control character", "characters without a width": "character without a width",
          "halves of characters": "half of a character"}
GUESSED = ((b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
           (b"\xfe\xff", "utf-16"))


class NotReadable(ValueError):
    """What was brought is no text or no picture; the sentence says what to change."""


def text_of(data: bytes) -> tuple[str, str]:
    """The text of a file, and in which encoding it was read where that is not UTF-8; NotReadable for anything else."""
    found = next((name for mark, name in GUESSED if data.startswith(mark)), "utf-8")
    try:
        note = "" if found == "utf-8" else f"The file was read as {found.upper()}, as its first bytes say."
        return data.decode(found), note
    except UnicodeDecodeError as error:
        raise NotReadable("This file is not UTF-8 text; please save it as UTF-8, or paste the text.") from error


def text(given: str) -> tuple[str, str]:
    """The text with line feeds only and without what nobody sees, and a sentence on what was left out."""
    found = BREAKS.sub("\n", given)
    counts = {}
    for what, pattern in (("control characters", CONTROLS), ("characters without a width", UNSEEN),
                          ("halves of characters", TORN)):
        found, counts[what] = pattern.subn("", found)
    left = [f"{count} {what if count > 1 else SINGLE[what]}" for what, count in counts.items() if count]
    return found, f"Left out of the text: {', '.join(left)}." if left else ""


def visible(text: str) -> bool:
    """Whether there is anything to see: not only spaces, joiners, marks of direction and choices of a glyph."""
    unseen = ("Cf", "Cc", "Zs", "Zl", "Zp")  # signs of format and control, spaces, line ends
    return any(unicodedata.category(one) not in unseen and not CHOICES.match(one) for one in text)


def picture(data: bytes) -> tuple[np.ndarray, str]:
    """The picture in a file as uint8 [h, w, 3], and sentences on what was done to it; NotReadable for anything else."""
    from PIL import Image, ImageOps
    try:
        found = Image.open(io.BytesIO(data), formats=FORMATS)
        notes = [halved(found)]
        small_enough(*found.size)  # known before anything is decoded
        notes.append(animated(found))
        turned = orientation(found)
        notes.append("It was turned upright, as the camera says." if turned else "")
        pixels, note = plain(ImageOps.exif_transpose(found) if turned else found)
        return pixels, " ".join(filter(None, (*notes, note)))
    except NotReadable:
        raise
    except Image.DecompressionBombError as error:
        limit = limits.PIXELS / 1e6
        raise NotReadable(f"This picture has far too many pixels; the limit is {limit:.0f} megapixels.") from error
    except Exception as error:
        raise NotReadable("This file cannot be read as a picture; please use a PNG, JPEG, WebP or GIF file.") from error


def orientation(found) -> bool:
    """Whether the camera says that the picture lies on a side or in a mirror; not if what it says is damaged."""
    try:
        return found.getexif().get(0x0112) in range(2, 9)
    except Exception:
        return False


def halved(found) -> str:
    """Has a camera's large JPEG decoded at a half, a quarter or an eighth of its size; a sentence if so."""
    width, height = found.size
    if found.format not in ("JPEG", "MPO") or not limits.PIXELS < width * height <= limits.CAMERA_PIXELS:
        return ""
    share = (limits.PIXELS / (width * height)) ** 0.5 / 2  # draft keeps at least what is asked for, at most twice it
    found.draft(None, (max(1, int(width * share)), max(1, int(height * share))))
    return f"It was read at {found.size[0]} x {found.size[1]} of its {width} x {height} pixels."


def small_enough(width: int, height: int) -> None:
    """NotReadable for a picture that is too large or too small."""
    if min(width, height) < limits.SIDE:
        raise NotReadable(f"This picture has {width} x {height} pixels; please use at least "
                          f"{limits.SIDE} x {limits.SIDE}.")
    if width * height > limits.PIXELS:
        raise NotReadable(f"This picture has {width} x {height} pixels; the limit is {limits.PIXELS / 1e6:.0f} "
                          "megapixels. Please save a smaller copy.")


def animated(found) -> str:
    """Stands at the first frame; a sentence if there are more."""
    frames = getattr(found, "n_frames", 1) if found.format != "MPO" else 1  # a phone's JPEG with its own preview
    found.seek(0)
    return f"Only the first of its {frames} frames is used." if frames > 1 else ""


def plain(found) -> tuple[np.ndarray, str]:
    """Pixels uint8 [h, w, 3] of a decoded picture of any mode, and a sentence where something was decided."""
    if found.mode.startswith(("I", "F")):
        return deep(found)
    if "A" in found.mode.upper() or "transparency" in found.info:
        clear = found.convert("RGBA")
        pixels, note = on_ground(np.asarray(clear))
        return pixels, note
    return np.asarray(found.convert("RGB")), ("Its print colours (CMYK) were turned into RGB." if found.mode == "CMYK"
                                              else "")


def deep(found) -> tuple[np.ndarray, str]:
    """A greyscale picture of 16 bits, scaled to 8; a grey that is declared transparent is laid on white."""
    values = np.asarray(found).astype(np.float64)  # [h, w]
    grey = np.round(values.clip(0, 65535) / 257).astype(np.uint8)
    if found.info.get("transparency") is not None:
        grey = np.where(values == found.info["transparency"], 255, grey).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1), "Its 16 bits per pixel were scaled to 8."


def on_ground(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """RGBA uint8 [h, w, 4] laid on white: uint8 [h, w, 3], and a sentence if anything was transparent."""
    share = pixels[..., 3:].astype(np.float32) / 255
    if share.min() == 1:
        return np.ascontiguousarray(pixels[..., :3]), ""
    mixed = pixels[..., :3] * share + np.array(GROUND, np.float32) * (1 - share)
    return np.round(mixed).astype(np.uint8), "Its transparent parts were laid on white."
