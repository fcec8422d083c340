"""Attend: from a finished model call to numbers: the canvas of its tokens, head statistics, and exact rows.

Letters: N canvas tokens, S tokens of the model's sequence, L layers, H heads, R queries, D head width. Nothing N x N is
made for large N: statistics come from the fused pass, distances from a second one, rows only for the queries that are
stored.

Not covered: several pictures in one call (pass `sample` to read one of a batch), cross-attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.trace import Canvas, Cost, Field, Heads, Rows

BLOCK = 256  # tokens per centre of the distance sums
ROW_BYTES = 1_000_000  # all rows are stored when L * H * N * N bytes fit
SOME_BYTES = 300_000  # else so many bytes of chosen ones
SOME_ROWS = 24


@dataclass(frozen=True)
class TokenLayout:
    """A canvas and where its tokens stand.

    index int [N]: place of each canvas token in the model's sequence. coords float [N, d]: token number, or row and
    column, so that distances have a unit. outside: what the rest of the sequence is ("[CLS]", "the caption"), or "".
    """

    canvas: Canvas
    index: np.ndarray
    coords: np.ndarray
    unit: str
    outside: str = ""

    @property
    def fields(self) -> dict[str, Field]:
        found = {"entropy": Field("Attention entropy, mean over heads", "nats", 0.0),
                 "peak": Field("Largest attention weight, mean over heads", "probability", 0.0, 1.0),
                 "span": Field("Reach: RMS distance to what it looks at, mean over heads", self.unit, 0.0),
                 "received": Field("Attention received from all tokens, mean over heads", "queries' worth", 0.0)}
        if self.outside:
            found["outside"] = Field(f"Attention that goes to {self.outside}", "probability", 0.0, 1.0)
        return found


@dataclass(frozen=True, eq=False)
class KeptProjections:
    """Queries and keys of a run, from which any exact row follows: q [L][H, N, D], k [L][Hkv, S, D], all fp16.

    allowed: bool [1 or N, S] per layer where a mask was applied, else None. Lives in the visitor's session, not in the
    trace.
    """

    q: tuple[np.ndarray, ...]
    k: tuple[np.ndarray, ...]
    scale: tuple[float, ...]  # of each layer: some networks have their own in each
    causal: tuple[bool, ...]  # layers with a window of their own bring a mask instead
    index: np.ndarray
    allowed: tuple[np.ndarray | None, ...]

    def row(self, layer: int, head: int, query: int) -> np.ndarray:
        """Attention [N] float32 of one canvas token over the canvas; what is missing to 1 went outside."""
        if not (0 <= layer < len(self.q) and 0 <= head < len(self.q[layer]) and 0 <= query < len(self.index)):
            raise ValueError(f"There is no query {query} in layer {layer}, head {head}.")
        q, k = self.q[layer], self.k[layer]
        keys = k[head * k.shape[0] // q.shape[0]].astype(np.float32)  # [S, D]
        scores = keys @ q[head, query].astype(np.float32) * self.scale[layer]  # [S]
        may = self._may(layer, query, len(scores))
        weights = np.where(may, np.exp(scores - scores[may].max()), 0.0)
        return (weights / weights.sum())[self.index].astype(np.float32)

    def _may(self, layer: int, query: int, count: int) -> np.ndarray:
        may = np.arange(count) <= self.index[query] if self.causal[layer] else np.ones(count, bool)
        mask = self.allowed[layer]
        return may if mask is None else may & mask[query if len(mask) > 1 else 0]


@dataclass(frozen=True, eq=False)
class Looked:
    """What `look` found: statistics of all queries, rows of some, q and k of all (None where only rows are known), and
    the kernel path."""

    heads: Heads
    rows: Rows
    kept: KeptProjections | None
    path: str
    outside: np.ndarray = field(default_factory=lambda: np.zeros(0))  # [L, H, N], mass that left the canvas


def text_layout(labels: Sequence[str], roles: Sequence[str] = ()) -> TokenLayout:
    """Text tokens in a line: distances in tokens."""
    count = len(labels)
    canvas = Canvas("text", tuple(labels), roles=tuple(roles))
    return TokenLayout(canvas, np.arange(count), np.arange(count, dtype=np.float32)[:, None], "tokens")


def grid_layout(shape: tuple[int, int], picture: np.ndarray | None = None, first: int = 0, outside: str = "",
                labels: Sequence[str] = ()) -> TokenLayout:
    """A picture's tokens, row by row, starting at place `first` of the sequence: distances in cells."""
    count = shape[0] * shape[1]
    canvas = Canvas("grid", tuple(labels) or ("",) * count, shape=shape, picture=picture)
    return TokenLayout(canvas, np.arange(count) + first, np.argwhere(np.ones(shape)).astype(np.float32), "cells",
                       outside)


