"""Where things stand on the page: what a visitor needs first is in sight, wide and on a phone."""

import pytest

from tests.app.pages import TABS, open_tab

pytestmark = pytest.mark.browser
BOX = "(e) => { const b = e.getBoundingClientRect(); return {top: b.top, bottom: b.bottom}; }"


@pytest.mark.parametrize("width, height", [(1440, 1000), (390, 844)])
def test_method_and_run_are_in_sight_and_a_run_brings_the_picture(visit, width, height):
    page = visit(width=width, height=height)
    for tab in TABS:
        open_tab(page, tab)
        method, start = (page.locator(f"#{tab}-{name}").evaluate(BOX) for name in ("method", "run"))
        assert 0 < start["top"] < start["bottom"] < height * 0.4 and abs(method["bottom"] - start["bottom"]) < 20, tab
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("#sample-run").dispatch_event("click")
    page.wait_for_function("""() => { const top = document.querySelector('#sample-player').getBoundingClientRect().top;
      return top >= 0 && top < innerHeight * 0.6; }""")


def test_on_a_phone_the_tabs_share_one_row_and_run_stays_on_top(visit):
    page = visit("?tab=mask", width=390, height=844)
    tabs = page.locator("#tabs [role=tab]:visible")
    tops = tabs.evaluate_all("(all) => all.map((e) => e.getBoundingClientRect().top)")
    assert len(tops) == 6 and max(tops) - min(tops) < 4, tops
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(200)
    start = page.locator("#mask-run").evaluate(BOX)
    assert 0 <= start["top"] < start["bottom"] < 100, "beside the last setting Run is one tap away"


def test_a_tick_above_a_word_leaves_the_word_as_large_as_the_others(visit):
    """Mutant: the class of the curves' numbers, which has a small font, called as the tick's."""
    page = visit("?tab=sample")
    page.locator("#sample-player .ts-token").first.wait_for()
    before, after = page.evaluate("""() => { const word = document.querySelector('#sample-player .ts-token');
      const size = () => getComputedStyle(word).fontSize, before = size();
      word.classList.add('ts-cue-check', 'ts-tick');
      return [before, size()]; }""")
    assert before == after


def test_the_player_fills_the_screen_by_button_and_by_key(visit):
    page = visit("?tab=unmask")
    player, small = page.locator("#unmask-player .ts"), page.locator("#unmask-player .ts-box").first.bounding_box()
    fills = "(e) => e.getBoundingClientRect().width >= innerWidth - 1 && e.getBoundingClientRect().top === 0"
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function(f"({fills})(document.querySelector('#unmask-player .ts'))")
    page.wait_for_timeout(300)
    large, slider = page.locator("#unmask-player .ts-box").first.bounding_box(), player.get_by_role("slider")
    assert large["width"] > small["width"] and slider.bounding_box()["y"] < 1000, "larger, and its player in sight"
    before = player.get_attribute("data-step")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert player.get_attribute("data-step") != before
    page.keyboard.press("f")
    page.wait_for_function(f"!({fills})(document.querySelector('#unmask-player .ts'))")
    page.keyboard.press("f")
    page.wait_for_function(f"({fills})(document.querySelector('#unmask-player .ts'))")
