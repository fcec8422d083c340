"""Which path runs is decided at every call, from the tensors; tests may force one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FORCED: ContextVar[str | None] = ContextVar("forced_kernel_path", default=None)
PATHS = ("cpu-eager",)


@contextmanager
def override(path: str) -> Iterator[None]:
    """Runs every kernel inside the block on the named path; ValueError lists the paths that exist."""
    if path not in PATHS:
        raise ValueError(f"Unknown kernel path {path!r}; there are {', '.join(PATHS)}.")
    token = FORCED.set(path)
    try:
        yield
    finally:
        FORCED.reset(token)
