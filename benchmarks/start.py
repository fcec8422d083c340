"""Cold start: from starting the process to the first paint of a ready example, beside a bare Gradio page with torch.

Both are started in turn, each in a fresh process, with the same browser already open. The target is at most 2x.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from benchmarks.timing import judged

ROOT = Path(__file__).resolve().parent.parent
BARE = """
import os, sys
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr
import torch
with gr.Blocks() as page:
    gr.HTML("<p id='ready'>ready</p>")
page.launch(server_port=int(sys.argv[1]), quiet=True)
"""
LIMIT = 120.0


def run(device: str = "cpu", quick: bool = False) -> list[dict]:
    """One row: the median over rounds of our time to first paint by the bare page's, with both medians."""
    rounds = 1 if quick else 5
    with chromium() as browser:
        pairs = [(first_paint(browser, ["-c", BARE], "#ready"),
                  first_paint(browser, ["app.py", "--device", device, "--port"], ".ts-panel:visible"))
                 for _ in range(rounds)]
    bare, ours = zip(*pairs)
    head = {"what": "first paint of a ready example / bare page with torch", "n": rounds,
            "ours_ms": round(statistics.median(ours) * 1e3), "bare_ms": round(statistics.median(bare) * 1e3)}
    return [judged(head, statistics.median(b / a for a, b in pairs), 2, 2, "lower")]


def first_paint(browser, arguments: list[str], ready: str) -> float:
    """Seconds from the start of the process until `ready` is visible in the browser."""
    port = free_port()
    page = browser.new_page()
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments, str(port)], cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator(ready).first.wait_for(timeout=LIMIT * 1000)
        return time.perf_counter() - began
    finally:
        page.close()
        process.terminate()
        process.wait(20)


def wait_for_port(port: int, process: subprocess.Popen) -> None:
    """Until the server answers; a server that ends instead is an error."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the page ended with code {process.returncode} instead of serving")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"no page after {LIMIT:.0f} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def chromium():
    """An installed Chromium, driven by Playwright."""
    import shutil

    from playwright.sync_api import sync_playwright
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise RuntimeError("this benchmark needs Chromium (Debian's package is called chromium)")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu",
                                                                   "--disable-background-networking"])
        yield browser
        browser.close()
