"""Random dropping: what is lost when tokens leave by chance, and how much time it saves."""
from __future__ import annotations

import numpy as np

from models.claims import Claim, Lab
from models.claims.lazyllm import BETWEEN, full
from models.claims.prune_lab import (
    MILD,
    SEEDS,
    STRONG,
    accuracy,
    bundle,
    difference,
    exam,
    first_token_times,
    pairs,
    questions,
    ratio,
)
from models.method import prepare
from models.prune import random_keep
from models.prune.forward import unpruned
from models.subject import from_text


def measure(lab: Lab) -> Claim:
    asked, method = pairs(questions(lab.size(120, 3))), random_keep.METHOD
    whole = exam(method, asked, full)
    found = {name: exam(method, asked, random_keep.policy, cuts)
             for name, cuts in (("between", BETWEEN), ("mild", MILD), ("strong", STRONG))}
    losses = [difference(f"full model minus random, {name}", whole, found[name], 5) for name in ("mild", "strong")]
    speed = faster(lab)
    held = [*(bool(r.holds) for r in losses), bool(speed.holds)]
    return Claim(
        "random-keep", "A baseline: tokens that leave by chance save time and cost answers.",
        "With 69 % and with 50 % of the work at least 5 points of exact match are lost, and the first token is sooner.",
        "exact match", "the full model", f"{len(asked)} questions; 84, 69 and 50 % of the prefill's pairs",
        (accuracy("full model", whole), *(accuracy(name, answers) for name, answers in found.items()), *losses, speed),
        "holds" if all(held) else "mixed" if any(held) else "does not hold", f"{sum(held)} of 3 expectations met.",
        "the full model answers the same questions", SEEDS)


def faster(lab: Lab):
    """The first token with the strong cuts, measured against the full loop."""
    prompt = questions(2, ("needle",), lab.size(1000, 60))[0].prompt
    job, model = prepare(random_keep.METHOD, from_text(prompt), STRONG), bundle().model
    layers, ids = len(model.model.layers), job.tokenizer(prompt)["input_ids"]
    times = first_token_times(model, {"strong": lambda: random_keep.policy(job, layers),
                                      "full": lambda: unpruned(layers)}, ids, lab.size(15, 3))
    sooner = bool(np.median(times["full"] / times["strong"]) > 1)
    return ratio(f"first token at {len(ids):,} tokens: full / strong, measured", times["full"], times["strong"],
                 expected="> 1", holds=sooner)
