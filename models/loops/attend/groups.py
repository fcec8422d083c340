"""Attention by groups: how much each kind of token looks at each other kind, and a whole Attend record of one call.

    yield from lens(model, lambda: model(ids), layout, {"text": text, "picture": cells}, say=sentence)

`masses` counts groups as places in the model's sequence, `lens` as tokens of the canvas. The mass comes from one fused
pass per layer whose values say which group a key is of, so nothing N x N is made.
Letters: L layers, H heads, S tokens of the sequence, N canvas tokens, R rows, G groups.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import torch

import kernels
from models.backbones.instrument import observe
from models.engine.events import Event
from models.engine.recording import array, line, numbered, places, table
from models.loops.attend.loop import Looked, TokenLayout, look, record
from models.loops.attend.reading import one_sample
from models.trace import Chart, Cost, Fact

Groups = Mapping[str, Sequence[int] | np.ndarray | slice | range]  # name -> places, or a bool mask over all of them
MEAN = "Mean over layers, heads and tokens."


def masses(seen, groups: Groups, queries: Groups | None = None, sample: int = 0) -> np.ndarray:
    """Attention [L, Gq, G] that each group of queries gives to each group of keys, mean over heads and its queries.

    seen: a finished `observe(..., want={"qk"})` block, or exact rows [L, H, R, S] of some queries, which `queries` then
    counts. queries: the same groups unless others are asked. NaN where a group has no query; what a row of the result
    misses to 1 went to keys of no group.
    """
    asked = groups if queries is None else queries
    if isinstance(seen, np.ndarray | torch.Tensor):
        given = _marks(groups, seen.shape[-1])  # [S, G]
        return np.stack([_mean(array(layer).mean(0) @ given, asked) for layer in seen])
    return np.stack([_mean(_given(call, groups, sample), asked) for call in seen])


def _given(call, groups: Groups, sample: int) -> np.ndarray:
    """Mass [S, G] of every query of one layer, mean over heads."""
    q, k = call.q[sample : sample + 1].float(), call.k[sample : sample + 1].float()
    values = torch.from_numpy(_marks(groups, k.shape[2])).to(k.device).expand(*k.shape[:3], -1)
    options = {**call.options, "mask": one_sample(call.options.get("mask"), sample)}
    return array(kernels.attention_stats(q, k, values, **options).out[0].mean(0))


def _marks(groups: Groups, count: int) -> np.ndarray:
    """Float [S, G]: 1 where a token is of a group."""
    made = np.zeros((count, len(groups)), np.float32)
    for column, which in enumerate(groups.values()):
        made[places(which), column] = 1
    return made


def _mean(given: np.ndarray, queries: Groups) -> np.ndarray:
    found = [given[places(which)] for which in queries.values()]
    return np.stack([rows.mean(0) if len(rows) else np.full(given.shape[1], np.nan, np.float32) for rows in found])


def on_sequence(layout: TokenLayout, groups: Groups, length: int) -> dict[str, np.ndarray]:
    """Groups of canvas tokens as places of a sequence of `length`; first what stands outside the canvas, if anything
    does and the layout has a name for it."""
    found = {name: layout.index[places(which)] for name, which in groups.items()}
    rest = np.setdiff1d(np.arange(length), layout.index)
    return {layout.outside: rest, **found} if layout.outside and len(rest) else found


def looked_at(model, call: Callable[[], object], layout: TokenLayout, ask: int | None = None,
              layers: Sequence[int] | None = None) -> Looked:
    """One call of a model, read: what `look` finds in it. layers: all of them unless some are asked."""
    with torch.inference_mode(), observe(model, layers, {"qk", "stats"}) as seen:
        call()
    return look(seen, layout, ask)


def lens(model, call: Callable[[], object], layout: TokenLayout, groups: Groups, *, say: Callable[[np.ndarray], str],
         facts: Callable[[np.ndarray], Mapping[str, Fact]] = lambda mass: {},
         charts: Callable[[np.ndarray], Sequence[Chart]] | None = None, macs: int = 0, ask: int | None = None,
         state: np.ndarray | None = None) -> Iterator[Event]:
    """The Attend record of one call of the model: every layer, every head, and who looks at whom by groups of canvas
    tokens. mass [L, Gq, Gk], keys with what is outside the canvas first, goes to say, facts and charts (the matrix of
    the groups unless they are given). macs: of the call. ask, state: as in `look` and `record`."""
    began = time.perf_counter()
    with torch.inference_mode(), observe(model, want={"qk", "stats"}) as seen:
        call()
    ms, layers = (time.perf_counter() - began) * 1e3, list(seen)
    length = layers[0].k.shape[2]
    keys = on_sequence(layout, groups, length)
    mass = masses(layers, keys, {name: keys[name] for name in groups})
    made = (mass_chart(mass, groups, keys),) if charts is None else charts(mass)
    cost = Cost(0, length, macs // len(layers), 0, ms / len(layers))
    yield from record(layout, look(seen, layout, ask), sentence=say(mass), facts=facts(mass), charts=made,
                      costs=[cost] * len(layers), state=state)


def mass_chart(mass: np.ndarray, queries: Collection[str], keys: Collection[str] | None = None, *,
               title: str = "Who looks at whom", noun: str = "group", caption: str = MEAN) -> Chart:
    """The matrix of mass [L, Gq, Gk] or [Gq, Gk], mean over layers."""
    mean = mass.mean(0) if mass.ndim == 3 else mass
    return table(title, "looks at", noun, mean, tuple(queries if keys is None else keys), tuple(queries),
                 unit="share of attention", caption=caption)


def layers_chart(mass: np.ndarray, pairs: Mapping[str, tuple[int, int]], *, title: str = "Attention by layer",
                 caption: str = "") -> Chart:
    """Layers by chosen pairs: name -> (query group, key group), of mass [L, Gq, Gk]."""
    values = np.stack([mass[:, query, key] for query, key in pairs.values()], 1)
    return table(title, "from and to", "layer", values, tuple(pairs), numbered("layer", len(mass)),
                 unit="share of attention", caption=caption)


def steps_chart(mass: np.ndarray, pairs: Mapping[str, tuple[int, int]], *, x: str = "step",
                title: str = "Who looks at whom, step by step", caption: str = MEAN) -> Chart:
    """Lines over the steps, one per pair, of mass [steps, Gq, Gk]; where a group has no query there is no point."""
    return line(title, "share of attention", {name: mass[:, query, key] for name, (query, key) in pairs.items()}, x=x,
                caption=caption)


def mass_facts(mass: np.ndarray, pairs: Mapping[str, tuple[str, int, int | Sequence[int]]]) -> dict[str, Fact]:
    """Facts in percent: name -> (title, query group, key group or several), of mass [L, Gq, Gk] or [Gq, Gk]."""
    mean = np.nanmean(mass, 0) if mass.ndim == 3 else mass
    return {name: Fact(title, 100 * float(np.sum(mean[query, keys])), "% of its attention")
            for name, (title, query, keys) in pairs.items()}
