"""A checkpoint that took another's place: its name opens the new one, and the page says so."""

import json
from dataclasses import replace

import pytest

from models.checkpoints import store, versions
from models.checkpoints.verify import CheckpointError
from models.serving import links
from tests import samples
from visualizers.page import nodes

CARDS = {"text-x-3": {"replaces": ["text-x-1", "text-x-2"]}, "text-y-2": {"replaces": ["text-y-1"]},
         "text-y-1": {}, "text-z-1": {"replaces": "text-z-0"}}


def test_only_a_name_that_is_gone_is_replaced():
    assert versions.replaced(CARDS) == {"text-x-1": "text-x-3", "text-x-2": "text-x-3"}  # text-y-1 is still here
    assert versions.sentence("text-x-1", CARDS) == "text-x-1 was replaced by text-x-3"
    assert versions.sentence("text-y-1", CARDS) == versions.sentence("text-x-3", CARDS) == ""


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    for name, card in CARDS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(json.dumps(card))
    monkeypatch.setattr(store, "SHIPPED", tmp_path)


def test_an_old_name_resolves_to_the_new_one_where_a_method_runs_on_it(shelf):
    assert store.resolve("text-x-1", ("text-x-3",)) == "text-x-3"
    assert store.resolve("text-x-1", ("text-x-1",)) == "text-x-1"  # a method that has not moved yet
    with pytest.raises(CheckpointError, match="There is no checkpoint 'text-x-1' for this method"):
        store.resolve("text-x-1", ("text-y-2",))


def test_an_old_link_opens_the_new_checkpoint(shelf):
    assert links.opened("text-x-2") == "text-x-3" and links.opened("text-y-1") == "text-y-1"
    assert links.opened(None) is None and links.opened("never-heard") == "never-heard"


def said(node) -> str:
    return json.dumps(node)


def test_the_strip_of_an_old_record_says_what_replaced_its_checkpoint():
    made = samples.mask()
    old = replace(made, provenance=replace(made.provenance, checkpoint="text-x-1"))
    assert "text-x-1 was replaced by text-x-3" in said(nodes.strip(old, [], CARDS))
    assert "was replaced" not in said(nodes.strip(made, [], CARDS))
