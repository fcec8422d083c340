"""A link to a method on which its tab does not open: nobody else's words and picture are seen meanwhile, and whatever
goes wrong, the page is shown."""

import pytest
from playwright.sync_api import expect

from tests.app.pages import toast
from tests.app.serve import BROKEN

pytestmark = pytest.mark.browser
FIRST = "mae"  # on which Mask opens

# What a visitor could read at any moment: whose words stood in the left column, whose picture, and the placeholder.
WATCH = """
  window.seen = {words: [], pictures: [], said: [], moved: 0};
  const note = (list, one) => { if (one && list.at(-1) !== one) list.push(one); };
  const shown = (one) => one && one.checkVisibility({visibilityProperty: true});
  const look = () => {
    const about = document.querySelector('#mask-about .words p'), picture = document.querySelector('#mask-player .ts');
    const body = document.querySelector('.tab-body:has(#mask-player)');
    if (shown(about)) note(window.seen.words, about.innerText.slice(0, 60));
    if (shown(picture)) note(window.seen.pictures, picture.dataset.method);
    for (const one of body ? [body, body.querySelector('.right')] : []) {
      const words = getComputedStyle(one, '::before').content;
      if (words.includes('Opening')) note(window.seen.said, words);
    }
    requestAnimationFrame(look);
  };
  addEventListener('DOMContentLoaded', look);
  new PerformanceObserver((list) => { for (const one of list.getEntries()) window.seen.moved += one.value; })
    .observe({type: 'layout-shift', buffered: true});
"""


def opened(page) -> None:
    """The link has been followed, and nothing is hidden any more."""
    page.wait_for_function("document.documentElement.dataset.opening === undefined")
    for part in ("about", "player", "strip", "run"):
        expect(page.locator(f"#mask-{part}")).to_be_visible()


def test_a_link_to_another_method_shows_that_method_alone(visit):
    """Mutants: nothing is hidden; the picture or the words come back too early."""
    page = visit("?tab=mask&method=hpm", script=WATCH)
    opened(page)
    seen = page.evaluate("window.seen")
    assert seen["pictures"] == ["hpm"] and len(seen["words"]) == 1 and "predicts" in seen["words"][0]
    assert len(seen["said"]) == 1 and "Hard patches" in seen["said"][0]
    expect(page.locator("#mask-method input")).to_have_value("Hard patches mining")


def test_a_link_that_needs_a_run_shows_its_controls_at_once_and_its_picture_from_the_first_step_on(visit):
    page = visit("?tab=mask&method=hpm&seed=2", script=WATCH)
    opened(page)
    expect(page.locator("#mask-strip")).to_contain_text("live")
    assert page.evaluate("window.seen.pictures") == ["hpm"]


@pytest.mark.parametrize("query", [f"?tab=mask&method={FIRST}", "?tab=mask&method=nobody", "?tab=constructor", ""])
def test_a_page_that_opens_on_what_was_asked_for_or_knows_no_better_hides_nothing(visit, query):
    page = visit(query, script=WATCH)
    opened(page)
    assert page.evaluate("window.seen.said") == [] and page.evaluate("window.seen.pictures") == [FIRST]


def test_a_refused_link_shows_the_page(visit):
    """Mutant: hidden for good."""
    page = visit("?tab=mask&method=hpm&seed=-2")
    toast(page, "cannot be followed")
    opened(page)


def test_a_link_whose_run_breaks_shows_the_page(visit):
    page = visit(f"?tab=mask&method=hpm&seed={BROKEN}")
    opened(page)
    expect(page.locator("#mask-run")).to_have_text("Run")


def test_a_server_that_does_not_answer_shows_the_page_in_the_end(visit):
    """Mutant: no longest wait. Here twenty of its seconds pass in one, so it waits for three."""
    silent = """
      const asked = window.fetch.bind(window), now = performance.now.bind(performance);
      const join = (one) => String(one?.url ?? one).includes('/queue/join');
      window.fetch = (...request) => join(request[0]) ? new Promise(() => {}) : asked(...request);
      performance.now = () => now() * 20;
    """
    opened(visit("?tab=mask&method=hpm", script=silent))
