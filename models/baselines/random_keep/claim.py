"""Random dropping: what is lost when tokens leave by chance, how it grows with their number, and what time it saves."""
from __future__ import annotations

import numpy as np

from models.baselines.random_keep import method as random_keep
from models.claims import Lab
from models.claims.harness import Arm, Claim, Metric, at_least, better, conclude, context, more_than_chance
from models.claims.picture_lab import EncodedScenes, in_full, random_rule
from models.claims.prune_lab import (
    FEWER,
    SEEDS,
    USUAL,
    divergence,
    exam,
    first_token,
    full,
    pairs,
    questions,
    windows,
)
from models.claims.timing import times_faster

GENTLE = {**USUAL, "first": 0.3, "third": 0.3}  # 83 % of the work
LEAST = 5.0  # points
SAVED = "what is asked is what the saving costs"


def measure(lab: Lab) -> Claim:
    method, make = random_keep.METHOD, random_keep.policy
    asked, texts = pairs(questions(lab.size(120, 3))), windows(lab.size(40, 3), lab.size(300, 40))
    exact = Metric("exact match", "% of questions", floor=0.0, ceiling=100.0)
    whole, cut = exam(method, asked, full).arm(exact, "full"), exam(method, asked, make, USUAL).arm(exact, "random")
    nats = Metric("divergence from the full model", "nats", "lower", ceiling=0.0)
    gentle, usual, fewer = (divergence(method, texts, make, cuts).arm(nats, f"stories, {name} of the work") for
                            name, cuts in (("83 %", GENTLE), ("69 %", USUAL), ("58 %", FEWER)))
    seconds = first_token(method, {"random": (make, USUAL)}, lab.size(1000, 60), lab.size(24, 3))
    patches = picture_arms(lab)
    return conclude(
        "random-keep", trainings=0, seeds=SEEDS, arms=[whole, cut, gentle, usual, fewer, *patches],
        paper="A baseline: tokens that leave by chance save time and cost quality.",
        here=f"With 69 % of the work more than {LEAST:g} points of exact match are lost and the first token is sooner; "
             "the more tokens leave, the further the next one moves from the full model's; of a picture's patches a "
             "quarter is not enough, and a tenth is worse.",
        controls=[more_than_chance(whole, 0.0)],
        expect=[better(whole, cut, LEAST, unmatched=SAVED), better(gentle, usual, unmatched=SAVED),
                better(usual, fewer, unmatched=SAVED), better(patches[0], patches[1], LEAST, unmatched=SAVED),
                better(patches[1], patches[2], unmatched=SAVED),
                at_least(times_faster(seconds, "full", "random"), 1.0)],
        context=[context("time to the first token, the library's prefill over random",
                         times_faster(seconds, "the library", "random"), "x")])


def picture_arms(lab: Lab) -> list[Arm]:
    """Right answers with all patches, a quarter and a tenth, drawn three times each."""
    board = EncodedScenes.of(lab.size(240, 4))
    seen = board.views[0]
    budgets = [np.full(len(board.views), round(kept * seen.count * seen.layers)) for kept in (0.25, 0.1)]
    metric = board.metric(budgets[0], "25 %")
    return [board.arm(metric, "all patches", board.sit(in_full)),
            *(board.arm(metric, f"random patches, {name}", *(board.sit(random_rule(b, 1 + s)) for s in range(3)))
              for name, b in zip(("25 %", "10 %"), budgets))]
