"""What a visitor waits for after pressing Run: the first step and the last one, as painted in the browser.

Every method at its defaults on its first example, without anything beside it, warm; no finished run is kept, so every
press computes. Targets on two idle cores: first step under 400 ms, last step under 1 s (medians), 2 s for those that
draw hundreds of passes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from urllib.parse import urlencode

from benchmarks.start import ROOT, chromium, free_port, wait_for_port
from benchmarks.timing import judged

LONG = ("enat", "lantern", "speculative", "joint-sampling")  # hundreds of passes: two seconds to the last step

# Presses Run and watches the page between two paints: the player says "running" from the first step on, and the
# button says "Run" again when all is done.
WATCH = """(tab) => new Promise((done) => {
  const run = document.querySelector(`#${tab}-run`), where = document.querySelector(`#${tab}-player .ts-where`);
  const began = performance.now();
  let first = null, busy = false;
  const started = new MutationObserver(() => { busy = true; }); // a run may be over before the next paint
  started.observe(run, { attributes: true, childList: true, characterData: true, subtree: true });
  const look = () => {
    const now = performance.now() - began;
    const working = run.disabled || run.textContent.trim() !== 'Run';
    busy = busy || working;
    if (first === null && busy && where.textContent.startsWith('running')) first = now;
    if (busy && !working) return done([first ?? now, now]);
    if (now > 120000) return done(null);
    requestAnimationFrame(look);
  };
  run.click();
  look();
})"""


def run(device: str = "cpu", quick: bool = False) -> list[dict]:
    """Two rows per method: milliseconds to the first and to the last step (medians over presses) by their limits."""
    from models.engine.method import offered
    methods = list(offered().values())[:2] if quick else list(offered().values())
    port = free_port()
    server = subprocess.Popen([sys.executable, "app.py", "--device", device, "--port", str(port)], cwd=ROOT,
                              env=os.environ | {"TOKENSCOPE_KEPT_BYTES": "0"},
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, server)
        with chromium() as browser:
            return [row for m in methods for row in pressed(browser, f"http://127.0.0.1:{port}/", m, 1 if quick else 5)]
    finally:
        server.terminate()
        server.wait(20)


def pressed(browser, url: str, method, times: int) -> list[dict]:
    """Opens the method by a link that is not the recorded one, which runs it once; then presses Run and takes time."""
    tab = method.card.tabs[0]
    page = browser.new_page()
    page.goto(f"{url}?{urlencode({'tab': tab, 'method': method.id, 'seed': 2, 'beside': ''})}")
    page.locator(f"#{tab}-strip", has_text="live").wait_for(timeout=180_000)
    page.locator(f"#{tab}-run:not([disabled])").wait_for(timeout=180_000)
    found = []
    for _ in range(times):
        page.wait_for_timeout(500)  # a press that comes before the last run's end has reached the page is swallowed
        found.append(page.evaluate(WATCH, tab) or page.evaluate(WATCH, tab))  # ... and is pressed again, once
    page.close()
    if None in found:
        raise RuntimeError(f"pressing Run did nothing for {method.id}")
    first, last = (statistics.median(column) for column in zip(*found))
    end = 2000 if method.id in LONG else 1000
    return [judged({"what": f"{method.id}: {step} step / {limit} ms", "click_ms": round(ms), "n": times},
                   ms / limit, 1, 1, "lower") for step, ms, limit in (("first", first, 400), ("last", last, end))]
