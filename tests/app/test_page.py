"""What a visitor does on the page, in a real browser."""

import re

import pytest
from playwright.sync_api import expect

from models.serving.recorded import SEED
from tests.app.pages import TABS, method, open_tab, run, slowest_step, step
from visualizers.page.lessons import lessons

pytestmark = pytest.mark.browser
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "gif": b"GIF8", "json": b'{"schema"', "html": b"<!",
         "python": b"from models"}


def test_every_tab_opens_on_a_ready_picture_without_a_run(visit):
    page = visit()
    for tab in TABS:
        open_tab(page, tab)
        expect(page.locator(f"#{tab}-strip")).to_contain_text("recorded")
        expect(page.locator(f"#{tab}-player .ts-legend")).not_to_be_empty()
        expect(page.locator(f"#{tab}-about")).not_to_be_empty()
    page.get_by_role("tab", name="All papers").click()
    expect(page.locator(".paper-list li:not(.baseline)")).to_have_count(89)


def test_the_papers_are_searched_and_filtered_in_the_browser(visit):
    page = visit("?tab=papers")
    page.get_by_role("searchbox").fill("cache cheap passes")
    expect(page.locator(".paper-list li")).to_have_count(1)
    expect(page.locator(".paper-head a").first).to_have_attribute("href", "?tab=unmask&method=recap")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Live now").click()
    assert 0 < page.locator(".paper-list li:not(.baseline)").count() < 89


def test_a_run_streams_and_stepping_asks_the_server_nothing(visit):
    page = visit("?tab=mask")
    run(page, "mask")
    expect(page.locator("#mask-player .ts-sides .ts-panel")).to_have_count(1)
    open_tab(page, "unmask")
    player = page.locator("#unmask-player")
    player.get_by_role("slider", name="Step").focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(300)
    before = len(page.asked)
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    assert step(page, "unmask") == 8
    assert slowest_step(page, "unmask", 10) < 50  # ms
    page.wait_for_timeout(300)
    assert page.asked[before:] == []


def test_a_thousand_tokens_step_within_50_ms(visit):
    page = visit("?tab=prune")
    assert slowest_step(page, "prune", 8) < 50


def test_pointing_at_a_cell_says_what_it_is(visit):
    page = visit("?tab=unmask")
    page.locator("#unmask-player .ts-cell").nth(40).hover()
    expect(page.locator("#unmask-player .ts-card, .ts-card").first).to_be_visible()


def test_up_to_three_methods_stand_side_by_side(visit):
    page = visit("?tab=sample&method=sampling&seed=2&p.length=8&beside=cntp.byte-level")
    expect(page.locator("#sample-strip")).to_contain_text("live", timeout=90_000)
    expect(page.locator("#sample-player .ts-sides .ts-panel")).to_have_count(3)
    assert len(set(page.locator("#sample-player .ts-sides .ts-head h2").all_inner_texts())) == 3


def test_another_method_brings_its_own_controls(visit):
    page = visit("?tab=mask")
    method(page, "mask", "Hard patches mining")
    expect(page.locator("#mask-about")).to_contain_text("predicts")
    method(page, "mask", "Masked autoencoder")
    expect(page.locator("#mask-about")).not_to_contain_text("predicts which")
    expect(page.get_by_label("Mask ratio").first).to_be_visible()


def test_a_control_without_help_has_none(visit):
    """Mutant: help that is left out, where the page keeps what the control before it said."""
    page = visit("?tab=sample")
    expect(page.locator("#sample .controls, .controls:visible").first).to_contain_text("Min-p")
    method(page, "sample", "Cautious next token prediction")
    expect(page.locator("#sample-about")).not_to_contain_text("reshaped by temperature")
    controls = page.locator(".controls:visible").first
    expect(controls).not_to_contain_text("Keep tokens at least this fraction")
    page.wait_for_timeout(300)
    helps = controls.locator(".info-text, [data-testid=block-info] ~ *").all_inner_texts()
    assert len([words for words in helps if words.strip()]) == len({words for words in helps if words.strip()}), helps


def test_a_reload_during_a_run_is_no_restart(visit):
    page = visit("?tab=unmask")
    run(page, "unmask", seed=77, wait=False)
    expect(page.locator("#unmask-run")).to_have_text("Running")
    page.wait_for_timeout(600)
    page.reload()
    page.locator("#unmask-player .ts-panel").first.wait_for()
    page.wait_for_timeout(500)
    expect(page.locator(".lost [role=alert]")).to_have_count(0)


