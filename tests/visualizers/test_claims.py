"""A claim as a picture: a row for every expectation, each where its numbers are, and told as counted."""

import json

import pytest

from models.claims import FOLDER
from visualizers.page import claims

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.json"))


def stored(id: str) -> dict:
    return json.loads((FOLDER / f"{id}.json").read_text("utf-8"))


def found(tree, kind: str) -> list:
    """All nodes of a class in a tree of words."""
    if not isinstance(tree, list):
        return []
    here = [tree] if len(tree) > 1 and isinstance(tree[1], dict) and kind in tree[1].get("class", "").split() else []
    return here + [one for child in tree for one in found(child, kind)]


@pytest.mark.parametrize("id", SHIPPED)
def test_every_expectation_counted_is_a_row_of_the_picture(id):
    claim, tree = stored(id), claims.claim(stored(id), True)
    judged = claims.expectations(claim)
    rows = [row for row in found(tree, "intervals")[0][2][3][2:]]
    assert len(rows) == len(judged) + len(claims.failed(claim))
    outcomes = [one[2].split(" ", 1)[1] for one in found(rows, "outcome")][:len(judged)]
    sentence = claims.told(judged, ())
    assert sentence.startswith(f"{outcomes.count('met')} of {len(judged)} ")
    for name in set(outcomes) - {"met"}:
        assert f"{outcomes.count(name)} {name}" in sentence


@pytest.mark.parametrize("id", SHIPPED)
def test_the_picture_is_true_to_its_numbers(id):
    """met exactly where the whole interval lies in the tinted part; nothing is drawn outside of its scale."""
    for row in claims.expectations(stored(id)):
        scale = claims.scaled(row)
        low, high = claims.wanted(row, scale)
        assert scale.low < row["low"] <= row["value"] <= row["high"] < scale.high
        touches = row["kind"] != "bound" and row["side"] == "above" and row["low"] == row["bar"]  # not above it
        inside = low <= row["low"] and row["high"] <= high and not touches
        assert inside == (row["met"] is not False) or row["met"] is None
        assert scale.at(row["high"]) > scale.at(row["low"]) or row["low"] == row["high"]


def test_a_row_that_could_not_be_judged_is_counted_and_says_why():
    claim = stored("enat")
    assert claims.told(claims.expectations(claim), ()) == "4 of 5 expectations met, 1 not judged."
    shown = json.dumps(claims.claim(claim, True), ensure_ascii=False)
    assert "– not judged" in shown and "more items are needed" in shown


def test_a_claim_on_public_weights_says_on_which():
    """Beside the claim on our own weights, never in its place."""
    from models.claims import parted, read_public
    found = read_public("byte-level")
    shown = str([claims.claim(one, True) for one in found])
    assert "And on real public weights?" in shown and "smollm2, paper's rule on public weights (dequantised)." in shown
    assert "real public weights" not in str(claims.claim(stored("byte-level"), True))
    assert parted("byte-level-smollm2") == ("byte-level", "smollm2") and parted("byte-level") == ("byte-level", "")
