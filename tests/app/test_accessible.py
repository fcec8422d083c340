"""Everyone can use the page: axe-core finds nothing serious, the keyboard reaches everything, pictures have words."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.app.pages import TABS, open_tab, run, step

pytestmark = pytest.mark.browser
SIZES = {"wide": (1400, 1000), "phone": (390, 844)}
LOOKS = [("light", "phone"), ("dark", "wide")]  # the other two were looked at once: docs/reliability.md
STOPS = """() => {  // what the Tab key must reach; a group with a moving tab stop is reached once
  const seen = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true}) && e.getClientRects().length;
  const found = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')];
  window.stops = found.filter((e) => seen(e) && !e.disabled && e.tabIndex >= 0);
  return window.stops.map((e, i) => { e.dataset.stop = i; return e.outerHTML.slice(0, 120); }); }"""
HERE = """() => {  // the stop that has the focus, and whether that can be seen on it or on the box around it
  const e = document.activeElement;
  let shown = false;
  for (let at = e, n = 0; at && n < 4; at = at.parentElement, n++) {
    const look = getComputedStyle(at);
    shown ||= (look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) >= 1) || look.boxShadow !== 'none'; }
  const same = (s) => s.tagName === e.tagName && s.dataset.token === e.dataset.token  // drawn anew meanwhile
    && s.dataset.term === e.dataset.term;
  window.found ||= new Set();
  const redrawn = window.stops.findIndex((s, i) => !s.isConnected && same(s) && !window.found.has(i));
  if (redrawn >= 0 && e.dataset.stop === undefined) window.found.add(redrawn);
  return [e.dataset.stop ?? (redrawn < 0 ? null : redrawn), shown, e.outerHTML.slice(0, 120)]; }"""


def violations(page: Page) -> list[str]:
    """Serious and critical findings of axe-core on what is visible, once the charts have come."""
    page.wait_for_function("![...document.querySelectorAll('.chart .empty')].some((e) => e.checkVisibility())")
    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {node['target']} {node['html'][:140]} {node.get('failureSummary', '')[:200]}"
            for v in found if v["impact"] in ("serious", "critical") for node in v["nodes"][:3]]


@pytest.mark.parametrize("theme, size", LOOKS)
def test_no_tab_has_a_serious_violation(visit, theme, size):
    width, height = SIZES[size]
    page = visit(f"?__theme={theme}", width=width, height=height)
    for tab in TABS:
        open_tab(page, tab)
        assert not violations(page), tab
    page.get_by_role("tab", name="All papers").click()
    page.locator(".paper-list li").first.wait_for()
    assert not violations(page), "All papers"


@pytest.mark.parametrize("theme, size", LOOKS[1:3])
def test_nothing_serious_after_a_run_in_a_walk_and_in_your_turn(visit, theme, size):
    width, height = SIZES[size]
    # without transitions: a colour half way between two is nobody's choice
    page = visit(f"?tab=unmask&walk&__theme={theme}", width=width, height=height, reduced_motion="reduce")
    expect(page.locator(".walk:visible")).to_contain_text("1 of")
    assert not violations(page), "a question of the walk"
    page.locator(".walk .guesses button").first.click()
    expect(page.locator("#unmask-strip")).to_contain_text("live", timeout=90_000)
    expect(page.locator("#unmask-run")).to_have_text("Run", timeout=90_000)
    assert not violations(page), "its answer, after a run"
    open_tab(page, "mask")
    run(page, "mask", seed=3)
    assert not violations(page), "after a run"
    page.locator("#mask-turn").click()
    expect(page.locator("#mask-player .ts-turn")).to_be_visible(timeout=60_000)
    assert not violations(page), "your turn"


def test_axe_would_notice(visit):
    """Mutant: a page with pale words and a picture without any."""
    page = visit("?tab=papers")
    page.locator(".papers p").first.wait_for()  # the list is built after the page has come
    page.evaluate("""() => { const p = document.querySelector('.papers p');
      p.style.color = '#ddd'; p.style.background = '#fff';
      document.querySelector('.papers').prepend(new Image(20, 20)); }""")
    found = " ".join(violations(page))
    assert "color-contrast" in found and "image-alt" in found


@pytest.mark.parametrize("tab", ["mask", "sample", "papers"])
def test_the_keyboard_reaches_everything_and_shows_where_it_is(visit, tab):
    page = visit(f"?tab={tab}")
    if tab in TABS:
        page.locator(f"#{tab}-seed").wait_for()
        page.locator(".controls input:visible").first.wait_for()  # they are built after the page has come
    page.wait_for_timeout(500)
    stops = page.evaluate(STOPS)
    reached, unseen = set(), []
    for _ in range(len(stops) + 40):
        page.keyboard.press("Tab")
        at, shown, html = page.evaluate(HERE)
        if "ts-token" in html or "ts-cell" in html:  # its card redraws the words behind it; terms are marked when idle
            page.wait_for_timeout(1500)
        if at is not None:
            reached.add(int(at))
            unseen += [] if shown else [html]
    there = page.evaluate("[...document.querySelectorAll('[data-stop]')].map((e) => Number(e.dataset.stop))")
    missing = [stops[i] for i in there if i not in reached and 'type="radio"' not in stops[i]]  # a card redrawn is new
    assert len(there) > len(stops) / 2 and not missing, missing[:3]
    assert not unseen, unseen[:3]


def test_every_picture_says_in_words_what_it_shows(visit):
    page = visit()
    for tab in TABS:
        open_tab(page, tab)
        for panel in page.locator(f"#{tab}-player .ts-sides .ts-panel").all():
            words = panel.locator(".ts-cells, .ts-text").first.get_attribute("aria-label")
            assert len(re.findall(r"\d+", words)) >= 3, f"{tab}: {words}"
            fact = panel.locator(".ts-facts b, .ts-main").first
            if fact.count():
                figure = re.findall(r"[\d.,]+\d", fact.inner_text())
                assert not figure or figure[0] in words, f"{tab}: {figure[0]} is not in: {words}"
        for curve in page.locator(f"#{tab}-player .ts-plot").all():
            assert re.search(r": .*from .* to ", curve.get_attribute("aria-label"))


def test_charts_have_words_too(visit):
    page = visit("?tab=prune")
    words = page.locator(".chart:visible label").first
    expect(words).to_contain_text(re.compile(r"\d.* to .*\d"))
    assert words.evaluate("(e) => getComputedStyle(e).display") != "none"


def test_reduced_motion_is_honoured(visit):
    page = visit("?tab=unmask", reduced_motion="reduce")
    moving = page.evaluate("""() => [...document.querySelectorAll('*')].filter((e) => {
      const look = getComputedStyle(e);
      const longest = (text) => Math.max(...text.split(',').map(parseFloat));
      const animated = look.animationName !== 'none' && longest(look.animationDuration) > 0.01;
      return animated || longest(look.transitionDuration) > 0.01;
    }).map((e) => e.outerHTML.slice(0, 100))""")
    assert not moving, moving[:3]
    assert page.locator("#unmask-player").get_by_label("Speed").input_value() == "0.5"
    still = visit("?tab=unmask")
    assert still.locator("#unmask-player").get_by_label("Speed").input_value() == "1"


def test_a_screen_reader_hears_the_step(visit):
    page = visit("?tab=unmask")
    page.locator("#unmask-player").get_by_role("slider", name="Step").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert step(page, "unmask") == 1
    expect(page.locator("#unmask-player [aria-live=polite].ts-sr")).to_contain_text("Step 2 of")
