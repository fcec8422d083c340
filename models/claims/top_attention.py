"""Static pruning: is one ranking of the prompt by the last token's attention better than chance?"""
from __future__ import annotations

from models.claims import Claim, Lab
from models.claims.lazyllm import full
from models.claims.prune_lab import MILD, SEEDS, STRONG, accuracy, difference, exam, pairs, questions
from models.prune import random_keep, top_attention


def measure(lab: Lab) -> Claim:
    asked = pairs(questions(lab.size(120, 3)))
    found = {"full model": exam(top_attention.METHOD, asked, full)}
    for name, cuts in (("mild", MILD), ("strong", STRONG)):
        found[f"static {name}"] = exam(top_attention.METHOD, asked, top_attention.policy, cuts)
        found[f"random {name}"] = exam(random_keep.METHOD, asked, random_keep.policy, {**cuts, "revive": False})
    tests = [difference(f"static minus random, {name}", found[f"static {name}"], found[f"random {name}"], 5)
             for name in ("mild", "strong")]
    held = sum(bool(r.holds) for r in tests)
    return Claim(
        "top-attention", "A baseline: tokens that the last token attends to are the ones worth keeping.",
        "At the same work, ranking the prompt once by attention answers at least 5 points more questions than chance.",
        "exact match", "random dropping with the same cuts, drawn once",
        f"{len(asked)} questions; 69 % and 50 % of the prefill's (token, layer) pairs",
        (*(accuracy(name, answers) for name, answers in found.items()), *tests),
        ("does not hold", "mixed", "holds")[held], f"{held} of 2 expectations met.",
        "the full model answers the same questions", SEEDS)
