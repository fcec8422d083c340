"""Numbers as they are written: no impossible ones, one headline per picture, the same in the browser."""

import json

import pytest

from models.trace import YES, Fact
from tests import samples
from visualizers import draw
from visualizers.drawing.canvas import scale_from
from visualizers.drawing.units import amount, headline

SAID = [((3.99, "layer", True), "layer 4"), ((23.9, "round", True), "round 24"), ((1.0, "probability"), "100 %"),
        ((0.9999, "probability"), "> 99.9 %"), ((4e-5, "probability"), "< 0.1 %"), ((0.375, "probability"), "37.5 %"),
        ((1.0, "tokens"), "1 token"), ((2.0, "tokens"), "2 tokens"), ((1.0, "codes per pass"), "1 code per pass"),
        ((1.0, "queries"), "1 query"), ((3.77e-08, "total variation"), "< 0.001 total variation"),
        ((-0.0002, "rank correlation"), "about 0 rank correlation"), ((0.0, "nats"), "0 nats"), ((1.0, YES), "yes"),
        ((0.0, YES), "no"), ((float("nan"), ""), "not defined"), ((99.9984, "%"), "> 99.9 %"), ((100, "%"), "100 %"),
        ((1234567.0, "multiply-adds"), "1.23 M multiply-adds"), ((2.31, "nats"), "2.31 nats"), ((5.0, ""), "5")]


@pytest.mark.parametrize("given, text", SAID)
def test_no_number_is_impossible(given, text):
    """Fault 12: "3.99 layer", "23.9 round", "1 probability"."""
    assert amount(*given) == text


@pytest.mark.browser
def test_the_browser_writes_the_same(window, paper_page):
    given = [[None if value != value else value, *rest] for (value, *rest), _ in SAID]
    found = window.look(paper_page(draw(samples.sample())), lambda page: page.evaluate(
        f"{json.dumps(given)}.map(([value, ...rest]) => amount(value ?? NaN, ...rest))"))
    assert found == [text for _, text in SAID]


def test_whole_numbers_stay_whole_behind_a_scale_of_255_steps():
    import numpy as np
    depth = scale_from(np.array([1.0, 4.0, 6.0, np.nan]), "Deepest layer", "layer")
    stored = depth.low + int(depth.code(np.array([4.0]))[0]) / 254 * (depth.high - depth.low)
    assert stored != 4 and depth.whole and amount(stored, depth.unit, depth.whole) == "layer 4"
    assert not scale_from(np.array([1.0, 4.5]), "Depth", "layer").whole


def test_one_outlier_does_not_flatten_the_map():
    import numpy as np
    values = np.r_[np.linspace(0, 1, 63), 40.0]
    scale = scale_from(values, "Error", "MSE")
    assert scale.capped and scale.high <= 1.5 and scale.code(values)[-1] == 254
    assert not scale_from(np.linspace(0, 1, 64), "Error", "MSE").capped


def facts(*given) -> list[Fact]:
    return [Fact(*one) for one in given]


def test_the_headline_is_where_they_differ_and_says_who_won():
    ours = facts(("Score", 1.0, "of 1", "higher"), ("Work", 13.2, "G multiply-adds", "lower"))
    theirs = facts(("Score", 1.0, "of 1", "higher"), ("Work", 37.3, "G multiply-adds", "lower"))
    assert headline([ours, theirs]) == [
        {"title": "Work", "text": "13.2 G multiply-adds", "better": "lower", "won": "best"},
        {"title": "Work", "text": "37.3 G multiply-adds", "better": "lower", "won": ""}]
    assert [one["won"] for one in headline([ours[:1], theirs[:1]])] == ["equal", "equal"]
    assert headline([ours])[0]["won"] == "" and headline([ours, []])[1] == {}
    other = facts(("Work", 35.0, "% of the plain model's", "lower"))
    assert {one["won"] for one in headline([ours[1:], other])} == {""}, "numbers of different units are not compared"
    error = facts(("Error", 0.2, "MSE", "lower"))
    assert {one["won"] for one in headline([ours, error])} == {"unlike"}, "nobody wins between two measures"


@pytest.mark.browser
def test_a_panel_has_one_headline_and_the_rest_folded(window, paper_page):
    drawings = draw(samples.unmask()), draw(samples.twin())

    def look(page):
        heads = page.locator(".ts-main").all_inner_texts()
        closed = page.locator(".ts-facts").first.is_visible()
        page.locator(".ts-more summary").first.click()
        page.wait_for_timeout(100)
        return heads, closed, [page.locator(".ts-facts").nth(i).is_visible() for i in (0, 1)], \
            page.locator(".ts-panel").first.inner_text()
    heads, closed, opened, words = window.look(paper_page(*drawings), look)
    assert "Work 61 % of the multiply-adds, lower is better" in " ".join(heads[0].split()) and "best" in heads[0]
    assert "best" not in heads[1] and not closed and opened == [True, True]
    assert " ms" not in words, "a measured time without its spread"


@pytest.mark.browser
def test_question_and_answer_stand_outside_the_long_text(window, paper_page):
    """Fault 5: they sat below the inner scroll edge, half cut."""
    trace = samples.asked()

    def look(page):
        asked = page.locator(".ts-asked")
        inside = page.evaluate("document.querySelector('.ts-textbox').contains(document.querySelector('.ts-asked'))")
        page.evaluate("shown.go(0)")
        early = asked.inner_text()
        page.evaluate("shown.go(1)")
        return inside, early, asked.inner_text()
    inside, early, late = window.look(paper_page(draw(trace)), look)
    assert not inside and "Who lived by the sea?" in early and "fisherman" not in early and "fisherman" in late
