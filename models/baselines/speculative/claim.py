"""Exact speculative sampling: faster by the clock, and what is written is distributed as the model alone would draw it.

Exactness is judged where it could show: by how much what is written leans to what the drafter overrates
(models/claims/drafting_lab.py). Times are of whole pictures, in rounds of both ways.
"""

from __future__ import annotations

from models.claims import Lab
from models.claims.drafting_lab import EVERY, SEED, Played, alone, nets, played, started
from models.claims.harness import Budget, Claim, Metric, Quantity, as_good, at_least, conclude, context
from models.claims.timing import interleaved, times_faster
from models.loops.sample.acceptance_rules import Exact, normalised
from models.loops.sample.drafting_records import CODES, DRAFTER
from models.loops.sample.speculative_decoding import DraftPlan, rounds
from models.worlds import scenes

AHEAD = 4
NETS = ("scene-ar-1", DRAFTER, CODES)
LENGTH = Metric("codes per pass", "codes", floor=1, ceiling=AHEAD + 1)
LEAN = Metric("lean to what the drafter overrates", "of 1", "lower")


class NoSubtraction(Exact):
    """The control: a refused draft is replaced by a draw from q, not from what p left of it."""

    def left(self, raised, q, p, drafts):
        return normalised(raised, q)


def measure(lab: Lab) -> Claim:
    found, count = nets(), lab.size(48, 1)
    kinds = {(lit, way): f"{'lit' if lit else 'clean'} scenes, {way} drafts"
             for lit in (True, False) for way in ("drawn", "favourite")}
    runs = {kind: played(found, Exact(), count, light=kind[0], favourite=kind[1] == "favourite") for kind in kinds}
    wrong = played(found, NoSubtraction(), lab.size(24, 1))
    seconds = {lit: clock(found, lit, lab.size(24, 1)) for lit in (True, False)}
    arms = {kind: LENGTH.arm(f"rounds on {name}", runs[kind].length, budget=Budget(runs[kind].macs / 1e9, WORK),
                             checkpoints=NETS) for kind, name in kinds.items()}
    return conclude(
        "speculative", paper="Two to three times as fast, outputs distributed as before (arXiv 2211.17192, T5-XXL).",
        here="Rounds of four drafts carry more than 1.5 codes per pass on lit and on clean scenes, take less time than "
             "one pass per code, and what they write leans to the drafter no more than the target's own draws.",
        arms=tuple(arms.values()), trainings=0, seeds=(SEED,),
        expect=[*(at_least(arms[lit, "drawn"], 1.5) for lit in (False, True)),
                *(at_least(faster(seconds[lit], lit), 1.0, bar="paper: faster at all") for lit in (False, True)),
                *(exact(kinds[kind], runs[kind]) for kind in kinds if kind[0])],
        controls=[at_least(Quantity("lean to what the drafter overrates, replacement from q (wrong)", wrong.lean,
                                    "of 1", floor=-1, ceiling=1), MARGIN)],
        context=[*(context(f"distance of what comes out from the target, {kinds[kind]}", runs[kind].off,
                           "total variation", f"an identity, added up over all drafts at every {EVERY}th code")
                   for kind in kinds),
                 context("multiply-adds, rounds on lit scenes over one pass per code",
                         runs[True, "drawn"].macs / spent(found), "x", "a count")])


WORK, MARGIN = "G multiply-adds", 0.01  # the wrong rule leans by 0.03 on other captions


def exact(name: str, run: Played):
    """Draws from the target do not lean at all."""
    rounds, own = (LEAN.arm(who, values, budget=Budget(1, "pictures"))
                   for who, values in ((f"rounds on {name}", run.lean), ("its own draws", 0 * run.lean)))
    return as_good(rounds, own, MARGIN, both_sides=True)


def clock(found, lit: bool, times: int) -> dict:
    """Seconds of whole pictures of one caption, by rounds of drawn drafts and one pass per code."""
    caption = scenes.caption(scenes.several(1, SEED)[0])
    import torch

    def drafted():
        chain = started(found, caption, lit, DraftPlan(AHEAD))
        return list(rounds(chain, Exact(), torch.rand(chain.size, 3, generator=torch.Generator().manual_seed(0))))

    return interleaved({"one pass per code": lambda: alone(found, caption, lit), "rounds": drafted}, times)


def faster(seconds: dict, lit: bool) -> Quantity:
    return times_faster(seconds, "one pass per code", "rounds", f"time of one pass per code over rounds on "
                        f"{'lit' if lit else 'clean'} scenes, median of interleaved pictures")


def spent(found) -> float:
    """Multiply-adds of one pass per code."""
    return started(found, scenes.caption(scenes.several(1, SEED)[0]), True, DraftPlan()).alone.macs
