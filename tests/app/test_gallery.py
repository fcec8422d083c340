"""The gallery: every method is found and opened from it, and 89 live ones with their pictures are still light."""

import re

import gradio as gr
import pytest
from playwright.sync_api import expect

from tests.app.pages import open_tab
from tests.local_server import free_port
from visualizers.page import gallery
from visualizers.page.panel import QUESTIONS
from visualizers.server import thumbnails

pytestmark = pytest.mark.browser
BYTES, MILLISECONDS = 300_000, 1_000  # of the page's own thread: tests share their machine, and the clock its load


def test_a_click_opens_the_method_in_its_tab_without_loading_the_page_again(visit):
    page = visit("?tab=mask")
    page.evaluate("window.here = true")
    page.locator("#mask-browse").click()
    expect(page.locator(".papers section")).to_have_count(1)
    page.locator(".paper-head a", has_text="SparK").click()
    expect(page.locator("#mask-method input")).to_have_value(re.compile("SparK"))
    expect(page.locator("#mask-about")).to_contain_text("holes")
    page.locator("#mask-browse").click()
    page.get_by_role("button", name="All", exact=True).first.click()
    page.locator(".paper-list li", has_text="ReCAP").first.locator(".tag", has_text="Prune").click()
    expect(page.locator("#prune-method input")).to_have_value(re.compile("ReCAP"))
    assert page.evaluate("window.here"), "the page was loaded again"


def test_every_live_method_is_in_the_gallery_with_its_picture(visit):
    page = visit("?tab=papers")
    page.get_by_role("button", name="Live now").click()
    for shown in page.locator(".paper-list li.live").all():
        shown.scroll_into_view_if_needed()
    page.wait_for_function("""() => [...document.querySelectorAll('.thumb img')].every(
      (img) => img.complete && img.naturalWidth > 100)""")
    live = {row["slug"] for row in gallery.rows() if row["picture"]}
    assert page.locator(".thumb img").count() >= len(live) > 20
    open_tab(page, "mask")


@pytest.fixture(scope="module")
def standins(server):
    """A page of 89 live papers, each with a picture of one that is recorded."""
    rows = gallery.rows()
    drawn = [row["slug"] for row in rows if row["picture"]]
    faked = [{**row, "live": True, "picture": True, "verdict": row["verdict"] or "mixed"} for row in rows[:89]]
    known, real = {row["slug"]: drawn[i % len(drawn)] for i, row in enumerate(faked)}, thumbnails.picture
    with gr.Blocks() as page:
        gr.Markdown("first")
        gr.Button("open").click(lambda: gr.update(visible=True), None, page_of := gr.Column(visible=False))
        with page_of:
            gallery.gallery(QUESTIONS, faked)
    thumbnails.picture = lambda id: real(known.get(id, id))
    [real(id) for id in drawn]
    _, url, _ = page.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True, show_error=False,
                            ssr_mode=False, app_kwargs={"routes": thumbnails.routes()})
    yield url, len(faked), len(str(faked))
    page.close()
    thumbnails.picture = real


def worked(meter) -> float:
    """Milliseconds that the page's thread has worked: script, style, layout and paint."""
    metrics = meter.send("Performance.getMetrics")["metrics"]
    return 1000 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def test_89_live_papers_open_fast_and_light(browser, standins):
    url, count, words = standins
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    sizes = []
    page.on("response", lambda r: sizes.append(len(r.body())) if "/thumb/" in r.url else None)
    page.goto(url)
    page.get_by_role("button", name="open").wait_for()
    meter = page.context.new_cdp_session(page)
    meter.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = worked(meter)
    with page.expect_response(lambda r: "/thumb/" in r.url, timeout=60_000):  # a busy machine is idle before the first
        took = page.evaluate("""(count) => new Promise((done) => {
      const began = performance.now();
      const seen = () => document.querySelectorAll('.paper-list li').length === count
        ? requestAnimationFrame(() => done(performance.now() - began)) : requestAnimationFrame(seen);
      document.querySelector('button').click();
      seen(); })""", count)
    page.wait_for_load_state("networkidle")
    spent = worked(meter) - before
    print(f"{took:.0f} ms, {spent:.0f} ms of work, {len(sizes)} pictures {sum(sizes)} bytes, words {words}")
    assert 0 < spent < MILLISECONDS
    assert 0 < len(sizes) and sum(sizes) + words < BYTES
    page.close()
