"""Times that can be compared: every way in every round, in an order that turns, and a ratio per round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from models.claims.arms import Quantity
from models.claims.harness import Row, context

ROUNDS = 24  # at least 20 pairs are needed to judge by


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, clock=time.perf_counter,
                warm: int = 1) -> dict[str, np.ndarray]:
    """name -> seconds [rounds]. Each round runs every way once and begins with another one, so that whatever else the
    machine does falls on all of them; `warm` rounds before are not counted."""
    names = list(ways)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warm + rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            began = clock()
            ways[name]()
            taken[name].append(clock() - began)
    return {name: np.array(seconds[warm:]) for name, seconds in taken.items()}


def times_faster(seconds: Mapping[str, np.ndarray], slow: str, fast: str, name: str = "") -> Quantity:
    """How many times as fast `fast` is as `slow`: the median of the ratios within rounds, with its interval."""
    name = name or f"time of {slow} over {fast}, median of rounds"
    return Quantity(name, seconds[slow] / seconds[fast], "x", np.median)


def race(ways: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> Quantity:
    """How many times as fast the second of two ways is as the first."""
    return times_faster(interleaved(ways, rounds), *ways)


def speeds(ways: Mapping[str, Callable[[], object]], slow: str, rounds: int = ROUNDS) -> list[Row]:
    """Rows of context: how many times as fast every other way is as `slow`."""
    seconds = interleaved(ways, rounds)
    return [context(f"{name}: speed against {slow}", times_faster(seconds, slow, name))
            for name in ways if name != slow]
