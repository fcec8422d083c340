"""Vocabulary statistics on CUDA, in Triton: the pass over tiles; everything after it is kernels/tiles.py's.

One program looks at a tile of logits, read from a table or made from the output projection on the spot and never
written, and leaves what `Sums` asks for: peak, mass, energy, tempered mass, the largest entries and, for a draw, one
column. The column is found by inverting the running sum inside the tile, so that a draw costs one uniform number per
tile and row instead of noise for every logit.
Statistics are of logits in fp32, not rounded to the type of the weight as a table of them would be.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import linear

from kernels import reference
from kernels.logits import Given, Head
from kernels.records import VocabStats
from kernels.sampling import Sampler, inverse_cdf
from kernels.tiles import WHOLE, Sums, tiled
from kernels.triton_tiles import PATH, load_tile, power, widened

TABLE_COLUMNS = 4096  # of one row: a tile of a table
LEAST_COLUMNS = 16


@triton.jit
def leave(s, rows, columns, tile, T, V, Peak, Mass, Energy, Warm, Inside, Drawn, Best, Ids, K, heat,
          WARM: tl.constexpr, DRAW: tl.constexpr):
    """Writes what a tile of logits s [rows, columns], -inf beyond the vocabulary, leaves behind."""
    at, inside = tile.to(tl.int64) * T + rows, rows < T
    peak = tl.maximum(tl.max(s, 1), -1e30)
    some = s > -1e29
    below = tl.where(some, s - peak[:, None], 0.0)
    p = tl.where(some, tl.exp2(below * 1.4426950408889634), 0.0)
    mass = tl.sum(p, 1)
    tl.store(Peak + at, peak, mask=inside)
    tl.store(Mass + at, tl.where(mass > 0, mass, 1.0), mask=inside)  # 1: a tile of -inf must not become NaN
    tl.store(Energy + at, tl.sum(p * below, 1), mask=inside)
    if WARM:
        p = tl.where(some, tl.exp2(below * heat), 0.0)
        mass = tl.sum(p, 1)
        tl.store(Warm + at, tl.where(mass > 0, mass, 1.0), mask=inside)
    if DRAW:
        place = tl.load(Inside + at, mask=inside, other=0.0).to(tl.float32)
        reached = (tl.cumsum(p, 1) > (place * mass)[:, None]) & (p > 0)  # rounding must not draw what has no mass
        drawn = tl.min(tl.where(reached, columns[None, :], 2147483647), 1)
        likely = tl.min(tl.where(s == peak[:, None], columns[None, :], 2147483647), 1)
        drawn = tl.minimum(tl.where(drawn < 2147483647, drawn, likely), V - 1)
        tl.store(Drawn + at, drawn.to(tl.int64), mask=inside)
    left = s == s
    for k in range(K):  # ties go to the earlier column; no column is taken twice
        top = tl.max(tl.where(left, s, float("-inf")), 1)
        column = tl.min(tl.where(left & (s == top[:, None]), columns[None, :], 2147483647), 1)
        left = left & (columns[None, :] != column[:, None])
        tl.store(Best + at * K + k, top, mask=inside)
        tl.store(Ids + at * K + k, tl.where(column < V, column, 0).to(tl.int64), mask=inside)


@triton.jit
def read(Logits, row_stride, column_stride, T, V, Peak, Mass, Energy, Warm, Inside, Drawn, Best, Ids, K, heat,
         WARM: tl.constexpr, DRAW: tl.constexpr, BV: tl.constexpr):
    """One program per row and tile of a table of logits."""
    row, tile = tl.program_id(0), tl.program_id(1)
    rows, columns = row + tl.arange(0, 1), tile * BV + tl.arange(0, BV)
    at = Logits + row.to(tl.int64) * row_stride + columns[None, :] * column_stride
    s = tl.load(at, mask=columns[None, :] < V, other=float("-inf")).to(tl.float32)
    leave(s, rows, columns, tile, T, V, Peak, Mass, Energy, Warm, Inside, Drawn, Best, Ids, K, heat, WARM, DRAW)


@triton.jit
def project(Hidden, Weight, Bias, h_t, w_v, D, T, V, Peak, Mass, Energy, Warm, Inside, Drawn, Best, Ids, K, heat,
            BIAS: tl.constexpr, WIDE: tl.constexpr, WARM: tl.constexpr, DRAW: tl.constexpr,
            BT: tl.constexpr, BV: tl.constexpr, BD: tl.constexpr):
    """One program per block of rows and tile of the projection; those on one tile of the weight are neighbours."""
    block, tile = tl.program_id(0), tl.program_id(1)
    rows, columns = block * BT + tl.arange(0, BT), tile * BV + tl.arange(0, BV)
    far_rows, far_columns = rows.to(tl.int64), columns.to(tl.int64)
    s = tl.zeros([BT, BV], tl.float32)
    for start in range(0, D, BD):
        d = start + tl.arange(0, BD)
        h = load_tile(Hidden, far_rows, h_t, d, D, T)
        w = load_tile(Weight, far_columns, w_v, d, D, V)
        if WIDE:
            h, w = h.to(tl.float32), w.to(tl.float32)
        if BT == 1:  # tl.dot wants 16 rows; one row is bound by reading the weight anyway
            s += tl.sum(h.to(tl.float32) * w.to(tl.float32), 1)[None, :]
        else:
            s = tl.dot(h, tl.trans(w), s, input_precision="ieee")
    if BIAS:
        s += tl.load(Bias + columns, mask=columns < V, other=0.0).to(tl.float32)[None, :]
    s = tl.where(columns[None, :] < V, s, float("-inf"))
    leave(s, rows, columns, tile, T, V, Peak, Mass, Energy, Warm, Inside, Drawn, Best, Ids, K, heat, WARM, DRAW)


class Table(Given):
    """Logits [T, V] on the device."""

    path, asks = PATH, False

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits)
        self.width = min(TABLE_COLUMNS, power(self.columns, LEAST_COLUMNS))

    def launch(self, tiles: int, outputs: tuple, **flags) -> None:
        read[self.rows, tiles](
            self.logits, *self.logits.stride(), self.rows, self.columns, *outputs, BV=self.width, **flags
        )


class Projection(Head):
    """Logits hidden [T, D] @ weight [V, D].T + bias [V], whose tiles are never written."""

    path = PATH

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(hidden.contiguous(), weight if weight.stride(1) == 1 else weight.contiguous(), bias)
        self.height, self.width, self.depth = block_of(self.rows, weight.dtype)

    @property
    def asks(self) -> bool:
        return not (self.device.type == "cuda" and torch.cuda.is_current_stream_capturing())

    def tile(self, columns: slice, rows: Tensor | slice = slice(None)) -> Tensor:
        bias = None if self.bias is None else self.bias[columns]
        return linear(self.hidden[rows], self.weight[columns], bias).to(self.dtype)

    def rounded(self, logit: Tensor) -> Tensor:
        return logit

    def launch(self, tiles: int, outputs: tuple, **flags) -> None:
        project[triton.cdiv(self.rows, self.height), tiles](
            self.hidden, self.weight, self.weight if self.bias is None else self.bias.contiguous(),
            self.hidden.stride(0), self.weight.stride(0), self.hidden.shape[1], self.rows, self.columns, *outputs,
            BIAS=self.bias is not None, WIDE=widened(self.weight.dtype), BT=self.height, BV=self.width, BD=self.depth,
            num_warps=8 if self.height == 128 else 4, **flags,
        )


def block_of(rows: int, dtype: torch.dtype) -> tuple[int, int, int]:
    """Rows, columns and depth of a tile: narrow where only reading the weight matters, small where fp32 has no mma."""
    if rows == 1:
        return 1, 32, 256
    if dtype == torch.float32:
        return min(32, power(rows)), 64, 32
    return min(128, power(rows)), 128, 64


def head_of(hidden: Tensor, weight: Tensor, bias: Tensor | None, sampler: Sampler | None) -> Table | Projection:
    """The projection; small ones whose draw is filtered are made once, because the filter wants the whole row."""
    if sampler is not None and sampler.filters and hidden.shape[0] * weight.shape[0] <= WHOLE:
        return Table(linear(hidden.to(weight.dtype), weight, bias))
    return Projection(hidden, weight, bias)


def sweep(source: Table | Projection, found: int, temperature: float, inside: Tensor | None) -> Sums:
    """CUDA twin of `tiles.sweep`."""
    tiles, rows, kept = triton.cdiv(source.columns, source.width), source.rows, min(found, source.width)
    peak, mass, energy, warm = torch.empty(4, tiles, rows, device=source.device)
    drawn, (best, ids) = peak.new_empty(tiles, rows, dtype=torch.long), (
        peak.new_empty(tiles, rows, kept, dtype=dtype) for dtype in (torch.float32, torch.long))
    tempered = temperature not in (0, 1)
    outputs = (peak, mass, energy, warm, peak if inside is None else inside, drawn, best, ids, kept)
    if rows:
        with torch.cuda.device_of(peak):
            source.launch(tiles, (*outputs, math.log2(math.e) / (temperature or 1)), WARM=tempered,
                          DRAW=inside is not None)
    return Sums(peak, mass, energy, warm if tempered else mass, ids[..., 0] if inside is None else drawn, best, ids)


def agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether table, projection and projection of one row give the reference's statistics and draws on this device."""
    make = torch.Generator().manual_seed(0)
    table, hidden, weight, bias = (
        torch.randn(shape, generator=make).to(device, dtype) for shape in ((2, 5000), (3, 72), (150, 72), 150)
    )
    table[:, 7] = float("-inf")
    made = linear(hidden.float(), weight.float(), bias.float())
    sources = ((Table(table), table.float()), (Projection(hidden, weight, bias), made),
               (Projection(hidden[:1], weight, bias), made[:1]))
    return all(same_statistics(source, logits, make) for source, logits in sources)


def same_statistics(source: Table | Projection, table: Tensor, make: torch.Generator) -> bool:
    found, expected = statistics(source), reference.vocab_stats(table, top_k=4)
    close = all(torch.allclose(getattr(found, name), getattr(expected, name), atol=2e-3, rtol=2e-3)
                for name in ("lse", "entropy", "top_logp"))
    tiles = triton.cdiv(source.columns, source.width)
    inside = torch.rand(tiles, source.rows, generator=make, dtype=torch.float64).to(table.device)
    drawn = sweep(source, 1, 0.7, inside).drawn
    spread = torch.nn.functional.pad(table / 0.7, (0, tiles * source.width - source.columns), value=float("-inf"))
    weights = (spread.unflatten(1, (tiles, -1)) - spread.amax(1)[:, None, None]).exp().transpose(0, 1)  # [C, T, W]
    places = inverse_cdf(weights.double(), inside) + torch.arange(tiles, device=table.device)[:, None] * source.width
    return close and bool((drawn == places).float().mean() > 0.9)  # a place at an edge may round the other way


def statistics(source: Table | Projection) -> VocabStats:
    return tiled(source, sweep, torch.Size([source.rows]), top_k=4, chosen=None, sampler=None, generator=None)