def look(seen, layout: TokenLayout, ask: int | None = None, sample: int = 0) -> Looked:
    """Reads a finished `observe(model, want={"stats", "qk"})` block of one or more layers.

    Entropy (nats) and peak are those of the whole row, received counts every query of the sequence; span is the RMS
    distance over the canvas: sqrt(sum_j p_ij |x_i - x_j|^2 / sum_j p_ij). ask: a canvas token whose rows must be kept.
    """
    import torch
    calls = list(seen)
    index = torch.as_tensor(layout.index, device=calls[0].q.device)
    stats = {name: np.stack([_numpy(getattr(call, name)[sample][:, index]) for call in calls])
             for name in ("entropy", "peak", "received")}  # each [L, H, N]
    wanted = stored_queries(stats["received"], ask)
    read = [_read_layer(call, layout, index, wanted, sample) for call in calls]
    heads = Heads(**{name: value.astype(np.float16) for name, value in stats.items()},
                  span=np.stack([span for span, _, _ in read]).astype(np.float16),
                  layers=tuple(call.layer for call in calls))
    rows = Rows.pack(wanted, np.stack([chosen for _, chosen, _ in read]))
    return Looked(heads, rows, keep(calls, layout, sample), seen.path, np.stack([rest for _, _, rest in read]))


def side_by_side(found: Sequence[Looked], names: Sequence[str]) -> Looked:
    """Several looks at one canvas as the "layers" of one record, in order: the same layer of two models, say."""
    heads = {name: np.concatenate([getattr(one.heads, name) for one in found])
             for name in ("entropy", "peak", "span", "received")}
    rows = Rows(found[0].rows.queries, np.concatenate([one.rows.weights for one in found]),
                np.concatenate([one.rows.scale for one in found]))
    q, k, scale, causal, allowed = (sum((getattr(one.kept, part) for one in found), ())
                                    for part in ("q", "k", "scale", "causal", "allowed"))
    kept = KeptProjections(q, k, scale, causal, found[0].kept.index, allowed)
    layers = sum((one.heads.layers for one in found), ())
    path = "+".join(sorted({one.path for one in found}))
    return Looked(Heads(**heads, layers=layers, names=tuple(names)), rows, kept, path,
                  np.concatenate([one.outside for one in found]))


