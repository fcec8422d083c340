"""One server and one Chromium for all browser tests; every request is noted, so that none may leave the page's host."""

import os
import shutil

import pytest

from tests.local_server import serving

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium() -> str:
    """Path of an installed Chromium; without one the tests are skipped with the reason, except in CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail("no Chromium is installed, and in CI nothing is skipped")
    pytest.skip("no Chromium is installed (Debian's package is called chromium)")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    chromium()
    with serving(tmp_path_factory.mktemp("app")) as found:
        yield found


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

    def open_page(query: str = "", width: int = 1400, height: int = 1000, script: str = "", **options):
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        page = context.new_page()
        page.add_init_script(script)
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
