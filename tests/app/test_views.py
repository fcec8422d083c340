"""Questions to a finished picture: sliders that the trace answers alone, other checkpoints."""

import pytest
from playwright.sync_api import expect

from tests.app.pages import picture, run, toast

pytestmark = pytest.mark.browser


def runs(server) -> int:
    return len(server.endings())


def test_a_view_slider_redraws_the_distribution_and_runs_no_model(visit, server):
    page = visit("?tab=sample&method=sampling&seed=2&p.length=8")
    expect(page.locator("#sample-strip")).to_contain_text("live", timeout=90_000)
    expect(page.locator("#sample-run")).to_have_text("Run", timeout=90_000)
    after = page.locator("#sample-player .ts-moment").last
    text, words, before = page.locator("#sample-player .ts-text").first.inner_text(), after.inner_text(), runs(server)
    box = page.get_by_label("number input for Temperature").first
    box.fill("0.3")
    box.blur()
    expect(after).not_to_have_text(words)
    assert page.locator("#sample-player .ts-text").first.inner_text() == text, "a view never changes what was drawn"
    assert runs(server) == before


def test_another_checkpoint_brings_its_own_subjects_and_takes_a_photo(visit):
    page = visit("?tab=attend")  # without a method: a link would set the menus again while they are used
    page.locator("#attend-checkpoint input").click()
    page.get_by_role("option", name="photo-mae-1").click()
    page.locator("#attend-photo").locator("xpath=preceding-sibling::input[@type='file'][1]").set_input_files(
        {"name": "own.png", "mimeType": "image/png", "buffer": picture((80, 60))})
    expect(page.locator("#attend-picker [role=radio][aria-label='Your own']")).to_have_attribute("aria-checked", "true")
    run(page, "attend")
    expect(page.locator("#attend-strip")).to_contain_text("photo-mae-1")
    expect(page.locator("#attend-player .ts-cell").first).to_be_visible()


# Everything that a part of the page ever said: what is there for a second only may pass between two looks.
WATCH = """() => { window.said = ''; new MutationObserver(() => {
    window.said += document.querySelector('%s')?.textContent ?? '';
  }).observe(document.body, { subtree: true, childList: true, characterData: true }); }"""


def test_a_public_checkpoint_is_fetched_when_it_is_chosen_and_then_runs(visit):
    page = visit("?tab=sample")
    page.evaluate(WATCH % "#sample-status")
    page.locator("#sample-checkpoint input").click()
    page.get_by_role("option", name="openai-community/gpt2").click()
    page.wait_for_function("said.includes('fetching')")
    expect(page.locator("#sample-status")).not_to_contain_text("fetching")
    page.locator("#sample-checkpoint input").click()
    expect(page.get_by_role("option", name="openai-community/gpt2")).not_to_contain_text("to fetch")
    page.keyboard.press("Escape")
    page.locator("#sample-text textarea").fill("Once upon a time")
    run(page, "sample")
    strip = page.locator("#sample-strip")
    expect(strip).to_contain_text("openai-community/gpt2")
    expect(strip).to_contain_text("607a30d783df")
    expect(strip).to_contain_text("paper's rule on public weights")


def test_a_link_to_a_public_checkpoint_that_is_not_here_says_where_to_get_it(visit):
    page = visit("?tab=sample&method=sampling&checkpoint=HuggingFaceTB%2FSmolLM2-135M")
    toast(page, "choose it in the menu Checkpoint")