def stored_queries(received: np.ndarray, ask: int | None = None) -> np.ndarray:
    """Which queries' rows a trace stores: all if they fit, else the asked one, the ends, the most looked-at and a few
    evenly spaced ones. received [L, H, N] -> int [R], ascending."""
    layers, heads, count = received.shape
    if layers * heads * count * count <= ROW_BYTES:
        return np.arange(count)
    room = int(np.clip(SOME_BYTES // (layers * heads * count), 4, SOME_ROWS))
    busiest = int(received.sum((0, 1)).argmax())
    first = [count - 1 if ask is None else ask, count - 1, 0, busiest]
    return np.unique([*first, *np.linspace(0, count - 1, room - 2).astype(int)[1:-1]])


def keep(calls: Sequence, layout: TokenLayout, sample: int = 0) -> KeptProjections:
    """Half-precision queries and keys of observed layers, on the CPU."""
    return KeptProjections(tuple(_half(call.q[sample][:, layout.index]) for call in calls),
                           tuple(_half(call.k[sample]) for call in calls),
                           tuple(float(call.options.get("scale") or call.q.shape[-1] ** -0.5) for call in calls),
                           tuple(bool(call.options.get("causal")) for call in calls), layout.index,
                           tuple(_allowed(call.options.get("mask"), layout, sample) for call in calls))


def _read_layer(call, layout: TokenLayout, index, wanted: np.ndarray, sample: int):
    """Span [H, N], the rows [H, R, N] of the wanted queries and the mass outside the canvas [H, N]."""
    import torch
    rows = call.rows_for(index[torch.as_tensor(wanted, device=index.device)])[sample][:, :, index]  # [H, R, N]
    span, mass = _spans(call, torch.as_tensor(layout.coords, device=index.device).float(), index, sample)
    return _numpy(span), _numpy(rows), _numpy((1 - mass).clamp(0, 1))


def _spans(call, coords, index, sample: int):
    """Span and mass on the canvas, both [H, N], from one more attention pass whose values are the keys' places.

    With c a centre near query i: sum_j p_ij |x_i - x_j|^2 = |x_i - c|^2 m - 2 (x_i - c).E1 + E2, where m, E1 and E2 are
    the attention outputs of 1, x_j - c and |x_j - c|^2. One centre per BLOCK tokens: single precision then suffices.
    """
    import torch

    import kernels
    centres = coords[min(BLOCK // 2, (len(coords) - 1) // 2)::BLOCK]  # [C, d]
    from_centre = coords[:, None] - centres  # [N, C, d]
    moments = torch.cat([from_centre, from_centre.pow(2).sum(-1, keepdim=True)], -1)  # [N, C, d + 1]
    q, k = call.q[sample:sample + 1].float(), call.k[sample:sample + 1].float()
    values = torch.zeros(k.shape[2], 1 + moments[0].numel(), device=k.device)  # zero outside the canvas
    values[index] = torch.cat([torch.ones_like(coords[:, :1]), moments.flatten(1)], 1)
    options = {**call.options, "mask": one_sample(call.options.get("mask"), sample)}
    out = kernels.attention_stats(q, k, values.expand(*k.shape[:3], -1), **options).out[0][:, index]  # [H, N, F]
    nearest = from_centre.pow(2).sum(-1).argmin(1)  # [N]
    place = torch.arange(len(coords), device=coords.device)
    own, mass = from_centre[place, nearest], out[..., 0]  # [N, d], [H, N]
    found = out[..., 1:].unflatten(-1, moments.shape[1:])[:, place, nearest]  # [H, N, d + 1]
    squared = own.pow(2).sum(-1) * mass - 2 * (own * found[..., :-1]).sum(-1) + found[..., -1]
    return (squared.clamp_min(0) / mass.clamp_min(1e-12)).sqrt(), mass


def one_sample(mask, sample: int):
    """The mask of one sample of the batch."""
    return mask if mask is None or len(mask) == 1 else mask[sample:sample + 1]


def _allowed(mask, layout: TokenLayout, sample: int) -> np.ndarray | None:
    """Bool [1 or N, S] of a mask that broadcasts to [B, H, S, S]; heads share it."""
    if mask is None:
        return None
    mask = one_sample(mask, sample)[0, 0]  # [1 or S, S]
    allowed = _numpy(mask > -1e4 if mask.is_floating_point() else mask).astype(bool)
    return allowed[layout.index] if len(allowed) > 1 else allowed


def _numpy(tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def _half(tensor) -> np.ndarray:
    return tensor.detach().half().cpu().numpy()


def costs(seen, calls, ms: float) -> list[Cost]:
    """Rows and multiply-adds per layer: every weight matrix of its block, and scores and mixing over all keys.

    seen: whatever has the observed module as `.observed` (a Sight, an Arm); calls: what `observe` caught there.
    """
    found = []
    for call in calls:
        block = seen.observed.get_submodule(call.name.rpartition(".")[0])
        matrices = sum(weight.numel() for weight in block.parameters() if weight.dim() == 2)
        queries, keys = call.q.shape[2], call.k.shape[2]
        mixing = 2 * queries * keys * call.q.shape[1] * call.q.shape[3]
        found.append(Cost(1 if not found else 0, queries, queries * matrices + mixing, 0, ms / len(calls)))
    return found
