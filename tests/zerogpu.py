"""A stand-in for the platform's `spaces` package, which does nothing off it: forked workers, pickles both ways.

After zero/wrappers.py of spaces 0.51: the quota is checked before a task begins, a worker's error arrives as the name
of its class, a dead worker as "GPU task aborted", and closing the generator stops the worker at its next value.
Stricter than the platform: every task gets a fresh worker, and what crosses must be plain: no torch, no lambda.

`Host` is the process that forks: a fresh one, in which the app's modules believe to be on ZeroGPU.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

forking = multiprocessing.get_context("fork")
SECONDS = 60  # for anything here to answer


class Error(Exception):
    """As gr.Error: a message, and a title that says which of the platform's errors it is."""

    def __init__(self, message: str, title: str):
        super().__init__(message)
        self.title = title


class Platform:
    """What it is set to do, and what it was asked for."""

    left = math.inf  # seconds of quota
    free = True  # whether there is a GPU at all
    dies = False  # whether workers die before they begin
    asked: list[int] = []
    largest = 0  # bytes that came back at once


class Plain(pickle.Pickler):
    """Refuses what only seems to travel well."""

    def persistent_id(self, value: Any) -> None:
        module = type(value).__module__.split(".")[0]
        if module == "torch" and type(value).__name__ not in ("dtype", "device"):
            raise pickle.PicklingError(f"{type(value).__name__} of torch")


def packed(value: Any) -> bytes:
    out = io.BytesIO()
    Plain(out, pickle.HIGHEST_PROTOCOL).dump(value)
    return out.getvalue()


def GPU(duration: Callable[..., int]) -> Callable:
    """The decorator, for generator functions."""
    def decorated(task: Callable[..., Iterator]) -> Callable[..., Iterator]:
        def handler(*args: Any) -> Iterator:
            schedule(duration(*args))
            yield from values(task, args)
        return handler
    return decorated


def schedule(seconds: int) -> None:
    Platform.asked.append(seconds)
    if not Platform.free:
        raise Error("No GPU was available", "ZeroGPU client error")
    if seconds > Platform.left:
        raise Error(f"{seconds}s requested vs. {Platform.left}s left", "ZeroGPU quota exceeded")


def values(task: Callable[..., Iterator], args: tuple) -> Iterator:
    """What the worker yields."""
    (here, there), stop = forking.Pipe(), forking.Event()
    given = packed(args)
    worker = forking.Process(target=work, args=(task, given, there, here, stop), daemon=True)
    worker.start()
    there.close()
    try:
        while True:
            kind, value = received(here)
            if kind == "end":
                return
            if kind == "error":
                raise Error(value, "ZeroGPU worker error")
            yield value
    finally:
        stop.set()
        drain(here)
        worker.join(SECONDS)
        if worker.is_alive():
            worker.kill()
            raise AssertionError("the worker hangs")


def received(pipe) -> tuple[str, Any]:
    """One message of a worker; a worker that hangs is a failed test."""
    if not pipe.poll(SECONDS):
        raise AssertionError("the worker says nothing")
    try:
        message = pipe.recv_bytes()
    except EOFError:
        raise Error("GPU task aborted", "ZeroGPU worker error") from None
    Platform.largest = max(Platform.largest, len(message))
    return pickle.loads(message)


def drain(pipe) -> None:
    """A worker that still has something to say must not wait for a reader."""
    try:
        while pipe.poll(SECONDS):
            pipe.recv_bytes()
    except (EOFError, OSError):
        pass


def work(task: Callable[..., Iterator], given: bytes, out, other, stop) -> None:
    """The worker."""
    other.close()
    if Platform.dies:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        steps = task(*pickle.loads(given))
        for value in steps:
            if stop.is_set():
                steps.close()
                break
            out.send_bytes(packed(("value", value)))
        out.send_bytes(packed(("end", None)))
    except Exception as error:
        out.send_bytes(packed(("error", type(error).__name__)))


class Host:
    """A fresh process on a make-believe ZeroGPU. `host(function, *args)` runs a module's function in it."""

    def __init__(self):
        here, there = multiprocessing.get_context("spawn").Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
        self.process.start()
        self.pipe = here

    def __call__(self, function: Callable, *args: Any) -> Any:
        self.pipe.send((function, args))
        if not self.pipe.poll(4 * SECONDS):
            raise AssertionError("the host hangs")
        fine, found = self.pipe.recv()
        assert fine, found
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.join()


def serve(pipe) -> None:
    """The host: the app as it starts on ZeroGPU, with tiny weights. A task's GPU is this machine's processor."""
    os.environ |= {"SPACES_ZERO_GPU": "true", "TOKENIZERS_PARALLELISM": "false"}
    sys.modules["spaces"] = sys.modules[__name__]
    import torch

    from models.serving import zerogpu
    from tests import tiny
    torch.set_num_threads(2)  # what does not live through a fork must be there
    forbid(torch.cuda)
    zerogpu.DEVICE = "cpu"
    tiny.use()
    while True:
        function, args = pipe.recv()
        Platform.left, Platform.free, Platform.dies = math.inf, True, False
        try:
            pipe.send((True, function(*args)))
        except Exception:
            pipe.send((False, traceback.format_exc()))


def forbid(cuda: Any) -> None:
    """In the parent the device is emulated: asking it anything is a mistake."""
    parent, real = os.getpid(), cuda.is_available

    def is_available() -> bool:
        assert os.getpid() != parent, "the parent asked the emulated device"
        return real()
    cuda.is_available = is_available
