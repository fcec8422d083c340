"""Hand-made choices and streaming, without a browser."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from models.checkpoints.store import CheckpointError
from models.engine.method import atlas, find, offered
from models.serving import session, turns
from models.serving.session import Scene
from models.trace.params import ParamError
from tests import samples
from visualizers.page import gallery, nodes, tab_handlers
from visualizers.page.turns import WAITING, Turns


def test_a_choice_needs_whole_groups_of_different_allowed_tokens(monkeypatch):
    monkeypatch.setattr(turns, "groups", lambda asked: (2, 3))
    allowed = np.arange(10)
    assert turns.checked_choice(None, allowed, [[1, 2]]) == ((1, 2),)
    assert turns.checked_choice(None, allowed, [[1, 2], [3, 4, 5]]) == ((1, 2), (3, 4, 5))
    for wrong in (None, [], [[1]], [[1, 1]], [[1, 2], [3, 4]], [[1, 2], [2, 4, 5]], [[1, 99]], [[1, True]], [["1", 2]],
                  [[1, 2], [3, 4, 5], [6]], "12", [[-1, 2]]):
        with pytest.raises(ParamError):
            turns.checked_choice(None, allowed, wrong)


def test_a_random_choice_is_drawn_from_the_seed_in_the_same_group_sizes():
    allowed = np.arange(5, 40)
    drawn = turns.random_choice((4, 6), allowed, seed=3)
    assert [len(g) for g in drawn] == [4, 6] and len({t for g in drawn for t in g}) == 10
    assert {t for g in drawn for t in g} <= set(allowed.tolist())
    assert drawn == turns.random_choice((4, 6), allowed, seed=3) != turns.random_choice((4, 6), allowed, seed=4)


def test_a_game_takes_away_what_the_last_run_said():
    desk = Turns()
    desk.panel = SimpleNamespace(view="view", session="session", score="score", sentence="sentence", heads=["head"],
                                 charts=["chart"], value=lambda shown, **card: card)
    found = desk.dealt(None, {}, None)
    assert found["head"] == found["score"] == [] and not found["chart"]["visible"] and found["sentence"] == [WAITING]


def test_what_is_given_cannot_be_picked():
    trace = samples.unmask()
    assert set(turns.playable(trace)).isdisjoint(trace.steps[0].where("context"))
    text = samples.prune()
    canvas = replace(text.canvas, roles=("",) * (text.canvas.size - 2) + ("answer",) * 2)
    assert text.canvas.size - 1 not in turns.playable(replace(text, canvas=canvas))


def _endless(ended: list):
    try:
        for i in range(10_000):
            time.sleep(0.005)
            yield Scene((), i / 10_000)
    finally:
        ended.append(threading.current_thread().name)


def test_closing_stops_the_run_and_waits_for_it():
    ended = []
    scenes = session.pumped(_endless(ended))
    next(scenes)
    scenes.close()
    assert len(ended) == 1


def test_a_slow_page_sees_the_newest_scene_and_always_the_last_one():
    def quick():
        for i in range(50):
            yield Scene((), i / 49, done=i == 49)
    seen = []
    for scene in session.pumped(quick()):
        seen.append(scene)
        time.sleep(0.02)
    assert seen[-1].done and len(seen) < 50


def test_drawing_leaves_most_of_the_time_to_the_run():
    """Mutant: the next scene as soon as the last one is drawn, which would be twelve of them or more."""
    def run():
        for i in range(60):
            time.sleep(0.01)
            yield Scene((), i / 59, done=i == 59)
    seen = []
    for scene in session.pumped(run()):
        seen.append(scene)
        time.sleep(0.05)
    assert seen[-1].done and len(seen) <= 7


def test_a_failure_in_the_run_reaches_the_page():
    def failing():
        yield Scene(())
        raise ParamError("no")
    with pytest.raises(ParamError):
        list(session.pumped(failing()))


def test_a_run_sees_one_thread_from_its_first_step_to_its_last():
    names = []

    def run():
        for _ in range(5):
            names.append(threading.get_ident())
            yield Scene(())
    scenes = session.pumped(run())
    for _ in scenes:
        pass
    assert len(set(names)) == 1 and threading.get_ident() not in names


def test_all_89_papers_are_listed_and_their_state_is_computed():
    rows = [row for row in gallery.rows() if not row.get("baseline")]
    assert len(rows) == len({r["slug"] for r in rows}) == 89
    assert {r["slug"] for r in rows if r["live"]} == {m.id for m in offered().values() if m.card.seed is not None}
    for row in rows:
        assert row["tabs"] and row["idea"].endswith(".") and set(row["tabs"]) <= {"mask", "attend", "prune", "unmask",
                                                                               "sample"}
    for method in atlas().values():
        row = next((r for r in rows if r["slug"] == method.id), None)
        assert row is None or (set(method.card.tabs) <= set(row["tabs"]) and row["arxiv"] == method.card.arxiv)


def test_words_carry_text_and_never_markup():
    tree = nodes.watching(find("hpm").card, samples.hostile())
    assert tree[0][0] == "p" and tree[0][2] == samples.hostile().sentence
    assert nodes.number(0.04123) == "0.0412" and nodes.number(1024) == "1,024" and nodes.number(61.24) == "61.2"


def test_every_glossary_entry_is_one_sentence_for_a_known_tab():
    for entry in nodes.glossary():
        assert entry["says"].endswith(".") and set(entry["tabs"]) <= {"mask", "attend", "prune", "unmask", "sample"}
    assert all(nodes.terms(tab) for tab in ("mask", "attend", "prune", "unmask", "sample"))


def test_a_score_says_who_did_better():
    from models.trace import Fact
    two = [Fact("Judged", value, "%", "higher") for value in (50.0, 20.0)]
    assert "better than chance" in str(nodes.score([("You", two[0]), ("At random", two[1])]))
    assert "random choice did better" in str(nodes.score([("You", two[1]), ("At random", two[0])]))


def test_a_checkpoint_that_cannot_be_had_leaves_the_menu_on_the_methods_own(monkeypatch):
    """Fault 16: the menu stayed on the missing model."""
    def fails(name):
        yield 0, 269_000_000
        raise CheckpointError("the Hub cannot be reached")
    monkeypatch.setattr(tab_handlers.download, "fetch", fails)
    monkeypatch.setattr(tab_handlers.session, "refused", lambda *_: "")
    monkeypatch.setattr(tab_handlers.gr, "Warning", lambda words: None)
    desk = tab_handlers.Desk.__new__(tab_handlers.Desk)
    desk.panel = SimpleNamespace(status="status", checkpoint="menu", menu=lambda id: {"choices": []},
                                 show_subjects=lambda id, name: {"subjects": name})
    *_, last = desk.fetch("attention", "smollm2-135m")
    own = find("attention").checkpoints[0]
    assert last == {"menu": {"choices": [], "value": own}, "subjects": own, "status": []}
