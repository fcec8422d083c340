"""LazyLLM: does a model that lets tokens wait answer as well, with less work, than the full model and two simple ways?

Exact match on procedural questions with held-out names; work as (token, layer) pairs before the first token; time to
the first token measured interleaved with the unpruned loop. Where the cuts stand was chosen for each rule on other
questions (sweep.py). Two kinds of questions show what the revival is worth: one, and a second one after the first.
"""
from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from models.baselines.random_keep import method as random_keep
from models.baselines.top_attention import method as top_attention
from models.claims import Lab
from models.claims.harness import Arm, Claim, Metric, Row, Tuned, as_good, at_least, better, conclude, context
from models.claims.prune_lab import (
    FEWER,
    HALF,
    SEEDS,
    USUAL,
    Sat,
    divergence,
    exam,
    first_token,
    full,
    pairs,
    questions,
    two_questions,
    windows,
)
from models.claims.timing import times_faster
from models.papers.lazyllm import method as lazyllm

TUNED = Tuned(8, "120 questions of other seeds")
QUESTIONS = 300
LOST, MORE = 2.0, 5.0  # points, the spec's
DICE = "equal work, but its cuts stand where LazyLLM's do; their places were swept for the other two rules only"
LATER = "equal before the first token; a token that comes back later has its missing layers computed then"
ask = partial(exam, lazyllm.METHOD)


def measure(lab: Lab) -> Claim:
    exams, metric = question_exams(lab), Metric("exact match", "% of questions", floor=0.0, ceiling=100.0)
    one = {**arms(exams, metric, tuned=TUNED), **arms({name: exams[name] for name in ("full", "random")}, metric)}
    later = second_exams(lab)
    second = arms(later, Metric("exact match of a second question", "% of questions", "higher", 0.0, 100.0), "second")
    texts = arms(story_exams(lab), Metric("divergence from the full model", "nats", "lower", ceiling=0.0), "stories")
    seconds = first_token(lazyllm.METHOD, {"LazyLLM": (lazyllm.policy, USUAL)}, lab.size(1000, 60), lab.size(24, 3))
    mine, gone = one["LazyLLM"], "without coming back"
    return conclude(
        "lazyllm", trainings=0, seeds=SEEDS, arms=[*one.values(), *second.values(), *texts.values()],
        paper="In multi-document question answering the prefill of Llama-2 7B is 2.34 times as fast with the accuracy "
              "maintained, without training (arXiv 2407.14057).",
        here=f"With 69 % of the (token, layer) pairs of a prompt at most {LOST:g} points of exact match are lost; at "
             f"the same work LazyLLM is more than {MORE:g} points above static ranking and random dropping, and nearer "
             "to the full model on stories; that tokens may come back helps one answer, and the second of two; the "
             "first token comes sooner.",
        controls=[better(one["full"], one["random"], unmatched="what cutting can cost at all")],
        expect=[as_good(mine, one["full"], LOST, bar="paper: accuracy maintained; 2 points are ours"),
                better(mine, one["static"], MORE), better(mine, one["random"], MORE, unmatched=DICE),
                better(mine, one[gone], unmatched=LATER), better(second["LazyLLM"], second[gone], unmatched=LATER),
                better(texts["LazyLLM"], texts["static"]), better(texts["LazyLLM"], texts["random"]),
                at_least(times_faster(seconds, "full", "LazyLLM"), 1.0, bar="paper: 2.34 at 7 B; above 1 is ours")],
        context=[*curve(lab), context("time to the first token, the library's prefill over LazyLLM",
                                      times_faster(seconds, "the library", "LazyLLM"), "x"),
                 *(context(f"pairs of a whole answer, {name}", exams[name].total, "% of the full model's") for name in
                   ("LazyLLM", gone)),
                 context("answers in which a pair was computed twice", sum(
                     sat.twice.sum() for sat in (*exams.values(), *later.values())), "answers", "an invariant")])


def arms(found: Mapping[str, Sat], metric: Metric, of: str = "", **options) -> dict[str, Arm]:
    return {name: sat.arm(metric, f"{name}, {of}" if of else name, **options) for name, sat in found.items()}


def question_exams(lab: Lab) -> dict[str, Sat]:
    """One question each: all rules at the same work, and LazyLLM where what left never comes back."""
    asked = pairs(questions(lab.size(QUESTIONS, 3)))
    return {"full": ask(asked, full), "LazyLLM": ask(asked, lazyllm.policy, USUAL),
            "static": exam(top_attention.METHOD, asked, top_attention.policy, USUAL),
            "random": exam(random_keep.METHOD, asked, random_keep.policy, {**USUAL, "revive": True}),
            "without coming back": ask(asked, lazyllm.policy, {**USUAL, "revive": False})}


def second_exams(lab: Lab) -> dict[str, Sat]:
    """A second question after the first is answered; the prompt is read in two pieces."""
    asked = two_questions(lab.size(QUESTIONS, 2))
    return {"full": ask(asked, full), "LazyLLM": ask(asked, lazyllm.policy, USUAL),
            "without coming back": ask(asked, lazyllm.policy, {**USUAL, "revive": False})}


def story_exams(lab: Lab) -> dict[str, Sat]:
    """How far the next token's distribution moves on held-out stories."""
    texts = windows(lab.size(40, 3), lab.size(300, 40))
    return {name: divergence(rule.METHOD, texts, rule.policy, USUAL) for name, rule in
            (("LazyLLM", lazyllm), ("static", top_attention), ("random", random_keep))}


def curve(lab: Lab) -> list[Row]:
    """Accuracy with less work, on a part of the questions."""
    asked = pairs(questions(lab.size(60, 2)))
    found = [ask(asked, lazyllm.policy, cuts) for cuts in (FEWER, HALF)]
    return [context(f"exact match, LazyLLM with {sat.share.mean():.0f} % of the work", sat.hits, "% of questions",
                    "the curve of the spec; not judged") for sat in found]
