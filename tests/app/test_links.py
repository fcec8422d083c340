"""Copyable links: they say everything, they say nothing private, and they are refused outside the declarations."""

from dataclasses import replace
from urllib.parse import parse_qsl

import numpy as np
import pytest

from models.engine.method import atlas, find, offered
from models.serving import links, session
from models.serving.session import Ask
from models.trace.params import ParamError, Span, declaration
from models.trace.subject import from_image, from_text


def parts(query: str) -> dict:
    return dict(parse_qsl(query, keep_blank_values=True))


@pytest.mark.parametrize("id", list(offered()))
def test_a_link_says_everything_and_comes_back(id):
    method = find(id)
    for tab in method.card.tabs:
        example = method.examples_for(method.kind())[-1].id
        spans = {name: spec.high for name, (spec, *_) in declaration(method.params).items() if isinstance(spec, Span)}
        ask = Ask(id, tab, spans, seed=11, example=example)
        back = links.from_query(parts(links.to_query(ask)))
        assert (back.method, back.tab, back.seed, back.example, back.beside) == (id, tab, 11, example, ())
        assert links.to_query(back) == links.to_query(ask)
        changed = {k: v for k, v in spans.items() if declaration(method.params)[k][2] != v}
        assert dict(back.params) == pytest.approx(changed)


def test_an_own_subject_never_enters_a_link():
    secret = "my very own secret sentence about a fox"
    id = next(m.id for m in atlas().values() if m.accepts == "text")
    tab = find(id).card.tabs[0]
    query = links.to_query(Ask(id, tab, own=from_text(secret)))
    assert "secret" not in query and parts(query)["own"] == "1"
    photo = next(m for m in atlas().values() if m.accepts == "photo")
    some = photo.examples_for("photo")[2]
    own = replace(session.subject(Ask(photo.id, photo.card.tabs[0], example=some.id)), name="")
    assert links.nearest(Ask(photo.id, photo.card.tabs[0], own=own)).id == some.id
    noise = from_image(np.full((20, 20, 3), 200, np.uint8))
    assert parts(links.to_query(Ask(photo.id, photo.card.tabs[0], own=noise)))["own"] == "1"


@pytest.mark.parametrize("query", [
    {"method": "nothing"}, {"method": "recap", "seed": "1e9"}, {"method": "recap", "seed": "-2"},
    {"method": "recap", "tab": "papers"}, {"method": "recap", "p.full": "nan"}, {"method": "recap", "p.nothing": "1"},
    {"method": "recap", "example": "../x"}, {"method": "recap", "checkpoint": "/etc"}, {"method": "recap", "step": "x"},
    {"method": "recap", "seed": "\u00b2"}, {"method": "recap", "seed": "--5"}, {"method": "recap", "step": "--1"},
    {"method": "recap", "seed": "\u0665"}, {"method": "attention", "checkpoint": "text-mdm-l"},
    {"method": "attention", "checkpoint": "own-folder"}, {"method": "recap", "beside": "recap"},
    {"method": "recap", "beside": "maskgit.maskgit.maskgit"}])
def test_a_link_outside_the_declarations_is_refused(query):
    with pytest.raises(ParamError):
        links.from_query(query)


def test_a_method_whose_weights_are_missing_is_named_in_a_sentence(monkeypatch):
    monkeypatch.setattr(links, "offered", lambda: {})
    with pytest.raises(ParamError, match="not shown yet"):
        links.from_query({"method": "recap"})


def test_a_link_from_a_folder_of_ones_own_carries_no_path_and_opens_no_other_model(tmp_path):
    """Mutants: the path in the link; a link without a checkpoint, which opens the default one."""
    from tests.folders import saved
    folder = saved(tmp_path / "mine", "GPT2LMHeadModel")
    query = links.to_query(Ask("attention", "attend", checkpoint=str(folder)))
    assert "mine" not in query and parts(query)["checkpoint"] == links.FOLDER
    with pytest.raises(ParamError, match="folder"):
        links.from_query(parts(query))
