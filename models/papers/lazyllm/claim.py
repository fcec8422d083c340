"""LazyLLM: does a model that lets tokens wait answer as well, with less work, than the full model and two simple ways?

Exact match on procedural questions with held-out names; work as (token, layer) pairs; time to the first token measured
interleaved with the unpruned loop and with the library's own prefill. A second question after the first asks what
the revival is worth.
"""
from __future__ import annotations

import numpy as np

from models.baselines.random_keep import method as random_keep
from models.baselines.top_attention import method as top_attention
from models.claims import Claim, Lab, Row, row
from models.claims.prune_lab import (
    BETWEEN,
    MILD,
    SEEDS,
    STRONG,
    Answered,
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
    right,
    two_questions,
    weighed,
    windows,
)
from models.engine.method import prepare
from models.loops.prune.forward import Policy, unpruned
from models.papers.lazyllm import method as lazyllm
from models.trace.subject import from_text


def least_attended(job, layers: int) -> Policy:
    """The control: the same cuts, but the most attended leave."""
    own = lazyllm.policy(job, layers)
    return Policy(own.rates, lambda moment: -own.score(moment), own.looks, own.revive)


def measure(lab: Lab) -> Claim:
    asked, second = pairs(questions(lab.size(60, 3))), two_questions(lab.size(24, 2))
    whole = exam(lazyllm.METHOD, asked, full)
    rows, tests = [accuracy("full model", whole)], []
    if able(whole) or lab.quick:
        found = answers(asked)
        tests = question_tests(whole, found)
        rows += [accuracy(name, given) for name, given in found.items()]
        more, later = second_questions(second)
        rows, tests = [*rows, *more], [*tests, later, once(whole, *found.values())]
        rows.append(row("work of whole answers, LazyLLM mild", [100 * a.total for a in found["LazyLLM mild"]],
                        "% of the full model's pairs"))
    else:
        tests = [once(whole)]
    drift, nearness = story_rows(lab)
    tests += [*nearness, *time_rows(lab)]
    return concluded((*rows, *drift, *tests), tests, whole, rows)


def answers(asked: list[tuple[str, str]]) -> dict[str, list[Answered]]:
    """Every arm at both budgets, LazyLLM in between, and the control."""
    found = {f"LazyLLM {name}": exam(lazyllm.METHOD, asked, lazyllm.policy, cuts)
             for name, cuts in (("mild", MILD), ("strong", STRONG), ("between", BETWEEN))}
    for name, cuts in (("mild", MILD), ("strong", STRONG)):
        found[f"static {name}"] = exam(top_attention.METHOD, asked, top_attention.policy, cuts)
        found[f"random {name}"] = exam(random_keep.METHOD, asked, random_keep.policy, {**cuts, "revive": True})
    found["control: the least attended stay, strong"] = exam(lazyllm.METHOD, asked, least_attended, STRONG)
    return found


def question_tests(whole: list[Answered], found: dict[str, list[Answered]]) -> list[Row]:
    return [difference("LazyLLM mild minus full model", found["LazyLLM mild"], whole, -2),
            *(difference(f"LazyLLM minus {other}, {preset}", found[f"LazyLLM {preset}"], found[f"{other} {preset}"], 5)
              for preset in ("mild", "strong") for other in ("static", "random"))]


def second_questions(asked: list[tuple[str, str]]) -> tuple[list[Row], Row]:
    """What the revival is worth when a second question comes after the first is answered."""
    arms = {"full model": (full, {}), "LazyLLM strong": (lazyllm.policy, STRONG),
            "LazyLLM strong without revival": (lazyllm.policy, {**STRONG, "revive": False})}
    found = {name: exam(lazyllm.METHOD, asked, make, cuts) for name, (make, cuts) in arms.items()}
    return ([accuracy(f"second question, {name}", given) for name, given in found.items()],
            difference("second question: revival on minus off, strong", found["LazyLLM strong"],
                       found["LazyLLM strong without revival"], 5))


def story_rows(lab: Lab) -> tuple[list[Row], list[Row]]:
    """On held-out stories: how far the next-token distribution moves from the full model's, and paired differences."""
    texts = windows(lab.size(40, 3), lab.size(300, 40))
    ways = (("LazyLLM", lazyllm), ("static", top_attention), ("random", random_keep))
    moved = {(name, preset): divergence(way.METHOD, texts, way.policy, cuts)
             for name, way in ways for preset, cuts in (("mild", MILD), ("strong", STRONG))}
    drift = [row(f"stories, divergence from the full model, {name} {preset}", values, "nats")
             for (name, preset), values in moved.items()]
    return drift, [nearer(f"stories, {name} minus LazyLLM, {preset}", moved[name, preset], moved["LazyLLM", preset])
                   for name in ("static", "random") for preset in ("mild", "strong")]


def once(*exams: list[Answered]) -> Row:
    """The invariant: no (token, layer) pair twice, so never more work than the full model."""
    given = [a for group in exams for a in group]
    broken = sum(not a.once or a.total > 1 for a in given)
    return Row("answers with a (token, layer) pair computed twice", float(broken), "answers", len(given),
               expected="0", holds=broken == 0)


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


def concluded(rows: tuple[Row, ...], tests: list[Row], whole: list[Answered], asked: list[Row]) -> Claim:
    verdict, reason = weighed(tests)
    if len(asked) == 1:
        reason += (f" This checkpoint answers {right(whole).mean():.0f} % of the questions even in full, so they are "
                   "not used: the paper's accuracy is not tested, only nearness to the full model.")
        verdict = "mixed" if verdict == "holds" else verdict
    return Claim(
        "lazyllm", "In multi-document question answering the prefill of Llama-2 7B is 2.34 times as fast with the "
        "accuracy maintained, without training (arXiv 2407.14057).",
        "With 69 % of the (token, layer) work at most 2 points of exact match are lost; at the same work LazyLLM is "
        "at least 5 points above static and random dropping, and nearer to the full model on stories; no pair is "
        "computed twice; the first token comes sooner.",
        "exact match; divergence from the full model", "static ranking at prefill; random dropping; the full model",
        f"{len(whole)} questions and 40 stories of about 300 tokens; 69 % and 50 % of the prefill's pairs",
        rows, verdict, reason,
        control="random dropping with the same cuts moves the next token visibly; with questions, the arm in which the "
                "least attended tokens stay", seeds=SEEDS)
