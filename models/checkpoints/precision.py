"""Which number format a model runs in when nobody says: bfloat16 only where this processor clearly gains by it.

A race of about 50 ms decides: one transformer layer of the model's own width reads 128 tokens; for a model that writes
token by token, also one token alone. bfloat16 must read at least twice as fast and must not write more slowly. The
result is kept in the user's cache folder, so that the same seed gives the same trace on the same machine.
TOKENSCOPE_DTYPE (app.py --dtype) decides without a race; `pinned` decides for a block and is stronger than both.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

MARGIN = 2.0  # how many times as fast reading must be
FLAGS = ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16")  # what processors call their bfloat16 instructions
READ, WRITE = 128, 1  # tokens
WIDEST = 768  # wider layers gain no less, and would race for longer
SECONDS, ROUNDS = 0.025, 40  # per race, whichever ends it first
PINNED: ContextVar[str | None] = ContextVar("pinned_dtype", default=None)


@contextmanager
def pinned(dtype: str) -> Iterator[None]:
    """Models that name no dtype are loaded in this one inside the block, whatever the machine or its user prefers."""
    token = PINNED.set(dtype)
    try:
        yield
    finally:
        PINNED.reset(token)


def default(device: str, width: int, writes: bool = False) -> str:
    """The dtype's name for a model of this width on this device; a width of 0 is unknown and stays in float32."""
    asked = PINNED.get() or os.environ.get("TOKENSCOPE_DTYPE")
    return asked or ("bfloat16" if device == "cpu" and width and bfloat16_wins(width, writes) else "float32")


def bfloat16_wins(width: int, writes: bool) -> bool:
    """Whether bfloat16 is worth its rounding for layers of this width."""
    if not has_bfloat16():
        return False  # it would be emulated, so no race is needed
    width = min(width, WIDEST)
    return known_gain(width, READ) >= MARGIN and (not writes or known_gain(width, WRITE) >= 1)


def has_bfloat16() -> bool:
    """Whether the processor says that it computes with bfloat16."""
    import torch
    found = torch.cpu.get_capabilities()
    return any(found.get(flag) for flag in FLAGS)


def known_gain(width: int, rows: int) -> float:
    """The gain measured earlier on this machine, or measured now; where nothing can be written, once per process."""
    import torch

    from kernels.threads import pool
    key = f"{torch.cpu.get_capabilities().get('cpu_name')}, torch {torch.__version__}, {rows} x {width}"
    if key not in (kept := read_cache()):
        kept[key] = round(pool().submit(gain, width, rows).result(), 2)  # on one core, which waits for no other
        write_cache(kept)
    return kept[key]


_kept: dict[str, float] = {}  # gains of this process


def cache_file() -> Path:
    from kernels.native import cache
    return cache() / "bfloat16.json"


def read_cache() -> dict[str, float]:
    try:
        _kept.update(json.loads(cache_file().read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        pass  # none yet, or damaged: measure again
    return _kept


def write_cache(kept: dict[str, float]) -> None:
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        cache_file().write_text(json.dumps(kept, indent=1), "utf-8")
    except OSError:
        pass  # a read-only home: the process remembers


def gain(width: int, rows: int) -> float:
    """How many times as fast bfloat16 is as float32 in this thread, from the best of interleaved rounds."""
    import torch
    sides = [ingredients(width, rows, dtype) for dtype in (torch.float32, torch.bfloat16)]
    best, began = [float("inf")] * 2, time.perf_counter()
    with torch.inference_mode():
        for done in range(ROUNDS):
            if done > 2 and time.perf_counter() - began > SECONDS:
                break
            for side, parts in enumerate(sides):
                start = time.thread_time()  # not the wall: on a shared machine that measures the neighbours
                layer(*parts)
                if done:  # the first round warms up
                    best[side] = min(best[side], time.thread_time() - start)
    return best[0] / best[1]


def ingredients(width: int, rows: int, dtype):
    """Input [T, D] and weights of one layer, in one dtype."""
    import torch
    shapes = ((rows, width), (3 * width, width), (width, width), (4 * width, width), (width, 4 * width))
    return [torch.full(shape, 0.01).to(dtype) for shape in shapes]


def layer(x, qkv, out, up, down):
    """A transformer layer over x [T, D], as the models of the app compute it; returns [T, D]."""
    from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention
    heads = x.shape[1] // 64 if x.shape[1] % 64 == 0 else 1
    q, k, v = linear(layer_norm(x, x.shape[1:]), qkv).unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)  # each [H, T, W]
    x = x + linear(scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1), out)
    return x + linear(gelu(linear(layer_norm(x, x.shape[1:]), up)), down)
