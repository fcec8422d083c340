"""Mazes: every cell can be reached in one way, the judge takes that path and nothing else, and openings alone decide
what is kept from training."""
import numpy as np
import pytest

from models.worlds import mazes
from models.worlds.world import SPECIALS, UNKNOWN

SNAKE = "a1-b1 b1-c1 c1-d1 d1-d2 d2-c2 c2-b2 b2-a2 a2-a3 a3-b3 b3-c3 c3-d3 d3-d4 d4-c4 c4-b4 b4-a4"
ASKED = SNAKE + " from b1 to c2 path"
PATH = "b1 c1 d1 d2 c2"


def test_the_judge_takes_the_whole_path_and_nothing_else():
    assert mazes.check(f"{ASKED} {PATH}") and mazes.check(f"{ASKED} {PATH}".upper())
    wrong = ("", "b1 c1 d1 d2", "c1 d1 d2 c2", "b1 c1 c2", "b1 a1 b1 c1 d1 d2 c2", "b1 c1 d1 d2 c2 b2",
             "c2 d2 d1 c1 b1", f"{PATH} {PATH}", f"{PATH} e5")
    assert not any(mazes.check(f"{ASKED} {answer}") for answer in wrong)


def test_mazes_are_as_they_are_said_to_be():
    rng, forks = np.random.default_rng(0), []
    for _ in range(200):
        doc = mazes.sample(rng)
        one = doc.truth
        assert len(set(one.openings)) == mazes.SIDE**2 - 1 and 2 <= len(one.path) <= mazes.LONGEST
        assert mazes.check(doc.text) and mazes.read(doc.text) == doc and doc.prompt == one.asked
        open_to = mazes.reachable(one.openings)
        assert all(other in open_to[cell] for cell, other in zip(one.path, one.path[1:]))
        ways = [len(open_to[cell]) - (step > 0) for step, cell in enumerate(one.path[:-1])]
        assert one.forks == tuple(step for step, count in enumerate(ways) if count > 1)
        forks.append(len(one.forks))
    assert 0 < np.mean(np.array(forks) > 0) < 1


def test_openings_alone_decide_what_is_kept():
    kept = mazes.mazes(3, 40)
    assert len({frozenset(one.openings) for one in kept}) > 30 and all(one.kept for one in kept)
    for one in kept:
        start, goal = np.random.default_rng(0).permutation(mazes.SIDE**2)[:2].tolist()
        assert one._replace(openings=one.openings[::-1], start=start, goal=goal).kept
    trained = [mazes.maze(np.random.default_rng(seed), kept=False) for seed in range(200)]
    assert not any(one.kept for one in trained)
    assert {frozenset(one.openings) for one in trained}.isdisjoint({frozenset(one.openings) for one in kept})
    share = np.mean([mazes.maze(np.random.default_rng(seed)).kept for seed in range(600)])
    assert 0.05 < share < 0.2


def test_neither_order_nor_start_tell_the_path():
    rng = np.random.default_rng(1)
    first = [int(one.path[1] == min(mazes.reachable(one.openings)[one.start])) for one in
             (mazes.maze(rng) for _ in range(800)) if 0 in one.forks]
    assert len(first) > 200 and abs(np.mean(first) - 0.5) < 0.12


@pytest.mark.parametrize("text, said", [
    ("a1-b1 b1-c1", "is written like"), ("a1-b1 from a1 to z9 path", "is written like"),
    ("a1-b2 from a1 to b2 path", "no opening"), ("a1-b1 b1-a1 from a1 to b1 path", "twice"),
    ("a1-b1 from a1 to a1 path", "to itself"), ("a1-b1 from a1 to d4 path", "shut c1, d1, a2 off from a1"),
    ("a1-b1 b1-b2 b2-a2 a2-a1 from a1 to b2 path", "circle"),
    (SNAKE + " from a1 to a4 path", "12 or less")])
def test_what_is_no_maze_gets_a_sentence(text, said):
    with pytest.raises(ValueError, match=said):
        mazes.read(text)


def test_an_opening_is_one_token_and_a_text_comes_back():
    tok = mazes.WORLD.tokenizer()
    ids = tok.encode(f"{mazes.read(f'{ASKED} {PATH}').text}").ids
    assert len(ids) == 15 + 5 + 5 and UNKNOWN not in ids and tok.get_vocab_size() == len(SPECIALS) + len(mazes.WORDS)
    assert mazes.check(tok.decode(ids)) and tok.get_vocab_size() == 4 + 16 + 24 + 3


def test_walls_stand_where_nothing_is_open():
    one = mazes.read(ASKED).truth
    assert len(one.walls) == 24 - 15 and (0, 4) in one.walls and (0, 1) not in one.walls
    picture = mazes.board(one).picture()
    dark = (picture.max(-1) < 60).reshape(mazes.SIDE, 72, mazes.SIDE, 72).mean((1, 3))
    assert picture.shape == (288, 288, 3) and dark.min() > 0 and dark[0, 0] > dark[0, 2]


def test_who_chooses_at_forks_is_led_through_corridors():
    one = mazes.read(ASKED).truth
    assert one.walked([]) == ((1,), [0, 2]) and one.walked([2]) == (one.path, []) and one.walked([0]) == ((1, 0), [])
    share = mazes.of_cells(one)
    assert (share.sum(1) == [1] * 15 + [0, 1, 0, 1, 0] + [1] * 5 + [0] * 8).all() and (share[0, :2] == 0.5).all()
