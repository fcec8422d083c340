"""Your turn: the visitor does the method's job by hand and is scored beside the method and chance, same budget.

Two games. In most methods tokens are picked on the canvas, in groups of known sizes (`take_turn`). Where a method draws
one unit after the other, candidates are offered one decision at a time (`offer`, then `take_picks`): the text goes on
from what was picked, so the next candidates depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.engine.method import Job, Turn, find, follow
from models.serving.session import Ask, Scene, Take, job, play, stream
from models.trace import Trace
from models.trace.params import ParamError

Choice = tuple[tuple[int, ...], ...]


def groups(asked: Job) -> tuple[int, ...]:
    """How many tokens the visitor picks, one number per group."""
    return tuple(int(n) for n in asked.method.turn.count(asked))


# ---- tokens picked on the canvas -------------------------------------------------------------------------------------

def take_turn(ask: Ask, own: Take, given: Any) -> Iterator[Scene]:
    """The visitor's choice, the method's own run (`own`, already there) and a random one, in this order.

    given: what came from the page, checked here.
    """
    asked, allowed = job(ask), playable(own.trace)
    mine = checked_choice(asked, allowed, given)
    yield from beside_own(ask, own, mine, random_choice([len(group) for group in mine], allowed, ask.seed))


def beside_own(ask: Ask, own: Take, mine: Choice, chance: Choice) -> Iterator[Scene]:
    """Scenes of the visitor's and the random run, with the method's own between them."""
    asked = job(ask)
    runs = [("visitor", lambda: replace(asked, choice=mine)), ("random", lambda: replace(asked, choice=chance))]
    for scene in stream(ask.tab, runs):
        first, *rest = scene.takes
        yield replace(scene, takes=(first, own, *rest))


def checked_choice(asked: Job, allowed: np.ndarray, given: Any) -> Choice:
    """A choice from the page as tuples: one or more whole groups, each allowed token named at most once."""
    lists = given if isinstance(given, (list, tuple)) else []
    wanted = groups(asked)[:len(lists)]
    sound = 0 < len(lists) == len(wanted) and all(isinstance(g, (list, tuple)) for g in lists)
    flat = [token for group in lists for token in group] if sound else []
    whole = all(isinstance(t, int) and not isinstance(t, bool) for t in flat)
    if not sound or not whole or [len(g) for g in lists] != list(wanted) or len(set(flat)) != len(flat):
        raise ParamError(f"Please choose whole groups of {', '.join(map(str, groups(asked)[:3]))} different tokens.")
    if not set(flat) <= set(allowed.tolist()):
        raise ParamError("One of the chosen tokens is not part of the game; please choose others.")
    return tuple(tuple(group) for group in lists)


def random_choice(sizes: Sequence[int], allowed: np.ndarray, seed: int) -> Choice:
    """Groups of the same sizes as the visitor's, drawn from the seed."""
    order = np.random.default_rng([seed, 7919]).permutation(allowed)
    ends = np.cumsum(sizes)
    return tuple(tuple(int(t) for t in part) for part in np.split(order[:ends[-1]], ends[:-1]))


def playable(trace: Trace) -> np.ndarray:
    """Tokens that a visitor may pick: neither context nor prompt, and for Unmask not known before."""
    blanks_only = trace.tab == "unmask"
    aside = set(trace.steps[0].where("context", *(("visible",) if blanks_only else ())).tolist())
    outside = {"cls", "condition", "pad", "answer"} | ({"prompt", "question"} if blanks_only else set())
    roles = trace.canvas.roles or ("",) * trace.canvas.size
    return np.array([i for i in range(trace.canvas.size) if i not in aside and roles[i] not in outside])


# ---- candidates offered one decision at a time -----------------------------------------------------------------------

@dataclass(frozen=True)
class Offer:
    """One decision: the text so far (its token `at` is still open), the candidates' meanings and names, how many
    decisions were made and how many there are."""

    trace: Trace
    at: int
    picks: tuple[int, ...]
    labels: tuple[str, ...]
    made: int
    total: int

    def picked(self, given: Any) -> int:
        """What the candidate behind [[index]] from the page means; ParamError for anything else."""
        index = given[0][0] if isinstance(given, list) and given and isinstance(given[0], list) and given[0] else None
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(self.picks):
            raise ParamError(f"Please choose one of the {len(self.picks)} candidates.")
        return self.picks[index]


def offer(ask: Ask, picks: tuple[int, ...]) -> Offer | None:
    """The decision that follows these picks: the method's own candidates there. None when none is left."""
    turn, total = _turn(ask), len(groups(job(ask)))
    if len(picks) == total:
        return None
    asked = job(_long(replace(ask, choice=_choice(picks)), len(picks) + 1))
    *_, last = follow(asked)
    trace = last.traces[ask.tab]
    found = turn.options(trace)
    if found is None:
        return None
    order = np.arange(len(found.picks))
    order = np.random.default_rng([ask.seed, len(picks)]).permutation(order) if found.shuffled else order
    return Offer(trace, found.at, *(tuple(values[i] for i in order) for values in (found.picks, found.labels)),
                 len(picks), total)


def take_picks(ask: Ask, picks: tuple[int, ...]) -> Iterator[Scene]:
    """The visitor's run, the method's own and one of random candidates, all as long as there are picks."""
    chance, dice = (), np.random.default_rng([ask.seed, 7919])
    while len(chance) < len(picks) and (offered := offer(ask, chance)):
        chance += (offered.picks[dice.integers(len(offered.picks))],)
    ask = _long(ask, len(picks))
    *_, scene = play(replace(ask, beside=()))
    yield from beside_own(ask, scene.takes[0], _choice(picks), _choice(chance))


def _choice(picks: tuple[int, ...]) -> Choice:
    return tuple((pick,) for pick in picks)


def _long(ask: Ask, units: int) -> Ask:
    """The question for a run of so many units, where a parameter says how many."""
    turn = _turn(ask)
    return replace(ask, params={**ask.params, turn.length: units}) if turn.length else ask


def _turn(ask: Ask) -> Turn:
    return find(ask.method).turn
