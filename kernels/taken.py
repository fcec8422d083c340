"""Which kernels a piece of work called and on which path they ran, as they themselves say: "attention cpu-blocked"."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

TAKEN: ContextVar[set[str] | None] = ContextVar("kernel_paths_taken", default=None)
T = TypeVar("T")


def named(kernel: str, function: Callable, path: str = "") -> Callable:
    """`function`, which leaves "kernel path" behind after every call; the path is its result's, or the given one."""
    @wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        found, names = function(*args, **options), TAKEN.get()
        if names is not None:
            names.add(f"{kernel} {path or found.path}")
        return found
    return run


def watched(steps: Iterator[T], names: set[str]) -> Generator[T, None, None]:
    """The same steps; kernels called while a step is made leave their names in `names`.

    Between two steps nothing is watched: a generator shares the context of whoever reads it.
    """
    steps = iter(steps)
    try:
        while True:
            token = TAKEN.set(names)
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                TAKEN.reset(token)
            yield step
    finally:
        getattr(steps, "close", lambda: None)()
