"""Which path runs is decided at every call, from the tensors; tests may force one.

Never at import: on hosted GPUs the device exists only inside the task that uses it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module

import torch
from torch import Tensor

from kernels import native

FORCED: ContextVar[str | None] = ContextVar("forced_kernel_path", default=None)
PATHS = ("reference", "cpu-eager", "cpu-blocked", "cpu-compiled", "cpu-tiled", "cuda-triton", "identities")
TRITON_WIDTH = 256  # widest head whose tiles fit on chip
TRITON_TYPES = (torch.float32, torch.bfloat16, torch.float16)
VERDICTS: dict[tuple[str, torch.device, torch.dtype], bool] = {}
NOTES: dict[str, None] = {}
TRYING = threading.RLock()
EAGER_QUERIES = 256  # a whole table at once pays for short sequences,
EAGER_SCORES = 1 << 20  # as long as its pages are few: in the caller's thread no thread of ours meets torch's


@contextmanager
def override(path: str) -> Iterator[None]:
    """Runs every kernel of this context on the named path where it has one; ValueError lists the paths."""
    if path not in PATHS:
        raise ValueError(f"Unknown kernel path {path!r}; there are {', '.join(PATHS)}.")
    token = FORCED.set(path)
    try:
        yield
    finally:
        FORCED.reset(token)


def differentiable(*tensors: Tensor | None) -> bool:
    """True when gradients are wanted: only the reference has them."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def attention_path(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> str:
    """Path for attention of queries [B, H, N, D] over keys [B, Hkv, M, D]."""
    forced = FORCED.get()
    if forced is not None:
        return forced
    if differentiable(q, k, v, mask):
        return "reference"
    if q.device.type != "cpu":
        return "cuda-triton" if triton_serves(q, v) else "identities"
    if native.ready() and q.dtype != torch.float64:
        return "cpu-compiled"
    return "cpu-eager" if at_once(q, k) else "cpu-blocked"


def decodes(hidden: Tensor) -> bool:
    """Whether `decode_token` takes these inputs: where torch has one thread, so that no larger network loses its
    second core."""
    return (native.ready() and FORCED.get() is None and hidden.device.type == "cpu" and hidden.dtype == torch.float32
            and torch.get_num_threads() == 1 and not torch.is_grad_enabled())


def at_once(q: Tensor, k: Tensor) -> bool:
    """Whether all tables of queries [B, H, N, D] over keys [B, Hkv, M, D] should be made at once on the CPU."""
    batch, heads, queries, _ = q.shape
    return queries <= EAGER_QUERIES and batch * heads * queries * k.shape[2] <= EAGER_SCORES


def compile_kernels(wait: bool = False) -> None:
    """Starts making the CPU kernel that needs a compiler, in the background unless `wait`; "cpu-compiled" is taken as
    soon as it is ready and has passed its test."""
    thread = threading.Thread(target=native.prepare, args=(note,), name="compile kernels", daemon=True)
    thread.start()
    if wait:
        thread.join()


def triton_serves(q: Tensor, v: Tensor) -> bool:
    """True where the Triton attention may run."""
    fits = q.device.type == "cuda" and max(q.shape[3], v.shape[3]) <= TRITON_WIDTH
    return fits and trusted("attention", q.device, q.dtype)


def vocabulary_path(table: Tensor, *others: Tensor | None) -> str:
    """Path for statistics of a table of logits, or of the weight of a projection that makes them."""
    forced = FORCED.get()
    if forced in ("reference", "cuda-triton"):
        return forced
    if differentiable(table, *others):
        return "reference"
    if table.device.type == "cuda":
        return "cuda-triton" if trusted("vocabulary", table.device, table.dtype) else "reference"
    return "cpu-tiled" if table.device.type == "cpu" else "reference"


def unmasking_path(ids: Tensor) -> str:
    """Path for choosing which positions [B, N] are filled in."""
    if FORCED.get() is not None:
        return "cuda-triton" if FORCED.get() == "cuda-triton" else "reference"
    agreed = ids.device.type == "cuda" and trusted("unmasking", ids.device, torch.float32)
    return "cuda-triton" if agreed else "reference"


def trusted(kernel: str, device: torch.device, dtype: torch.dtype) -> bool:
    """True where Triton is installed and kernels/triton_<kernel>.py has shown here that it agrees with the reference.

    Tried once per device and type, before the first use; `notes` says why a kernel was refused.
    """
    if dtype not in TRITON_TYPES:
        return False
    with TRYING:  # one thread compiles, the others wait for its verdict
        if (kernel, device, dtype) not in VERDICTS:
            VERDICTS[kernel, device, dtype] = tried(kernel, device, dtype)
    return VERDICTS[kernel, device, dtype]


def tried(kernel: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Runs the kernel's self-test; whatever a compiler or driver raises only means that the plain code serves."""
    name = f"The Triton {kernel} kernel"
    where = f"on {device} in {str(dtype).removeprefix('torch.')}, so the plain computation serves"
    try:
        with torch.no_grad():
            agrees = import_module(f"kernels.triton_{kernel}").agrees(device, dtype)
    except ImportError:
        note("Triton is not installed, so the plain computation serves on the GPU.")
        return False
    except Exception as error:
        note(f"{name} did not run ({type(error).__name__}) {where}.")
        return False
    if not agrees:
        note(f"{name} disagrees with the reference {where}.")
    return agrees


def learned() -> tuple[dict, list[str]]:
    """What self-tests found in this process, for the next one on such a GPU: verdicts and notes, to be pickled."""
    return dict(VERDICTS), notes()


def recall(found: tuple[dict, list[str]]) -> None:
    """Takes over what `learned` said elsewhere, so that no self-test is run again."""
    VERDICTS.update(found[0])
    for sentence in found[1]:
        note(sentence)


def note(sentence: str) -> None:
    """Keeps a plain sentence on what could not run as planned, once."""
    NOTES.setdefault(sentence)


def notes() -> list[str]:
    """What could not run as planned in this process, in order; for the honesty strip."""
    return list(NOTES)
