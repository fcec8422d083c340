"""Links, hand-made choices and streaming, without a browser."""

import threading
import time
from dataclasses import replace
from urllib.parse import parse_qsl

import numpy as np
import pytest

from models import session
from models.method import atlas, find
from models.params import ParamError, Span, declaration
from models.session import Ask, Scene
from models.subject import from_image, from_text
from tests import samples
from visualizers import papers, words


def parts(query: str) -> dict:
    return dict(parse_qsl(query, keep_blank_values=True))


@pytest.mark.parametrize("id", list(atlas()))
def test_a_link_says_everything_and_comes_back(id):
    method = find(id)
    for tab in method.card.tabs:
        example = method.examples_for(method.kind())[-1].id
        spans = {name: spec.high for name, (spec, *_) in declaration(method.params).items() if isinstance(spec, Span)}
        ask = Ask(id, tab, spans, seed=11, example=example)
        back = session.from_query(parts(session.to_query(ask)))
        assert (back.method, back.tab, back.seed, back.example, back.beside) == (id, tab, 11, example, ())
        assert session.to_query(back) == session.to_query(ask)
        changed = {k: v for k, v in spans.items() if declaration(method.params)[k][2] != v}
        assert dict(back.params) == pytest.approx(changed)


def test_an_own_subject_never_enters_a_link():
    secret = "my very own secret sentence about a fox"
    id = next(m.id for m in atlas().values() if m.accepts == "text")
    tab = find(id).card.tabs[0]
    query = session.to_query(Ask(id, tab, own=from_text(secret)))
    assert "secret" not in query and parts(query)["own"] == "1"
    photo = next(m for m in atlas().values() if m.accepts == "photo")
    some = photo.examples_for("photo")[2]
    own = replace(session.subject(Ask(photo.id, photo.card.tabs[0], example=some.id)), name="")
    assert session.nearest(Ask(photo.id, photo.card.tabs[0], own=own)).id == some.id
    noise = from_image(np.full((20, 20, 3), 200, np.uint8))
    assert parts(session.to_query(Ask(photo.id, photo.card.tabs[0], own=noise)))["own"] == "1"


@pytest.mark.parametrize("query", [
    {"method": "nothing"}, {"method": "recap", "seed": "1e9"}, {"method": "recap", "seed": "-2"},
    {"method": "recap", "tab": "papers"}, {"method": "recap", "p.full": "nan"}, {"method": "recap", "p.nothing": "1"},
    {"method": "recap", "example": "../x"}, {"method": "recap", "checkpoint": "/etc"}, {"method": "recap", "step": "x"},
    {"method": "recap", "beside": "recap"}, {"method": "recap", "beside": "maskgit.maskgit.maskgit"}])
def test_a_link_outside_the_declarations_is_refused(query):
    with pytest.raises(ParamError):
        session.from_query(query)


def test_a_choice_needs_whole_groups_of_different_allowed_tokens(monkeypatch):
    monkeypatch.setattr(session, "groups", lambda asked: (2, 3))
    allowed = np.arange(10)
    assert session.checked_choice(None, allowed, [[1, 2]]) == ((1, 2),)
    assert session.checked_choice(None, allowed, [[1, 2], [3, 4, 5]]) == ((1, 2), (3, 4, 5))
    for wrong in (None, [], [[1]], [[1, 1]], [[1, 2], [3, 4]], [[1, 2], [2, 4, 5]], [[1, 99]], [[1, True]], [["1", 2]],
                  [[1, 2], [3, 4, 5], [6]], "12", [[-1, 2]]):
        with pytest.raises(ParamError):
            session.checked_choice(None, allowed, wrong)


def test_a_random_choice_is_drawn_from_the_seed_in_the_same_group_sizes():
    allowed = np.arange(5, 40)
    drawn = session.random_choice((4, 6), allowed, seed=3)
    assert [len(g) for g in drawn] == [4, 6] and len({t for g in drawn for t in g}) == 10
    assert {t for g in drawn for t in g} <= set(allowed.tolist())
    assert drawn == session.random_choice((4, 6), allowed, seed=3) != session.random_choice((4, 6), allowed, seed=4)


def test_what_is_given_cannot_be_picked():
    trace = samples.unmask()
    assert set(session.playable(trace)).isdisjoint(trace.steps[0].where("context"))
    text = samples.prune()
    canvas = replace(text.canvas, roles=("",) * (text.canvas.size - 2) + ("answer",) * 2)
    assert text.canvas.size - 1 not in session.playable(replace(text, canvas=canvas))


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
    rows = papers.rows()
    assert len(rows) == len({r["slug"] for r in rows}) == 89
    assert {r["slug"] for r in rows if r["live"]} == {m.id for m in atlas().values() if m.card.seed is not None}
    for row in rows:
        assert row["tabs"] and row["idea"].endswith(".") and set(row["tabs"]) <= {"mask", "attend", "prune", "unmask",
                                                                               "sample"}
    for method in atlas().values():
        row = next((r for r in rows if r["slug"] == method.id), None)
        assert row is None or (set(method.card.tabs) <= set(row["tabs"]) and row["arxiv"] == method.card.arxiv)


def test_words_carry_text_and_never_markup():
    tree = words.watching(find("hpm").card, samples.hostile())
    assert tree[0][0] == "p" and tree[0][2] == samples.hostile().sentence
    assert words.number(0.04123) == "0.0412" and words.number(1024) == "1,024" and words.number(61.24) == "61.2"


def test_every_glossary_entry_is_one_sentence_for_a_known_tab():
    for entry in words.glossary():
        assert entry["says"].endswith(".") and set(entry["tabs"]) <= {"mask", "attend", "prune", "unmask", "sample"}
    assert all(words.terms(tab) for tab in ("mask", "attend", "prune", "unmask", "sample"))
