"""LazyLLM: does a model that lets tokens wait answer as well, with less work, than the full model and two simple ways?

Exact match on procedural questions with held-out names; work as (token, layer) pairs; time to the first token measured
interleaved with the unpruned loop and with the library's own prefill. A second question after the first asks what
the revival is worth.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.claims import Claim, Lab, Row, row
from models.claims.prune_lab import (
    MILD,
    SEEDS,
    STRONG,
    accuracy,
    bundle,
    difference,
    divergence,
    exam,
    first_token_times,
    pairs,
    questions,
    ratio,
    right,
    two_questions,
    windows,
)
from models.method import prepare
from models.prune import lazyllm, random_keep, top_attention
from models.prune.forward import Policy, unpruned
from models.subject import from_text

BETWEEN = {"first": 0.15, "second": 0.25, "third": 0.35, "where": "late"}


def full(job, layers: int) -> Policy:
    return unpruned(layers)


def least_attended(job, layers: int) -> Policy:
    """The control: the same cuts, but the most attended leave."""
    own = lazyllm.policy(job, layers)
    return Policy(own.rates, lambda moment: -own.score(moment), own.looks, own.revive)


def measure(lab: Lab) -> Claim:
    asked, second = pairs(questions(lab.size(150, 3))), two_questions(lab.size(60, 2))
    method = lazyllm.METHOD
    found = {"full model": exam(method, asked, full)}
    for name, cuts in (("LazyLLM mild", MILD), ("LazyLLM strong", STRONG), ("LazyLLM between", BETWEEN)):
        found[name] = exam(method, asked, lazyllm.policy, cuts)
    for name, cuts in (("mild", MILD), ("strong", STRONG)):
        found[f"static {name}"] = exam(top_attention.METHOD, asked, top_attention.policy, cuts)
        found[f"random {name}"] = exam(random_keep.METHOD, asked, random_keep.policy, {**cuts, "revive": True})
    found["control: the least attended stay, strong"] = exam(method, asked, least_attended, STRONG)
    later = {"full model": exam(method, second, full),
             "LazyLLM strong": exam(method, second, lazyllm.policy, STRONG),
             "LazyLLM strong without revival": exam(method, second, lazyllm.policy, {**STRONG, "revive": False})}
    drift, nearer = story_rows(lab)
    rows = [*(accuracy(name, answers) for name, answers in found.items()),
            *(accuracy(f"second question, {name}", answers) for name, answers in later.items()),
            *verdict_rows(found), once(found, later),
            difference("second question: revival on minus off, strong", later["LazyLLM strong"],
                       later["LazyLLM strong without revival"], 5),
            total_row("work of whole answers, LazyLLM mild", found["LazyLLM mild"]), *drift, *nearer,
            *time_rows(lab)]
    return judged(found, tuple(rows), len(asked))


def verdict_rows(found: dict) -> list[Row]:
    return [difference("LazyLLM mild minus full model", found["LazyLLM mild"], found["full model"], -2),
            *(difference(f"LazyLLM minus {other}, {preset}", found[f"LazyLLM {preset}"], found[f"{other} {preset}"], 5)
              for preset in ("mild", "strong") for other in ("static", "random"))]


def story_rows(lab: Lab) -> tuple[list[Row], list[Row]]:
    """On held-out stories: how far the next-token distribution moves from the full model's, and paired differences."""
    texts = windows(lab.size(60, 3), lab.size(300, 40))
    ways = (("LazyLLM", lazyllm), ("static", top_attention), ("random", random_keep))
    moved = {(name, preset): divergence(way.METHOD, texts, way.policy, cuts)
             for name, way in ways for preset, cuts in (("mild", MILD), ("strong", STRONG))}
    drift = [row(f"stories, divergence from the full model, {name} {preset}", values, "nats")
             for (name, preset), values in moved.items()]
    nearer = [row(f"stories, {name} minus LazyLLM, {preset}", moved[name, preset] - moved["LazyLLM", preset], "nats",
                  expected="> 0") for name in ("static", "random") for preset in ("mild", "strong")]
    return drift, [replace(r, holds=bool(r.low > 0)) for r in nearer]


def once(*exams: dict) -> Row:
    """The invariant: no (token, layer) pair twice, so never more work than the full model."""
    answers = [a for found in exams for group in found.values() for a in group]
    broken = sum(not a.once or a.total > 1 for a in answers)
    return Row("answers with a (token, layer) pair computed twice", float(broken), "answers", len(answers),
               expected="0", holds=broken == 0)


def total_row(name: str, answers: list) -> Row:
    return row(name, [100 * a.total for a in answers], "% of the full model's pairs")


def time_rows(lab: Lab) -> list[Row]:
    """First token on prompts of about 1,000 tokens: measured, beside what the counts would promise."""
    tokens, rounds = lab.size(1000, 60), lab.size(15, 3)
    prompt = questions(2, ("needle",), tokens)[0].prompt
    model, tokenizer = bundle().model, bundle().tokenizer
    layers, ids = len(model.model.layers), tokenizer(prompt)["input_ids"]
    jobs = {name: prepare(lazyllm.METHOD, from_text(prompt), cuts) for name, cuts in
            (("mild", MILD), ("strong", STRONG))}
    makers = {name: lambda job=job: lazyllm.policy(job, layers) for name, job in jobs.items()}
    times = first_token_times(model, {**makers, "full": lambda: unpruned(layers)}, ids, rounds)
    what = f"first token at {len(ids):,} tokens"
    return [*(ratio(f"{what}: full / {name}, measured", times["full"], times[name], expected="> 1",
                    holds=bool(np.median(times["full"] / times[name]) > 1)) for name in jobs),
            *(ratio(f"{what}: the library's prefill / {name}, measured", times["library"], times[name])
              for name in jobs),
            Row(f"{what}: full model, least", float(times["full"].min()), "ms", rounds)]


def judged(found: dict, rows: tuple[Row, ...], count: int) -> Claim:
    tested = [r for r in rows if r.holds is not None]
    held = [r for r in tested if r.holds]
    able = right(found["full model"]).mean()
    verdict = "holds" if len(held) == len(tested) else "does not hold" if not any(
        r.holds for r in verdict_rows(found)) else "mixed"
    failed = "; ".join(f"{r.name}: {r.value:.1f} {r.unit}" for r in tested if not r.holds)
    return Claim(
        "lazyllm", "In multi-document question answering the prefill of Llama-2 7B is 2.34 times as fast with the "
        "accuracy maintained, without training (arXiv 2407.14057).",
        "With 69 % of the (token, layer) work at most 2 points of exact match are lost; at the same work LazyLLM is "
        "at least 5 points above static and random dropping, and nearer to the full model on stories; no pair is "
        "computed twice; the first token comes sooner.",
        "exact match", "static ranking at prefill; random dropping; the full model",
        f"{count} questions of about 300 tokens; 69 % and 50 % of the prefill's (token, layer) pairs", rows, verdict,
        f"{len(held)} of {len(tested)} expectations met, full model at {able:.0f} %."
        + (f" Not met: {failed}." if failed else ""),
        control="with the order reversed (the least attended stay) the same cuts leave "
                f"{right(found['control: the least attended stay, strong']).mean():.0f} % right", seeds=SEEDS)
