"""Attend: who looks at whom between the maps of a pyramid, which is read once more with all its scales in one masked
pass of the conditional branch, as in training; that pass is no part of a run's cost."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.engine.method import Event
from models.loops.attend.groups import lens, mass_chart, mass_facts
from models.loops.attend.loop import TokenLayout
from models.trace.percent import percent


def attended(model, tokenizer, log, cond: Tensor) -> Iterator[Event]:
    """Block-causal attention over the finished pyramid of a log (models/loops/unmask/pyramids.py)."""
    ids = torch.from_numpy(log.ids.astype(np.int64))[None].to(cond.device)
    with torch.inference_mode():
        features = tokenizer.inputs(tokenizer.sums(ids))
    count, names = len(log.maps), log.maps
    return lens(
        model, lambda: model(features, cond), layout_of(model, log),
        {name: model.place(k) for k, name in enumerate(names)}, macs=sum(map(model.work, range(count))),
        say=lambda mass: between(mass.mean(0), names, model.scales[-1] ** 2 / (model.prefix + model.length)),
        facts=lambda mass: mass_facts(mass, {
            "own": ("Last map to itself", count - 1, count), "caption": ("Last map to the caption", count - 1, 0),
            "coarser": ("Last map to coarser maps", count - 1, list(range(1, count)))}),
        charts=lambda mass: (mass_chart(mass, names, ("caption", *names), title="Attention by map", noun="map"),))


def layout_of(model, log) -> TokenLayout:
    """Where the tokens of a log stand, under its last picture; distances in cells of the last map."""
    coords = model.middles().numpy() * model.scales[-1]  # [L, 2]
    return TokenLayout(replace(log.canvas, picture=log.picture()), model.prefix + np.arange(model.length), coords,
                       "cells of the last map", "the caption" if model.prefix else "")


def between(mean: np.ndarray, names: Sequence[str], alike: float) -> str:
    """Of attention [K, 1 + K], mean over layers. alike: the last map's share of all that it sees."""
    deciding = int(mean[:, 0].argmax())
    return (f"A map sees itself, all coarser maps and the caption. The {names[deciding]} map reads the caption most "
            f"({percent(mean[deciding, 0])} of its attention); the last map gives {percent(mean[-1, -1])} to itself "
            f"({percent(alike)} if it looked at all alike) and {percent(mean[-1, 1:-1].sum())} to coarser maps.")
