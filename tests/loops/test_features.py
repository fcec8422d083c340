"""What an encoder makes of every patch: colours, likeness to the pointed-at patch, and what the viewer says of both."""

import numpy as np
import pytest

from models.engine.events import Book, pages, traces
from models.loops.attend import features
from models.loops.attend.reading import grid_layout
from models.trace import Provenance
from tests.traps import caught
from visualizers.drawing import attend
from visualizers.drawing.marks import number_codes, number_scale

SHAPE = (4, 4)


def halves(turn: float = 0.0):
    """Tokens [16, 6] of two kinds, left and right, with little noise and a large offset; turn: in another basis."""
    rng = np.random.default_rng(3)
    kinds = np.where(np.arange(16) % 4 < 2, 1.0, -1.0)[:, None] * np.eye(6)[:1] * 3
    basis = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 6)))[0] if turn else np.eye(6)
    return ((kinds + 0.1 * rng.normal(size=(16, 6))) @ basis + 50).astype(np.float32)


def test_likeness_is_that_of_what_differs():
    left = np.arange(16) % 4 < 2

    def tells(alike):
        return alike[0][left].min() > 0.9 and alike[0][~left].max() < -0.9

    plain = halves() / np.linalg.norm(halves(), axis=1, keepdims=True)
    caught(tells, features.likeness(halves()), plain @ plain.T)  # mutant: with the mean token, all are alike
    assert np.allclose(np.diag(features.likeness(halves())), 1, atol=1e-5)


def test_what_is_seen_alike_has_one_colour():
    pictures, held = features.colours([halves(), halves(turn=1.0)], SHAPE)
    assert pictures[0].shape == (64, 64, 3) and pictures[0].dtype == np.uint8 and held[0] > 0.9
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 2, "the same tokens in another basis"
    alone = features.colours([halves(turn=1.0)], SHAPE)[0][0]
    left, right = pictures[0][0, 0].astype(int), pictures[0][0, -1].astype(int)
    assert np.abs(left - right).max() > 150 and alone.shape == pictures[0].shape


def test_fewer_directions_than_colours_are_painted_too():
    pictures, held = features.colours([np.zeros((16, 2)), np.arange(32.0).reshape(16, 2)], SHAPE)
    assert held[0] == 0 and np.isfinite(held[1]) and len(pictures) == 2


@pytest.fixture
def drawn():
    layout, book = grid_layout(SHAPE, np.zeros((32, 32, 3), np.uint8)), Book()
    for event in features.record(layout, {"before": halves(), "after": halves(1.0)}, ask=2, sentence="Two halves."):
        book.take(event)
    return book


def test_the_viewer_names_it_likeness_and_not_attention(drawn):
    trace = traces(pages({"attend": drawn}), Provenance(), "hpm")["attend"]
    shown = attend.draw(trace)
    assert [step.label.split(": ")[0] for step in trace.steps] == ["before", "before", "after", "after"]
    assert attend.start(trace) == 2, "it opens on the picture, not on the colours"
    assert shown.attention.linked and shown.attention.title == features.ROW and shown.view["query"] == 2
    scale, codes = number_scale(shown, "attention:row", 2), number_codes(shown, 2, "attention:row")
    assert (scale.title, scale.unit) == (features.ROW, "cosine")
    assert codes[3] == 0 or codes[3] < codes[2], "opposite patches are not alike at all"
    assert codes[2] == codes.max() and drawn.close.facts["rank before"].value < 6


def apart_by_loop(tokens, numbers, near: bool) -> float:
    same, other, unit = [], [], tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    for i, j in np.ndindex(len(unit), len(unit)):
        steps = abs(i // 4 - j // 4) + abs(i % 4 - j % 4)
        if numbers[i] and numbers[j] and (steps == 1 if near else steps):
            (same if numbers[i] == numbers[j] else other).append(unit[i] @ unit[j])
    return float(np.mean(same) - np.mean(other))


@pytest.mark.parametrize("near", (False, True))
def test_things_are_told_apart_by_pairs_of_their_patches(near):
    numbers = np.array([1, 1, 2, 0, 1, 1, 2, 0, 0, 3, 3, 0, 0, 0, 0, 0])
    tokens = np.random.default_rng(2).normal(size=(16, 6))
    truth = apart_by_loop(tokens, numbers, near)
    caught(lambda things: features.told_apart(tokens[None], things[None], near)[0] == pytest.approx(truth), numbers,
           numbers + 1)  # mutant: the background is a thing, too
    assert np.isnan(features.told_apart(tokens[None], (numbers == 1)[None].astype(int))[0]), "one thing: no such pair"


def test_an_outline_runs_round_a_thing_and_nowhere_else():
    things = np.zeros((8, 8), int)
    things[2:5, 2:5] = 1
    line = (features.outlined(np.zeros((8, 8, 3), np.uint8), things) == features.OUTLINE).all(-1)
    assert line.any() and not line[:8].any() and not line[9:20, 9:20].any() and not line[21:].any()
