"""Static pruning: is one ranking of the prompt by the last token's attention better than chance?"""
from __future__ import annotations

from models.baselines.random_keep import method as random_keep
from models.baselines.top_attention import method as top_attention
from models.claims import Claim, Lab, row
from models.claims.prune_lab import (
    MILD,
    SEEDS,
    STRONG,
    able,
    accuracy,
    difference,
    divergence,
    exam,
    full,
    nearer,
    pairs,
    questions,
    weighed,
    windows,
)

PRESETS = (("mild", MILD), ("strong", STRONG))


def measure(lab: Lab) -> Claim:
    asked, texts = pairs(questions(lab.size(60, 3))), windows(lab.size(40, 3), lab.size(300, 40))
    whole = exam(top_attention.METHOD, asked, full)
    rows, tests = [accuracy("full model", whole)], []
    for name, cuts in PRESETS:
        own = divergence(top_attention.METHOD, texts, top_attention.policy, cuts)
        dice = divergence(random_keep.METHOD, texts, random_keep.policy, cuts)
        rows += [row(f"stories, divergence from the full model, {way} {name}", values, "nats")
                 for way, values in (("static", own), ("random", dice))]
        tests.append(nearer(f"stories, random minus static, {name}", dice, own))
        if able(whole) or lab.quick:
            ranked = exam(top_attention.METHOD, asked, top_attention.policy, cuts)
            chance = exam(random_keep.METHOD, asked, random_keep.policy, cuts)
            rows += [accuracy(f"static {name}", ranked), accuracy(f"random {name}", chance)]
            tests.append(difference(f"static minus random, {name}", ranked, chance, 5))
    verdict, reason = weighed(tests)
    return Claim(
        "top-attention", "A baseline: tokens that the last token attends to are the ones worth keeping.",
        "At the same work, ranking the prompt once by attention stays nearer to the full model than chance, and, where "
        "the full model can answer, answers at least 5 points more questions.",
        "divergence from the full model; exact match", "random dropping with the same cuts, drawn once",
        f"{len(texts)} stories and {len(asked)} questions; 69 % and 50 % of the prefill's (token, layer) pairs",
        (*rows, *tests), verdict, reason, "random dropping moves the next token visibly", SEEDS)