def test_a_copied_link_brings_back_the_same_view(visit):
    page = visit("?tab=mask")
    page.locator("#mask-picker [role=radio]").nth(1).click()
    page.get_by_label("number input for Mask ratio").first.fill("0.5")
    run(page, "mask", seed=5)
    page.locator("#mask-player").get_by_role("slider", name="Step").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.locator("#mask-copy").click()
    box = page.locator("#mask-link textarea")
    expect(box).to_have_value(re.compile("step=2"))
    link = box.input_value()
    assert "p.mask_ratio=0.5" in link and "seed=5" in link
    seen = page.locator("#mask-player canvas").first.evaluate("(c) => c.toDataURL()")
    other = visit(link.split("/")[-1])
    expect(other.locator("#mask-strip")).to_contain_text("live", timeout=90_000)
    expect(other.locator("#mask-strip")).to_contain_text("seed 5")
    expect(other.locator("#mask-run")).to_have_text("Run", timeout=90_000)
    expect(other.locator("#mask-picker [role=radio]").nth(1)).to_have_attribute("aria-checked", "true")
    expect(other.get_by_label("number input for Mask ratio").first).to_have_value("0.5")
    assert step(other, "mask") == 2
    assert other.locator("#mask-player canvas").first.evaluate("(c) => c.toDataURL()") == seen


@pytest.mark.parametrize("more, shown", [("", "recorded"), ("&seed=4", "seed 4")])
def test_a_link_to_another_method_brings_its_subjects_and_runs(visit, more, shown):
    """The recorded picture at once, or a run; either way the left column is the linked method's, and Run works."""
    page = visit("?tab=unmask&method=joint-sampling" + more)
    expect(page.locator("#unmask-strip")).to_contain_text(shown)
    expect(page.locator("#unmask-run")).to_have_text("Run")
    expect(page.locator("#unmask-method input")).to_have_value(re.compile("ADJUST"))
    expect(page.locator("#unmask-beside")).to_contain_text("Masked diffusion text")
    expect(page.locator("#unmask-picker [role=radio]").first).to_contain_text("fox")
    expect(page.locator("#unmask-seed input")).to_have_value(str(SEED) if shown == "recorded" else "4")
    assert step(page, "unmask") > 0, "a link that names no step opens where the method does, not on an empty canvas"
    run(page, "unmask", seed=6)
    expect(page.locator("#unmask-strip")).to_contain_text("seed 6")


@pytest.mark.parametrize("query, words", [
    ("?tab=unmask&method=recap&seed=-4", "seed must be"), ("?tab=unmask&method=recap&p.full=4000", "full must be"),
    ("?tab=unmask&method=nothing", "there is no method"), ("?tab=mask&method=recap", "no picture in the tab"),
    ("?tab=unmask&method=recap&example=../../etc/passwd", "there is no example")])
def test_a_broken_link_is_refused_in_a_sentence(visit, query, words):
    page = visit(query)
    expect(page.locator(".toast-body", has_text=words)).to_be_visible()
    expect(page.locator(".ts-panel:visible").first).to_be_visible()


def test_everything_drawn_can_be_taken_away(visit):
    page = visit("?tab=unmask")
    for kind, start in MAGIC.items():
        with page.expect_download(timeout=60_000) as waiting:
            page.locator(f"#unmask-get-{kind}").click()
        with open(waiting.value.path(), "rb") as file:
            assert file.read(64).lstrip().startswith(start), kind


def test_nothing_scrolls_sideways_on_a_phone(visit):
    page = visit(width=360, height=740)
    for tab in (*TABS, "all papers"):
        page.get_by_role("tab", name=tab, exact=False).first.click()
        page.wait_for_timeout(300)
        wide, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= inside, f"{tab} is {wide} px wide"
    open_tab(page, "unmask")
    picture, subject = page.locator("#unmask-player").bounding_box(), page.locator("#unmask-picker").bounding_box()
    assert picture["y"] < subject["y"], "on a phone the picture comes before the choices"


