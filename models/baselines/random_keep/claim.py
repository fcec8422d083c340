"""Random dropping: what is lost when tokens leave by chance, and how much time it saves."""
from __future__ import annotations

import numpy as np

from models.baselines.random_keep import method as random_keep
from models.claims import Claim, Lab, row
from models.claims.prune_lab import (
    BETWEEN,
    MILD,
    SEEDS,
    STRONG,
    able,
    accuracy,
    bundle,
    difference,
    divergence,
    exam,
    first_token_times,
    full,
    nearer,
    pairs,
    questions,
    ratio,
    weighed,
    windows,
)
from models.engine.method import prepare
from models.loops.prune.forward import unpruned
from models.trace.subject import from_text


def measure(lab: Lab) -> Claim:
    asked, method = pairs(questions(lab.size(60, 3))), random_keep.METHOD
    texts, whole = windows(lab.size(40, 3), lab.size(300, 40)), exam(method, asked, full)
    moved = {name: divergence(method, texts, random_keep.policy, cuts)
             for name, cuts in (("between", BETWEEN), ("mild", MILD), ("strong", STRONG))}
    rows = [accuracy("full model", whole),
            *(row(f"stories, divergence from the full model, random {name}", v, "nats") for name, v in moved.items())]
    tests = [nearer("stories, strong minus mild", moved["strong"], moved["mild"]),
             nearer("stories, mild minus between", moved["mild"], moved["between"]), faster(lab)]
    for name, cuts in (("mild", MILD), ("strong", STRONG)) if able(whole) or lab.quick else ():
        given = exam(method, asked, random_keep.policy, cuts)
        rows.append(accuracy(f"random {name}", given))
        tests.append(difference(f"full model minus random, {name}", whole, given, 5))
    verdict, reason = weighed(tests)
    return Claim(
        "random-keep", "A baseline: tokens that leave by chance save time and cost quality.",
        "The more tokens leave by chance, the further the next token moves from the full model's; where the full model "
        "can answer, at least 5 points of exact match are lost; the first token is sooner.",
        "divergence from the full model; exact match", "the full model",
        f"{len(texts)} stories and {len(asked)} questions; 84, 69 and 50 % of the prefill's (token, layer) pairs",
        (*rows, *tests), verdict, reason, "the divergence of the full model from itself is zero", SEEDS)


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
