"""One Chromium for the drawing room's browser tests, in a thread of its own: Playwright has one driver per thread."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.app.conftest import ARGUMENTS, chromium


class Window:
    """`look(target, action)` opens a page in the browser's thread and returns what `action(page)` returns."""

    def __init__(self, thread: ThreadPoolExecutor, browser):
        self.thread, self.browser = thread, browser

    def look(self, target: str, action, *, width: int = 1200, height: int = 900, **options):
        return self.thread.submit(self._look, target, action, width, height, options).result(180)

    def _look(self, target, action, width, height, options):
        context = self.browser.new_context(viewport={"width": width, "height": height}, **options)
        try:
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.errors, page.asked = [], []
            page.on("pageerror", lambda error: page.errors.append(str(error)))
            page.on("request", lambda request: page.asked.append(request.url))
            page.goto(target)
            found = action(page)
            assert not page.errors, page.errors[:3]
            return found
        finally:
            context.close()


@pytest.fixture(scope="session")
def window():
    path = chromium()
    from playwright.sync_api import sync_playwright
    with ThreadPoolExecutor(1) as thread:
        play = thread.submit(lambda: sync_playwright().start()).result(120)
        browser = thread.submit(lambda: play.chromium.launch(executable_path=path, args=ARGUMENTS)).result(120)
        yield Window(thread, browser)
        thread.submit(browser.close).result(60)
        thread.submit(play.stop).result(60)


@pytest.fixture
def paper_page(tmp_path):
    """paper_page(drawings) -> the address of their self-contained page."""
    from visualizers.export.files import page

    def write(*drawings, name: str = "page.html") -> str:
        path = tmp_path / name
        path.write_text(page(list(drawings)), "utf-8")
        return path.as_uri()
    return write