def test_dark_mode_darkens_the_page_and_the_player(visit):
    page = visit("?__theme=dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 23)"
    expect(page.locator("#mask-player .ts")).to_have_attribute("data-theme", "dark")


def test_your_turn_is_scored_against_the_method_and_chance(visit):
    page = visit("?tab=mask")
    page.locator("#mask-turn").click()
    player = page.locator("#mask-player")
    cells = player.locator(".ts-cell")
    expect(player.get_by_text(re.compile(r"0 of \d+"))).to_be_visible(timeout=60_000)
    wanted = int(re.search(r"0 of (\d+)", player.inner_text()).group(1))
    for token in range(wanted):
        cells.nth(token).click()
    player.get_by_role("button", name="Score my choice").click()
    score = page.locator("#mask-score")
    expect(score).to_contain_text("Your choice", timeout=90_000)
    expect(score).to_contain_text("At random")
    expect(player.locator(".ts-sides .ts-panel")).to_have_count(3)


def test_candidates_are_offered_word_after_word(visit):
    page = visit("?tab=sample&method=sampling&seed=2&p.length=8")
    expect(page.locator("#sample-strip")).to_contain_text("seed 2", timeout=90_000)
    page.locator("#sample-turn").click()
    player = page.locator("#sample-player")
    for word in range(6):
        expect(player.locator(".ts-turn")).to_contain_text(f"{word + 1} of 6")
        expect(player.locator(".ts-token").last).to_have_text(re.compile(r"\?"))
        player.locator(".ts-option").nth(1).click()
    expect(page.locator("#sample-score")).to_contain_text("Your choice", timeout=90_000)
    expect(player.locator(".ts-sides .ts-panel")).to_have_count(3)


def test_drafts_of_a_picture_are_judged_in_the_picture(visit):
    """The step stands there as it is, with its marks; nothing is chosen on the canvas."""
    page = visit("?tab=sample&method=speculative&seed=2")
    expect(page.locator("#sample-strip")).to_contain_text("seed 2", timeout=90_000)
    page.locator("#sample-turn").click()
    player = page.locator("#sample-player")
    expect(player.locator(".ts-turn")).to_contain_text("1 of 6")
    expect(player.locator(".ts-cell[data-group], .ts-cell[aria-selected]")).to_have_count(0)
    player.locator(".ts-option").nth(1).click()
    expect(player.locator(".ts-turn")).to_contain_text("2 of 6")


def test_a_guided_walk_asks_before_it_shows(visit):
    """Opened by its link; a guess opens the view that answers, with the keyboard too."""
    page = visit("?tab=sample&walk")
    walk, count = page.locator(".walk:visible"), len(lessons()["sample"]["steps"])
    expect(walk).to_contain_text(f"1 of {count}")
    expect(walk.locator("[role=status]")).to_have_count(0)  # no answer before the guess
    walk.locator(".guesses button").nth(1).click()
    expect(walk.locator("[role=status]")).to_contain_text("Right: “")
    expect(page.locator("#sample-strip")).to_contain_text("live", timeout=90_000)
    expect(page.locator("#sample-query textarea, #sample-query input")).to_have_value(re.compile("p.temperature=0"))
    page.keyboard.press("Enter")  # Next has the focus
    expect(walk).to_contain_text(f"2 of {count}")
    right = lessons()["sample"]["steps"][1]["right"]
    wrong, option = walk.locator(".guesses button").nth(1 - right if right < 2 else 0), lessons()["sample"]["steps"][1]
    wrong.click()
    expect(walk.locator("[role=status]")).to_contain_text(f"it is “{option['options'][right]}”")
    walk.get_by_role("button", name="Close").click()
    expect(page.locator(".walk:visible")).to_have_count(0)
    expect(page.locator("#sample-walk button")).to_be_visible()


def test_vocabulary_and_labels_are_text_never_code(visit):
    page = visit("?tab=sample")
    expect(page.locator("#sample-player .ts-text").first).to_contain_text("<img src=x onerror=window.pwned=1>")
    player = page.locator("#sample-player")
    player.get_by_role("slider", name="Step").focus()
    page.keyboard.press("End")
    page.locator("#sample-player .ts-token").nth(3).hover()
    page.wait_for_timeout(500)
    assert page.evaluate("window.pwned") is None
    assert page.locator("#sample-player img[src=x], #sample-sentence img, .ts .words img").count() == 0


def test_nothing_typed_is_kept_by_the_browser(visit):
    page = visit("?tab=sample")
    page.locator("#sample-text textarea, #sample-text input").first.fill("a very private sentence")
    run(page, "sample", wait=False)
    page.wait_for_timeout(1500)
    stored = page.evaluate("JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage})")
    assert "private" not in stored
