"""The C kernels of the CPU path, compiled in the background where a compiler is found, and cached.

torch reads a block of scores seven times to soften it and to sum up its rows, and a tile of logits ten times; rows.c
reads them once or twice. A token of a small network is a hundred operations of torch, and one of decoder.c. Nothing
needs them: without a compiler, before they are ready, or when a self-test fails, kernels/blocked.py, kernels/tiles.py
and the networks' own layers do the same in torch operations.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kernels.sampling import inverse_cdf_laned, lane_count
from kernels.threads import scratch

SOURCES = tuple(Path(__file__).with_name(name) for name in ("lanes.h", "rows.c", "decoder.c"))
FLAGS = (("-O3", "-march=native", "-mprefer-vector-width=512"), ("-O3", "-march=native"), ("-O3",))
SECONDS = 60  # for the compiler
POINTER, NUMBER = ctypes.c_void_p, ctypes.c_int64
ARGUMENTS = {
    "attention_rows": [POINTER, *[NUMBER] * 5, POINTER, NUMBER, NUMBER, POINTER, POINTER, NUMBER],
    "vocabulary_rows": [POINTER, *[NUMBER] * 4, ctypes.c_float, NUMBER, *[POINTER] * 5, NUMBER, POINTER],
    "decoder_token": [POINTER, POINTER, NUMBER, NUMBER, POINTER, NUMBER, NUMBER, POINTER, POINTER, ctypes.c_float,
                      ctypes.c_float, POINTER]}
LANES, WIDEST, MOST = 16, 1024, 128  # as in lanes.h and rows.c

_rows = None  # the library, once it is there and has passed its test
_tried = False
_lock = threading.Lock()


def ready() -> bool:
    """Whether the compiled kernel serves; never waits, never compiles."""
    return _rows is not None


def prepare(tell: Callable[[str], None]) -> None:
    """Finds or compiles the library, tests it against torch operations and puts it to use; once per process.

    `tell` hears in a sentence why not, where that fails.
    """
    global _rows, _tried
    with _lock:
        if _tried:
            return
        _tried = True
        try:
            found = load(library())
        except (OSError, subprocess.SubprocessError, LookupError) as error:
            why = error.args[0] if isinstance(error, LookupError) else type(error).__name__
            return tell(f"The CPU kernel could not be compiled ({why}), so torch's operations serve.")
        if not agrees(found):
            return tell("The compiled CPU kernel disagrees with the reference here, so torch's operations serve.")
        _rows = found


def library() -> Path:
    """The compiled library for this source, compiler and processor. LookupError without a compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise LookupError("no C compiler")
    machine = f"{compiler} {platform.machine()} {torch.cpu.get_capabilities()} {FLAGS}"
    key = hashlib.sha256(b"".join(one.read_bytes() for one in SOURCES) + machine.encode()).hexdigest()[:16]
    path = own_folder() / f"rows-{key}.so"
    return path if path.exists() else compiled(compiler, path)


def own_folder() -> Path:
    """The user's cache folder, or, where that cannot be written or belongs to others, a fresh one of this process."""
    path = cache()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(path, os.W_OK) and not (hasattr(os, "getuid") and path.stat().st_uid != os.getuid()):
            return path
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="tokenscope-"))


