"""What a visitor reads names the legend's words, never a hue: hues differ by theme, by printer and by eye."""

import json
import re

import pytest

from models.engine.method import atlas
from models.serving.recorded import FOLDER
from models.trace.serialize import load
from tests import samples
from visualizers.page import lessons

NAMES = "(pink|mauve|blue|orange|green|grey|gray|purple)"
HUE = re.compile(rf"\b{NAMES} (cell|patch|token|word|one|code|frame|edge|mark)\w*|\bthe {NAMES} ones\b|"
                 rf"\b{NAMES} and {NAMES}\b", re.IGNORECASE)


def test_the_rule_sees_what_it_should():
    assert HUE.search("recompute only the orange and pink cells") and HUE.search("Grey ones left early")
    assert not HUE.search("red circle, blue square: the answer is green")


@pytest.mark.parametrize("id", atlas())
def test_a_card_names_no_hue(id):
    card = atlas()[id].card
    assert not HUE.search(" ".join((card.summary, card.look_at, card.not_covered)))


def test_a_walk_names_no_hue():
    said = json.dumps([[step["ask"], step["say"]] for walk in lessons.lessons().values() for step in walk["steps"]])
    assert not HUE.search(said), HUE.search(said)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.json")))
def test_a_recorded_picture_names_no_hue(name):
    trace = load((FOLDER / name).read_text("utf-8"))
    notes = [step.note for step in trace.steps if not step.note.startswith("“")]
    assert not HUE.search(" ".join((trace.sentence, *notes)))


def test_a_sample_of_ours_names_no_hue_either():
    assert not HUE.search(" ".join(trace.sentence for trace in samples.all_tabs().values()))
