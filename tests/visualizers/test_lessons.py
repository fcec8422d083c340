"""Guided walks: sound in form, and every statement checked on the shipped weights."""

from urllib.parse import parse_qsl

import pytest

from models.engine.method import offered
from models.serving import links, session
from models.trace import TABS
from visualizers.page import lessons

STEPS = [(tab, number, step) for tab, walk in lessons.lessons().items() for number, step in enumerate(walk["steps"])]


def ask(tab, step):
    return links.from_query({"tab": tab, **dict(parse_qsl(step["link"], keep_blank_values=True))})


def test_every_tab_has_a_walk_of_a_few_steps():
    found = lessons.lessons()
    assert set(found) == set(TABS) and all(5 <= len(walk["steps"]) <= 7 for walk in found.values())
    assert len({step["link"] for _, _, step in STEPS}) == len(STEPS), "the same view twice in a walk shows nothing new"


@pytest.mark.parametrize("tab, number, step", STEPS)
def test_a_step_asks_first_and_says_what_the_picture_shows(tab, number, step, shipped):
    """Mutant: a text that no longer fits the weights."""
    assert 2 <= len(step["options"]) <= 4 and 0 <= step["right"] < len(step["options"]) and step["check"]
    assert len(step["ask"]) < 180 and len(step["say"]) < 260
    *_, scene = session.play(ask(tab, step))
    facts = {take.trace.method: take.trace.facts for take in scene.takes}
    for method, fact, low, high in step["check"]:
        assert low <= facts[method][fact].value <= high, (fact, facts[method][fact].value)


def test_a_walk_without_its_weights_is_not_offered(monkeypatch):
    monkeypatch.setattr(lessons, "offered", lambda: {id: m for id, m in offered().items() if id != "maskgit"})
    assert lessons.walk("unmask") is None and lessons.walk("sample") is not None
    assert "check" not in lessons.walk("sample").value["steps"][0]
