"""The controls, told as if they inserted: from left to right, and from a fixed number of masks."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from models.claims.star_lab import masked, reveals
from models.engine.recording import numbers
from models.loops.sample.cached_lm import Stream
from models.loops.unmask.insertion import NOTHING, Draft, Put
from models.worlds.world import END, MASK


@torch.inference_mode()
def appended(model, text: Draft, most: int) -> Iterator[Put]:
    """The likeliest next token at the first gap, until the end; what stands behind the gap is not read."""
    stream, at = Stream(model), text.slots.index(True)
    new = text.ids[: at + 1]
    for count in range(most + 1):
        stream.read([new])
        token = int(stream.logits.argmax())
        token = NOTHING if token == END or count == most else token
        end = float(numbers(stream.logits, [END])["confidence"][0])
        yield Put(at + count, token, [at + count], stream.logits, end, stream.meter.lap())
        if token == NOTHING:
            return
        new = [token]


def revealed(model, text: Draft, masks: int) -> Iterator[Put]:
    """The surest mask of all. Masks and ends are no tokens of the text: a token goes behind the last one that is."""
    for turn in reveals(model, [masked(text, masks)]):
        cell, before = int(turn.revealed[0].nonzero()), turn.moment.ids[0].tolist()
        at = sum(id not in (MASK, END) for id in before[1:cell])
        scores, token = turn.found.logits[0][turn.found.positions[0] == cell], int(turn.ids[0, cell])
        yield Put(at, NOTHING if token == END else token, [at], scores, np.nan,
                  replace(turn.found.cost, ms=turn.ms))
