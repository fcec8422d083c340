"""Sums with several routes: the judge takes any right one, and nothing else."""
import numpy as np
import pytest

from models.worlds import arithmetic, routes
from models.worlds.world import drawn

ASKED = "40+35-12+24."
RIGHT = ["40+35=75, 75-12=63, 63+24=87. answer 87.", "24-12=12, 12+40=52, 52+35=87. answer 87.",
         "-12+24=12, 12+35=47, 47+40=87. answer 87."]
WRONG = {"a slip": "40+35=75, 75-12=62, 62+24=86. answer 86.",
         "two slips that meet": "40+35=76, 76-12=64, 64+24=87. answer 87.",
         "a number left out": "40+35=75, 75-12=63. answer 63.",
         "a number twice": "40+40=80, 80-12=68, 68+24=92. answer 92.",
         "another total": "40+35=75, 70-12=58, 58+24=82. answer 82.",
         "no answer": "40+35=75, 75-12=63, 63+24=87."}


@pytest.mark.parametrize("solution", RIGHT)
def test_every_right_route_is_accepted(solution):
    assert routes.check(f"{ASKED} {solution}") and routes.sound(f"{ASKED} {solution}")
    assert routes.check(f"4 0+3 5 - 12+24 .{solution.replace('=', ' = ')}"), "spaces do not matter"


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_route_is_not_sound(fault):
    text = f"{ASKED} {WRONG[fault]}"
    assert not routes.sound(text)
    assert routes.check(text) == (fault == "two slips that meet"), "the answer alone cannot see two slips that meet"


def test_every_problem_has_several_routes_within_the_limit():
    rng = np.random.default_rng(0)
    for _ in range(200):
        prompt, solution, answer = routes.problem(rng)
        terms = routes.terms(prompt)
        assert 4 <= len(terms) <= 6 and 0 <= answer <= routes.LIMIT and routes.sound(f"{prompt} {solution}")
        orders = np.array([rng.permutation(terms) for _ in range(400)])
        assert len({tuple(order) for order in orders[routes.valid(orders)].tolist()}) > 1


@pytest.mark.parametrize("text", ["Once upon a time.", "start 3, plus 4.", "7.", "3+.", ""])
def test_other_texts_are_no_sums(text):
    with pytest.raises(ValueError, match="sum"):
        routes.truth(text)


@pytest.mark.parametrize("world", [arithmetic, routes])
def test_held_out_problems_are_never_trained_on(world):
    found = world.held_out(20)
    assert len(set(found)) > 15 and all(sum(map(ord, prompt)) % 10 == 0 for prompt in found)
    rng = np.random.default_rng(1)
    trained = [drawn(world.WORLD, rng).prompt for _ in range(50)]
    assert not set(trained) & set(found) and all(sum(map(ord, prompt)) % 10 for prompt in trained)
