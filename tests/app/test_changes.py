"""What if: a change in the middle of a run, asked from the picture."""
from types import SimpleNamespace

import numpy as np
import pytest
from playwright.sync_api import expect

from models.engine.method import atlas, run
from models.serving.session import Ask, Take
from models.trace import CODE
from models.trace.interventions import Interventions, Overwrite, from_words
from models.trace.params import ParamError
from visualizers.page.changes import Changes
from visualizers.page.turns import SessionMemory
from visualizers.page.what_if import BEHIND, SAME, spec

DESK = Changes()
pytestmark = pytest.mark.usefixtures("tiny")


def seen(id="maskgit", tab="unmask", **changes) -> SessionMemory:
    asked = Interventions(**changes)
    return SessionMemory(Ask(id, tab, interventions=asked), (Take("method", run(id, interventions=asked).traces[tab]),))


def test_a_second_change_joins_the_first_and_one_of_the_same_token_takes_its_place():
    before = seen(overwrites=((27, 4, 7),))
    more = DESK.changed(before, {"kind": "put", "step": 27, "at": 5, "id": 8})
    assert more.interventions.overwrites == (Overwrite(27, 4, 7), Overwrite(27, 5, 8)) and more.step == 27
    other = DESK.changed(before, {"kind": "put", "step": 27, "at": 4, "id": 9})
    assert other.interventions.overwrites == (Overwrite(27, 4, 9),)
    assert not DESK.changed(before, {"kind": "undo"}).interventions


@pytest.mark.parametrize("message", [
    None, {}, {"kind": "drop"}, {"kind": "put"}, {"kind": "put", "at": "x"}, {"kind": "off"},
    {"kind": "put", "step": -2, "at": 1, "id": 2}, {"kind": "keep", "at": 1.5}])
def test_a_message_that_no_player_sends_is_a_sentence(message):
    with pytest.raises(ParamError):
        DESK.changed(seen(), message)


def test_a_typed_word_must_be_one_token_of_this_model():
    before = seen("sampling", "sample")
    asked = DESK.changed(before, {"kind": "put", "step": 3, "at": 9, "word": "the"})
    assert asked.interventions.overwrites[0].at == 9
    with pytest.raises(ParamError, match="is one token"):
        DESK.changed(before, {"kind": "put", "step": 3, "at": 9, "word": "antidisestablishmentarianism"})
    with pytest.raises(ParamError, match="cannot be typed here"):
        DESK.changed(seen("byte-level", "sample"), {"kind": "put", "step": 3, "at": 9, "word": "the"})


def test_the_player_offers_what_a_tab_knows_and_says_why_not():
    for id, method in atlas().items():
        for tab in method.card.tabs:
            bare = SimpleNamespace(method=id, tab=tab, provenance=SimpleNamespace(interventions={}))
            found = spec((bare,), ("method",))
            assert (found is None) == (tab == "mask"), (id, tab)
            assert found is None or bool(found["kinds"]) != bool(found["why"])


@pytest.mark.parametrize("id, tab", [("maskgit", "unmask"), ("sampling", "sample"), ("lazyllm", "prune")])
def test_a_change_that_changes_nothing_is_said_to(id, tab):
    """The token that stands there is put there; a token is kept that stays by itself."""
    plain = run(id, seed=3).traces[tab]
    last, end = plain.steps[-1], len(plain.steps) - 1
    if tab == "prune":
        gone = np.isin([step.state for step in plain.steps], [CODE["dropped"], CODE["discarded"], CODE["recycled"]])
        words = [{"keep": str(np.flatnonzero(side)[0])} for side in (~gone.any(0), gone[-1])]
    else:
        at = int(np.flatnonzero(last.ids >= 0)[-1])
        words = [{"put": f"{end}.{at}.{last.ids[at] + more}"} for more in (0, -1)]
    for one, nothing in zip(words, (True, False)):
        changed = run(id, seed=3, interventions=from_words(one)).traces[tab]
        assert (SAME in spec((changed, plain), ("method", "untouched"))["made"]) == nothing


def test_a_head_of_the_last_layer_is_said_to_change_no_attention():
    plain = run("attention", seed=3).traces["attend"]
    for layer, nothing in ((0, False), (plain.heads.layers[-1], True)):
        changed = run("attention", seed=3, interventions=Interventions(heads_off=((layer, 0),))).traces["attend"]
        assert (BEHIND in spec((changed, plain), ("method", "untouched"))["made"]) == nothing


@pytest.mark.browser
def test_another_code_is_put_in_place_and_the_untouched_run_stands_beside(visit):
    page = visit("?tab=unmask&method=maskgit&seed=2")
    expect(page.locator("#unmask-strip")).to_contain_text("live", timeout=90_000)
    expect(page.locator("#unmask-run")).to_have_text("Run", timeout=90_000)
    player = page.locator("#unmask-player .ts")
    player.evaluate("""(root) => {
      const { player } = root, drawing = player.drawings[0], step = 20;
      player.go(step);
      const token = [...Array(drawing.size).keys()].find((at) => !drawing.hides(step, at)
        && drawing.candidates(step, at).some((list) => list.items.length > 1));
      player.press(0, token); }""")
    page.locator("#unmask-player .ts-change .ts-option").first.click()
    expect(page.locator("#unmask-player .ts-change")).to_contain_text("Changed: from step", timeout=90_000)
    expect(page.locator("#unmask-player h2").nth(1)).to_have_text("The untouched run")
    expect(page.locator("#unmask-player .ts-differ").first).to_contain_text("from the untouched run")
    assert page.locator("#unmask-player .ts-changed").count() >= 1
    assert "put=20." in page.locator("#unmask-query textarea, #unmask-query input").first.input_value()
    page.get_by_role("button", name="Undo all changes").click()
    expect(page.locator("#unmask-player .ts-change")).not_to_contain_text("Changed", timeout=90_000)
