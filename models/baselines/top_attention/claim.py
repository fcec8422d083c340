"""Static pruning: is one ranking of the tokens by attention better than chance, in a prompt and in a picture?"""
from __future__ import annotations

import numpy as np

from models.baselines.random_keep import method as random_keep
from models.baselines.top_attention import method as top_attention
from models.claims import Lab
from models.claims.harness import Arm, Claim, Metric, better, conclude
from models.claims.picture_lab import EncodedScenes, looked_at_rule, random_rule
from models.claims.prune_lab import FEWER, SEEDS, USUAL, divergence, exam, full, pairs, questions, windows

BUDGETS = {"69 %": USUAL, "58 %": FEWER}
LEAST = 5.0  # points
RULES = {"static": top_attention, "random": random_keep}


def measure(lab: Lab) -> Claim:
    asked, texts = pairs(questions(lab.size(120, 3))), windows(lab.size(40, 3), lab.size(300, 40))
    exact = Metric("exact match", "% of questions", floor=0.0, ceiling=100.0)
    nats = Metric("divergence from the full model", "nats", "lower", ceiling=0.0)
    whole = exam(top_attention.METHOD, asked, full).arm(exact, "full")
    answers = [[exam(rule.METHOD, asked, rule.policy, cuts).arm(exact, f"{name}, {at}")
                for name, rule in RULES.items()] for at, cuts in BUDGETS.items()]
    stories = [[divergence(rule.METHOD, texts, rule.policy, cuts).arm(nats, f"{name}, stories, {at}")
                for name, rule in RULES.items()] for at, cuts in BUDGETS.items()]
    patches = picture_arms(lab)
    return conclude(
        "top-attention", trainings=0, seeds=SEEDS,
        arms=[whole, *(arm for pair in (*answers, *stories, *patches) for arm in pair)],
        paper="A baseline: tokens that are attended to are the ones worth keeping.",
        here=f"At the same work, ranking a prompt once by the last token's attention answers more than {LEAST:g} "
             "points more questions than dropping by chance and stays nearer to the full model on stories; the patches "
             "that receive most attention in the encoder answer more than random ones.",
        controls=[better(whole, answers[0][1], unmatched="a control: the full model against chance")],
        expect=[*(better(*pair, LEAST) for pair in answers), *(better(*pair) for pair in (*stories, *patches))])


def picture_arms(lab: Lab) -> list[tuple[Arm, Arm]]:
    """The most looked-at patches and random ones, drawn three times, at a quarter and a tenth."""
    board, found = EncodedScenes.of(lab.size(240, 4)), []
    for name, kept in (("25 %", 0.25), ("10 %", 0.1)):
        budget = np.full(len(board.views), round(kept * board.views[0].count * board.views[0].layers))
        metric = board.metric(budget, name)
        found.append((board.arm(metric, f"most looked-at patches, {name}", board.sit(looked_at_rule(budget))),
                      board.arm(metric, f"random patches, {name}",
                                *(board.sit(random_rule(budget, 1 + seed)) for seed in range(3)))))
    return found
