"""A canvas that shows a photo keeps it as sharp as the visitor gave it, for whichever method opened it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.backbones.pictures import square
from models.engine.events import Event, Open
from models.trace.photo import SHARP, encoded
from models.trace.subject import Subject


def sharpened(event: Event, subject: Subject) -> Event:
    """The event; an opened canvas whose picture is the subject's own, made small, gets the larger one beside it."""
    if not isinstance(event, Open):
        return event
    small = event.canvas.picture
    if small is None or subject.image is None or small.shape[0] != small.shape[1]:
        return event
    side = min(*subject.image.shape[:2], SHARP)
    if side <= small.shape[0] or not np.array_equal(square(subject.image, small.shape[0]), small):
        return event  # cut or changed on the way: the sharp one would show something else
    return replace(event, canvas=replace(event.canvas, photo=encoded(square(subject.image, side))))
