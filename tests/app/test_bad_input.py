"""Bad input gets one clear sentence, and nothing breaks; a run can be stopped in every way."""

import time
from contextlib import suppress

import pytest
from playwright.sync_api import expect

from tests.app.pages import bomb, picture, run, toast
from tests.app.serve import BROKEN, SLOW

pytestmark = pytest.mark.browser


def test_texts(visit):
    page = visit("?tab=prune")
    box = page.locator("#prune-text textarea, #prune-text input").first
    for text, words in (("   ", "Please type some text"), ("a" * 50_000, "please keep it under 8,000")):
        box.fill(text)
        page.locator("#prune-run").click()
        toast(page, words)
        expect(page.locator("#prune-player .ts-panel").first).to_be_visible()
    box.fill("Ein kleiner Fuchs 🦊 läuft. Жил-был лис. 狐")
    run(page, "prune")
    expect(page.locator("#prune-player .ts-text").first).to_contain_text("Ein kleiner Fuchs")


def hand_over(page, name: str, data: bytes, answer) -> None:
    """Until the answer is seen, three times at most: a busy page does not hear a file before it listens."""
    expect(page.locator("#mask-player .ts-panel").first).to_be_visible()
    for _ in range(3):
        page.locator("#mask-photo").locator("xpath=preceding-sibling::input[@type='file'][1]").set_input_files(
            {"name": name, "mimeType": "image/png", "buffer": data})
        with suppress(AssertionError):
            expect(answer).to_be_visible(timeout=15_000)
            return


def test_pictures_that_cannot_be_used(visit):
    """One page for all: it is as it was after each."""
    page = visit("?tab=mask")
    for name, data, words in (("broken.png", b"\x89PNG\r\n\x1a\n not really", "cannot be read as a picture"),
                              ("tiny.png", picture((1, 1)), "at least 8 x 8"), ("huge.png", bomb(), "too many pixels"),
                              ("text.jpg", b"hello", "cannot be read as a picture")):
        hand_over(page, name, data, page.locator(".toast-body", has_text=words).first)
        toast(page, words)
        expect(page.locator(".toast-body")).to_have_count(0)
        assert page.locator("#mask-picker [role=radio][aria-label='Your own']").count() == 0, name
        expect(page.locator("#mask-player .ts-panel").first).to_be_visible()


@pytest.mark.parametrize("name, data", [
    ("print.jpg", picture(form="JPEG", mode="CMYK")), ("moving.webp", picture(form="WEBP", frames=3)),
    ("grey.png", picture((40, 90), mode="L")),
])
def test_unusual_pictures_that_can(visit, name, data):
    page = visit("?tab=mask")
    own = page.locator("#mask-picker [role=radio][aria-label='Your own']")
    hand_over(page, name, data, own)
    expect(own).to_have_attribute("aria-checked", "true")
    run(page, "mask")


def test_a_link_to_an_own_photo_opens_the_nearest_example(visit):
    page = visit("?tab=mask&method=hpm&example=cat&own=1")
    toast(page, "nearest")
    expect(page.locator("#mask-picker [role=radio]").nth(1)).to_have_attribute("aria-checked", "true")


def test_a_second_click_is_refused_and_cancel_stops_the_run(visit, server):
    page = visit("?tab=unmask")
    run(page, "unmask", seed=SLOW, wait=False)
    button = page.locator("#unmask-run")
    expect(button).to_be_disabled()
    expect(button).to_have_text("Running")
    expect(page.locator("#unmask-status")).to_contain_text("left", timeout=60_000)
    page.locator("#unmask-cancel").click()
    expect(button).to_have_text("Run")
    expect(button).to_be_enabled()
    expect(page.locator("#unmask-player .ts-panel").first).to_be_visible()
    _ended(server, f"recap {SLOW}", "cancelled")


def test_closing_the_page_stops_the_run(visit, server):
    page = visit("?tab=unmask")
    before = len(server.endings())
    run(page, "unmask", seed=SLOW, wait=False)
    expect(page.locator("#unmask-status")).to_contain_text("%", timeout=60_000)
    page.close()
    _ended(server, f"recap {SLOW}", "cancelled", before)


def test_a_failure_of_ours_shows_one_sentence_and_no_secret(visit):
    page = visit("?tab=mask")
    run(page, "mask", seed=BROKEN, wait=False)
    toast(page, "Something went wrong on our side")
    leaked = "the secret inside" in page.content()  # apart, because pytest would compare whole pages letter by letter
    assert not leaked
    expect(page.locator("#mask-player .ts-panel").first).to_be_visible()
    run(page, "mask", seed=1)


def _ended(server, who: str, how: str, start: int = 0) -> None:
    for _ in range(300):
        if any(line.startswith(who) and line.endswith(how) for line in server.endings()[start:]):
            return
        time.sleep(0.1)
    raise AssertionError(f"no run of {who} was {how}: {server.endings()[start:]}")


def test_a_checkpoint_that_cannot_be_had_is_refused_and_never_substituted(visit):
    """Mutant: the default checkpoint ran instead, and nothing was said."""
    page = visit("?tab=attend")
    before = page.locator("#attend-strip").inner_text()
    box = page.locator("#attend-checkpoint input")
    for typed in ("text-mdm-l", "/etc", "no/such/folder"):
        box.fill(typed)
        box.press("Enter")
        page.locator("#attend-run").click()
        toast(page, "There is no checkpoint" if "/etc" != typed else "no config.json")
        expect(page.locator(".toast-body")).to_have_count(0)
        expect(page.locator("#attend-run")).to_have_text("Run")
        assert page.locator("#attend-strip").inner_text() == before, typed


@pytest.mark.parametrize("link", ["seed=%C2%B2", "seed=--5", "seed=3&step=--1", "checkpoint=text-mdm-l"])
def test_a_link_that_cannot_be_followed_says_so(visit, link):
    toast(visit(f"?tab=sample&method=sampling&{link}"), "This link cannot be followed")