def cache() -> Path:
    """What is measured or compiled once per machine lies here."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenscope"


def compiled(compiler: str, path: Path) -> Path:
    """Compiles with the best flags that the compiler knows; whole or not at all, also when two processes do it."""
    made = path.with_suffix(f".{os.getpid()}")
    for flags in FLAGS:
        command = [compiler, *flags, "-shared", "-fPIC", "-w", *map(str, SOURCES[1:]), "-o", str(made), "-lm"]
        if subprocess.run(command, capture_output=True, timeout=SECONDS, check=False).returncode == 0:
            return made.replace(path)
    raise LookupError("the compiler failed")


def load(path: Path):
    found = ctypes.CDLL(str(path))
    for name, arguments in ARGUMENTS.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    return found


def rows(scores: Tensor, seen: int, step: int, sums: Tensor, weights: Tensor | None, received: Tensor,
         use: Callable | None = None) -> None:
    """Softens scores fp32 [t, n, m] in place and fills sums [3, t, n] as rows.c says; adds to received [t, M], M >= m.

    Row r sees the first seen + step r keys. weights [n]: which rows count in `received`. sums and received may be parts
    of larger tables, with their last dimension in one piece.
    """
    count, length, keys = scores.shape
    (use or _rows).attention_rows(
        scores.data_ptr(), count, length, keys, seen, step, sums.data_ptr(), sums.stride(0), sums.stride(1),
        None if weights is None else weights.data_ptr(), received.data_ptr(), received.stride(0))


def serves(dtype: torch.dtype, found: int) -> bool:
    """Whether `vocabulary` takes tiles of this precision, of which so many entries are asked."""
    return ready() and dtype == torch.float32 and found <= MOST


def vocabulary(logits: Tensor, found: int, temperature: float, place: Tensor | None, use=None) -> tuple[Tensor, ...]:
    """Maximum, mass, energy, mass at `temperature` and a column drawn at it [T], the `found` largest entries and their
    columns [T, K]; logits fp32 [T, W]. place fp64 [T]: where in the running sum to draw; without it the first is drawn.
    """
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    count, width = logits.shape
    sums, best = torch.empty(4, count), torch.empty(count, found)
    ids, drawn = (torch.empty(shape, dtype=torch.int64) for shape in ((count, found), (count,)))
    lanes = min(WIDEST, max(LANES, lane_count(found * width)))
    place, row = None if place is None else place.contiguous(), scratch("weight", (width,), logits.dtype)
    (use or _rows).vocabulary_rows(
        logits.data_ptr(), count, width, logits.stride(0), lanes if lanes <= width else LANES, temperature, found,
        sums.data_ptr(), best.data_ptr(), ids.data_ptr(), None if place is None else place.data_ptr(),
        drawn.data_ptr(), lane_count(width), row.data_ptr())
    return *sums, ids[:, 0] if place is None else drawn, best, ids


def token(hidden: Tensor, weights: Sequence[Sequence[Tensor]], caches: Sequence[tuple[Tensor, Tensor]], at: int,
          cosine: Tensor, sine: Tensor, eps: float, scale: float, use=None) -> Tensor:
    """States [B, D] of one more token each, behind decoder layers, from the inputs [B, D] of the first.

    weights: per layer norm [D], q [H W, D], k, v [G W, D], o [D, H W], norm [D], gate, up [M, D], down [D, M]; caches:
    its keys and values [B, G, room, W], which hold `at` tokens and take the new one. cosine, sine [W]. All fp32 and in
    one piece, their widths multiples of LANES.
    """
    hidden, (texts, width), (keys, _) = hidden.clone(), hidden.shape, caches[0]
    groups, room, wide = keys.shape[1:]
    queries, inside = weights[0][1].shape[0], weights[0][6].shape[0]
    parts = [part.data_ptr() for layer, cache in zip(weights, caches, strict=True) for part in (*layer, *cache)]
    row = scratch("token", (texts * 2 * (width + queries + inside) + at + 1,), torch.float32)
    (use or _rows).decoder_token(
        hidden.data_ptr(), (POINTER * len(parts))(*parts), len(weights), texts,
        (NUMBER * 5)(width, queries // wide, groups, wide, inside), at, room, cosine.data_ptr(), sine.data_ptr(), eps,
        scale, row.data_ptr())
    return hidden


def agrees(found) -> bool:
    """Compares all kernels with torch."""
    return attends(found) and sums_up(found) and decodes(found)


def decodes(found) -> bool:
    """Compares with torch on one layer: five texts, three heads that share a key head, behind six tokens."""
    made, W, H, D, M = torch.Generator().manual_seed(0), 32, 3, 48, 80
    shapes = ((D,), (H * W, D), (W, D), (W, D), (D, H * W), (D,), (M, D), (M, D), (D, M))
    weights = [torch.randn(shape, generator=made) / shape[-1] ** 0.5 for shape in shapes]
    norm, q, k, v, o, norm2, gate, up, down = weights
    x, cache = torch.randn(5, D, generator=made), torch.randn(2, 5, 1, 9, W, generator=made)
    angle, held = 3.0 * (torch.arange(W) % 16), cache.clone()
    cosine, sine = angle.cos(), angle.sin()

    def turned(part: Tensor) -> Tensor:
        heads = part.unflatten(-1, (-1, W))
        return heads * cosine + torch.cat([-heads[..., W // 2 :], heads[..., : W // 2]], -1) * sine

    def rooted(part: Tensor) -> Tensor:
        return part * (part.square().mean(-1, keepdim=True) + 1e-5).rsqrt()

    normed = norm * rooted(x)
    held[0, :, :, 6], held[1, :, 0, 6] = turned(normed @ k.T), normed @ v.T
    shares = (0.2 * turned(normed @ q.T) @ held[0, :, 0, :7].mT).softmax(-1)
    middle = x + (shares @ held[1, :, 0, :7]).flatten(1) @ o.T
    normed = norm2 * rooted(middle)
    ends = middle + (torch.nn.functional.silu(normed @ gate.T) * (normed @ up.T)) @ down.T
    mine = token(x, [weights], [(cache[0], cache[1])], 6, cosine, sine, 1e-5, 0.2, found)
    return torch.allclose(mine, ends, atol=1e-5, rtol=1e-5) and torch.allclose(cache, held, atol=1e-5)


def sums_up(found) -> bool:
    """Compares with torch on tiles with a forbidden column and a row whose logits are far apart."""
    made = torch.Generator().manual_seed(0)
    for width in (5, 37, 300):
        logits = 8 * torch.randn(3, width + 3, generator=made)[:, :width]
        logits[:, 2], logits[1, 4] = float("-inf"), 500
        place = torch.tensor([0.0, 0.5, 0.999], dtype=torch.float64)
        top, mass, energy, warm, drawn, best, ids = vocabulary(logits, 3, 0.7, place, found)
        below = (logits - logits.amax(-1, keepdim=True)).clamp_min(-87)
        table = (below / 0.7).exp()
        pairs = ((top, logits.amax(-1)), (mass, below.exp().sum(-1)), (energy, (below.exp() * below).sum(-1)),
                 (warm, table.sum(-1)), (best, logits.topk(3).values), (logits.gather(1, ids), best),
                 (drawn, inverse_cdf_laned(table, place)))
        if not all(torch.allclose(mine, theirs, atol=1e-5, rtol=1e-5) for mine, theirs in pairs):
            return False
    return True


def attends(found) -> bool:
    """Compares with torch on a causal table with a row that sees nothing and one whose scores are far apart."""
    made = torch.Generator().manual_seed(0)
    scores = 8 * torch.randn(2, 7, 37, generator=made)
    scores[0, 3], scores[1, 5, 4] = -1e30, 500
    hidden = torch.arange(37) >= torch.arange(31, 38)[:, None]
    plain = scores.masked_fill(hidden, -1e30)
    weights = torch.tensor([1.0, 0, 1, 1, 1, 1, 1])
    sums, received = torch.zeros(3, 2, 7), torch.zeros(2, 37)
    rows(scores, 31, 1, sums, weights, received, found)
    top = plain.amax(-1)
    probs = torch.exp2(plain - top[..., None]) * (plain > -1e29)
    some = top > -1e29
    energy = (probs * (plain - top[..., None]).clamp_min(-126)).sum(-1)
    expected = (probs / probs.sum(-1, keepdim=True).clamp_min(1e-30) * weights[:, None]).sum(1)
    pairs = ((scores[some], probs[some]), (sums[0], top), (sums[1][some], probs.sum(-1)[some]),
             (sums[2][some], energy[some]), (received, expected))
    return all(torch.allclose(mine, theirs, atol=1e-5, rtol=1e-5) for mine, theirs in pairs)
