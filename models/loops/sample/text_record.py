"""The page that a Sample run writes: prompt and sampled units on one text canvas, and what was measured at each.

A unit is a token, or a byte where a method works on bytes. Positions on the page are the identities of the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from models.engine.recording import Filling
from models.trace import CODE, Canvas, Field
from models.trace.spelling import joined

TOP = 8  # candidates kept per unit
FIELDS = {
    "entropy": Field("Entropy", "nats", low=0.0),
    "probability": Field("Probability", "probability", 0.0, 1.0),
    "cut": Field("Cut away by the sampler's settings", "probability", 0.0, 1.0),
}


class TextRecord(Filling):
    """The text so far: the prompt, and room for what will come. texts(ids): how units read alone; roles: of the prompt,
    where a unit is more than that."""

    def __init__(self, labels: Sequence[str], ids: Sequence[int], room: int, fields: Mapping[str, Field],
                 texts: Callable[[Sequence[int]], Sequence[str]], tab: str = "sample", roles: Sequence[str] = (),
                 **options):
        self.start = self.count = len(labels)
        self.texts = texts
        self.alone: list[str] = []  # how each unit written so far reads alone
        prompt = tuple(role or "prompt" for role in roles) or ("prompt",) * self.start
        canvas = Canvas("text", (*labels, *[""] * room), roles=(*prompt, *["sampled"] * room),
                        ids=np.array([*ids, *[-1] * room], np.int32))
        super().__init__(tab, canvas, fields, lambda id: texts([id])[0], **options)
        self.fill(range(self.start), ids, "context")

    @property
    def labels(self) -> tuple[str, ...]:
        return self.canvas.labels

    @property
    def room(self) -> int:
        """How many units still fit."""
        return self.canvas.size - self.count

    def set_beside(self, first: int, title: str) -> None:
        """What stands from here on is no part of the text: it is shown next to it, the title first."""
        roles = (*self.canvas.roles[:first], *["beside"] * (self.canvas.size - first))
        self.canvas, self.beside = replace(self.canvas, roles=roles), first
        self.fill(first, state="unknown", labels=(title,))

    def put_beside(self, ids: Sequence[int], state: str, titled: bool = True) -> range:
        """These units stand beside the text, and no others; their places. titled: the title is seen, if they are any.
        """
        self.state[self.beside:], self.ids[self.beside + 1:] = CODE["unknown"], -1
        where = range(self.beside + 1, self.beside + 1 + len(ids))
        self.fill(where, ids, state)
        if len(ids) and titled:
            self.state[self.beside] = CODE["context"]
        return where

    def tried(self, ids: Sequence[int], values: Mapping[str, Sequence[float]], state: str) -> TextRecord:
        """A copy on which `ids` stand where the text would go on; the page itself stays as it is."""
        twin = self.copy()
        twin.fill(range(self.count, self.count + len(ids)), ids, state, **values)
        return twin

    def told(self, ids: Sequence[int], logits: Tensor, name: str) -> range:
        """Appends units for good, with what `name` said of each, logits [P, V]; their places."""
        where = range(self.count, self.count + len(ids))
        self.guess(where, logits, ids, name, top=TOP)
        self.write(ids, self.texts(ids), {})
        return where

    def write(self, ids: Sequence[int], names: Sequence[str], values: Mapping[str, Sequence[float]]) -> None:
        """Appends units for good; a character is read once its last part is there. The page must be opened again, so
        that labels are never behind."""
        self.fill(range(self.count, self.count + len(ids)), ids, "new", names, **values)
        self.count += len(ids)
        self.alone += names
        self.canvas = replace(self.canvas, labels=(*self.labels[: self.start], *joined(self.alone),
                                                   *self.labels[self.count:]))
