"""The data flow on a method's card: few boxes, sound arrows, drawn by one painter."""

import pytest

from models.engine.method import atlas
from tests import samples
from visualizers import draw
from visualizers.drawing.flow import arrows


def sound(flow: str) -> bool:
    """Without the arrows that lead back nothing goes round in a circle, and every box is reached by some arrow."""
    found = arrows(flow)
    ahead = [(one[0], one[1]) for one in found if len(one) == 2]
    boxes, level = {box for one in found for box in one[:2]}, {}
    for _ in range(len(boxes) + 1):
        before = dict(level)
        for start, end in ahead:
            level[end] = max(level.get(end, 0), level.get(start, 0) + 1)
    return level == before and boxes == {box for pair in ahead for box in pair} and 3 <= len(boxes) <= 9


def test_arrows_are_read():
    assert arrows("a > *b > c; c ~> a") == [["a", "*b"], ["*b", "c"], ["c", "a", "again"]] and arrows("") == []
    assert sound("a > *b > c; c ~> a") and not sound("a > b > c; c > a") and not sound("a > b")


@pytest.mark.parametrize("id", [id for id, method in atlas().items() if method.card.flow])
def test_a_cards_flow_is_sound(id):
    flow = atlas()[id].card.flow
    names = {box for one in arrows(flow) for box in one[:2]}
    assert sound(flow) and all(len(name) <= 40 for name in names), flow
    paper = atlas()[id].card.seed is not None
    assert any(name.startswith("*") for name in names) or not paper, "what the paper adds is not marked"


def test_nearly_every_method_has_one():
    missing = [id for id, method in atlas().items() if not method.card.flow and "scaffold" not in method.card.summary]
    assert not missing


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1200])
def test_it_is_drawn_folded_under_the_picture(width, window, paper_page):
    drawings = [draw(trace, flow=arrows("prompt > *cut > layers > word; word ~> *cut"))
                for trace in (samples.unmask(), samples.twin())]

    def look(page):
        shut = page.locator(".ts-flow").count()
        page.locator("summary", has_text="How it works").first.click()
        chart = page.locator(".ts-flow").first
        chart.locator("rect").first.wait_for()  # it is drawn once it is open, a moment after the press
        return shut, chart.locator("rect").count(), chart.get_attribute("aria-label"), chart.bounding_box()["width"], \
            page.locator(".ts-box").first.bounding_box()["width"], page.evaluate("document.documentElement.scrollWidth")
    shut, boxes, words, wide, room, page_width = window.look(paper_page(*drawings), look, width=width)
    assert shut == 0 and boxes == 4 and words.startswith("prompt to cut, then") and wide <= room + 1
    assert page_width <= width
