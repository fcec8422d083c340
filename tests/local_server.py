"""Starts the app, or the tests' stand-in of it, as a process of its own and waits until it answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Server:
    """url: where it answers; log: how each run ended (tests.app.serve); out: everything it printed."""

    url: str
    process: subprocess.Popen
    log: Path
    out: Path

    def endings(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serving(folder: Path, port: int | None = None, command: list[str] | None = None, **more) -> Iterator[Server]:
    """A running server, ended afterwards. command: default tests.app.serve; "PORT" and "LOG" in it are filled in.

    more: for Popen; env is added to this process's own environment.
    """
    port, log, out = port or free_port(), folder / "runs.txt", folder / "server.txt"
    command = command or ["-m", "tests.app.serve", "PORT", "LOG"]
    filled = [{"PORT": str(port), "LOG": str(log)}.get(word, word) for word in command]
    environment = {**os.environ, **more.pop("env", {})}
    with out.open("a") as printed:
        process = subprocess.Popen([sys.executable, *filled], cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT,
                                   env=environment, **more)
    try:
        yield waited(Server(f"http://127.0.0.1:{port}", process, log, out))
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def waited(server: Server, seconds: float = 300) -> Server:
    """The server as soon as it answers; RuntimeError with what it printed if it does not."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and server.process.poll() is None:
        try:
            urllib.request.urlopen(server.url, timeout=5).read()
            return server
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"the app did not start:\n{server.out.read_text()[-3000:]}")
