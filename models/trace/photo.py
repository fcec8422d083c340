"""The visitor's photo as sharp as it is shown: the small picture that a network reads is made from it.

A record keeps it once, as a WebP file of at most SHARP pixels a side; nothing but painters look at it.
"""

from __future__ import annotations

import io

import numpy as np

from models.trace.records import Canvas, TraceError

SHARP = 256  # pixels of its side, at most
FILE = 200_000  # bytes, at most


def encoded(picture: np.ndarray) -> np.ndarray:
    """uint8 [K] of the WebP file of a picture [h, w, 3]."""
    from PIL import Image
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=82, method=4)
    return np.frombuffer(file.getvalue(), np.uint8)


def sharp(canvas: Canvas) -> np.ndarray | None:
    """uint8 [h, w, 3] of a canvas's photo, None where it has none. The file may come from anywhere."""
    from PIL import Image
    if canvas.photo is None:
        return None
    try:
        if canvas.photo.size > FILE:
            raise ValueError("too large")
        picture = Image.open(io.BytesIO(canvas.photo.tobytes()), formats=("WEBP",))
        if max(picture.size) > SHARP:
            raise ValueError("too large")
        return np.asarray(picture.convert("RGB"))
    except Exception as error:
        raise TraceError("the photo in this trace cannot be read as a picture") from error
