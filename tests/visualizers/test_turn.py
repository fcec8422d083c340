"""Your turn in Chromium: what may be picked on the canvas, what is sent, and what stays covered."""

import re

import numpy as np
import pytest

from models.trace import Canvas, MaskTrace, Step, states
from tests import samples
from visualizers import draw

pytestmark = pytest.mark.browser


def test_your_turn_counts_and_sends_only_whole_groups(window, tmp_path):
    from visualizers.export.files import page as page_of
    from visualizers.player import player
    text = page_of([draw(samples.unmask())])
    value = player.scene(draw(samples.unmask()), turn=player.turn("Choose.", [3, 2], "cells", locked=[0]))
    text = re.sub(r'(id="scene">).*?(</script>)', lambda m: m[1] + value + m[2], text, count=1, flags=re.S)
    path = tmp_path / "turn.html"
    path.write_text(text, "utf-8")

    def choose(page):
        page.evaluate("shown.trigger = (name, data) => { window.sent = [name, data]; }")
        for token in (0, 5, 6):
            page.locator(f"[data-token='{token}']").click()
        status = page.locator(".ts-turn [role=status]")
        before = status.inner_text(), page.locator(".ts-primary").is_disabled()
        page.locator("[data-token='7']").click()
        page.locator("[data-token='9']").click()
        after = status.inner_text()
        page.locator(".ts-primary").click()
        return before, after, page.evaluate("window.sent")
    before, after, sent = window.look(path.as_uri(), choose)
    assert before == ("2 of 5 cells chosen, group 1 of 2", True) and after.startswith("4 of 5")
    assert sent == ["pick", {"groups": [[5, 6, 7]]}]


def test_what_is_hidden_and_no_part_of_a_turn_stays_covered_under_its_number(window, tmp_path):
    from visualizers.export.files import page as page_of
    from visualizers.player import player
    canvas = Canvas("pyramid", ("hole 1", "", "piece a"), positions=np.array([[0, 0], [1, 0], [0, 2]]),
                    picture=np.full((12, 12, 3), 200, np.uint8))
    drawing = draw(MaskTrace("match", canvas, (Step("cut", states("masked", "visible", "visible")),)))
    value = player.scene(drawing, turn=player.turn("Match.", [1], "cells", locked=[0, 1]))
    path = tmp_path / "match.html"
    path.write_text(re.sub(r'(id="scene">).*?(</script>)', lambda m: m[1] + value + m[2], page_of([drawing]), count=1,
                           flags=re.S), "utf-8")

    def look(page):
        said = page.evaluate("[...document.querySelectorAll('[data-token]')].map((one) => one.dataset.group)")
        covered = page.evaluate("shown.turn.marks(shown.views[0].drawing, shown.page).map((mark) => mark.share)")
        page.locator("[data-token='2']").click()
        return said, covered, page.evaluate("shown.turn.groups()")
    assert window.look(path.as_uri(), look) == (["1", "", ""], [1, 0, 0], [[2]])
