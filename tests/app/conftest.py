"""One server and one Chromium for all browser tests; every request is noted, so that none may leave the page's host."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium() -> str:
    """Path of an installed Chromium; without one the tests are skipped with the reason, except in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail("no Chromium is installed, and in CI nothing is skipped")
    pytest.skip("no Chromium is installed (Debian's package is called chromium)")


class Server:
    def __init__(self, url: str, log: Path):
        self.url, self.log = url, log

    def endings(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    chromium()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    with (folder / "server.txt").open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "tests.app.serve", str(port), str(folder / "runs.txt")],
                                   cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process, folder / "server.txt")
        yield Server(url, folder / "runs.txt")
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str, process, out: Path) -> None:
    for _ in range(240):
        if process.poll() is not None:
            pytest.fail(f"the app did not start:\n{out.read_text()[-3000:]}")
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the app did not answer within two minutes")


@pytest.fixture(scope="session")
def browser(server):
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def visit(browser, server):
    """visit(query, width=...) -> a loaded page; afterwards: no script error, no request to another host."""
    pages, foreign, errors = [], [], []

    def open_page(query: str = "", width: int = 1400, height: int = 1000, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.asked = []
        page.on("request", lambda r: page.asked.append(r.url))
        at_home = (server.url, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(at_home) else foreign.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(f"{server.url}/{query}")
        page.locator(".ts-panel:visible, .paper-list:visible").first.wait_for()
        pages.append(context)
        return page

    yield open_page
    for context in pages:
        context.close()
    assert not foreign, f"requests left the page: {foreign[:3]}"
    assert not errors, errors[:3]
