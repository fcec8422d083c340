"""Boards: what is painted stands in its own cell, and every two things differ without colour."""

import numpy as np
import pytest

from models.worlds.boards import STEP, FlatBoard, likely
from tests.traps import caught

CORNER = {"reach": 0.1, "aside": 0.375}
THINGS = {"nothing": lambda b: b, "first": lambda b: b.disc(4), "second": lambda b: b.disc(4, second=True),
          "mark": lambda b: b.cross(4, **CORNER), "start": lambda b: b.dot(4), "goal": lambda b: b.cross(4),
          "path": lambda b: b.dot(4, STEP, 0.12)}


def grey(picture: np.ndarray) -> np.ndarray:
    return picture @ np.array([0.299, 0.587, 0.114])


def test_a_board_is_a_picture_of_its_cells():
    picture = FlatBoard(2, 5, side=20).picture()
    assert picture.shape == (40, 100, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("name", [name for name in THINGS if name != "nothing"])
def test_a_thing_stays_in_its_cell(name):
    """Mutants: rows and columns swapped; a disc wider than its cell."""
    plain, painted = FlatBoard(2, 4, 24).picture(), THINGS[name](FlatBoard(2, 4, 24)).picture()
    changed = (plain != painted).any(-1)
    assert changed[24:, :24].any() and changed.sum() == changed[24:, :24].sum()


def test_things_are_told_apart_without_colour():
    seen = {name: grey(paint(FlatBoard(2, 4, 24)).picture()) for name, paint in THINGS.items()}
    for one in seen:
        for two in seen:
            assert one == two or (abs(seen[one] - seen[two]) > 60).sum() > 8, f"{one} looks like {two}"


def test_a_wall_stands_between_its_two_cells():
    dark = grey(FlatBoard(3, 3, 24).wall(4, 5).picture()) < 80
    rows, columns = np.nonzero(dark)
    assert columns.min() >= 46 and columns.max() < 50 and 22 <= rows.min() and rows.max() < 50
    upright, lying = (grey(FlatBoard(3, 3).wall(a, 4).picture()) < 80 for a in (3, 1))
    assert np.array_equal(lying, upright.T)


@pytest.mark.parametrize("two", [(0, 4), (2, 3), (1, 1)])
def test_a_wall_needs_two_neighbours(two):
    with pytest.raises(ValueError, match="share no side"):
        FlatBoard(3, 3).wall(*two)


def test_a_copy_is_painted_on_its_own():
    first = FlatBoard(2, 2)
    before = first.picture()
    assert (first.copy().disc(3).picture() != before).any() and np.array_equal(first.picture(), before)


def test_a_frame_runs_all_around():
    dark = grey(FlatBoard(2, 3, 24).frame().picture()) < 80
    assert dark[0].all() and dark[-1].all() and dark[:, 0].all() and dark[:, -1].all() and not dark[2:-2, 2:-2].any()


def test_a_cell_outside_is_refused():
    with pytest.raises(ValueError, match="no cell 9"):
        FlatBoard(3, 3).disc(9)


def test_a_board_that_is_likely_is_the_one_that_is_there_where_it_is_sure():
    """Mutants: the kinds mixed up; no cross on what is wrong; one that hides the disc."""
    sure, wrong = np.eye(3)[[0, 1, 2, 1]], np.array([False, False, True, False])
    there = FlatBoard(2, 2).disc(1).disc(2, second=True).cross(2, **CORNER).disc(3).picture()
    caught(lambda chances, crossed: np.array_equal(likely(2, 2, chances, crossed), there), (sure, wrong),
           (sure[:, [0, 2, 1]], wrong), (sure, ~wrong & wrong))
    empty, disc = FlatBoard(1, 1), FlatBoard(1, 1).disc(0)
    stone = (disc.picture() != empty.picture()).any(-1)
    caught(lambda where: np.array_equal(disc.copy().cross(0, **where).picture()[stone], disc.picture()[stone]),
           CORNER, {}, {"reach": 0.2, "aside": 0.3})
    half = likely(1, 1, np.array([[0.5, 0.5, 0.0]]))
    assert FlatBoard(1, 1).disc(0).picture().mean() < half.mean() < FlatBoard(1, 1).picture().mean()
