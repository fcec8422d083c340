"""Shared by the claims of the Prune tab: procedural questions, and how a pruned model answers them.

Needle questions only: the shipped checkpoint answers those, and hardly any of the other two kinds.
Nothing but the shipped weights and texts is needed: questions come from models/worlds/retrieval.py with names never
seen in training, the haystack's sentences from a shipped example (public domain).
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from models.backbones.text import encode
from models.checkpoints.store import Bundle, load
from models.claims import Row, row
from models.engine.method import Job, Method, prepare
from models.loops.prune.forward import Policy, Pruner, unpruned
from models.loops.prune.loop import finished, turns
from models.loops.prune.summary import race, read, said
from models.loops.prune.texts import CHECKPOINTS
from models.trace.subject import ASSETS, from_text
from models.worlds import retrieval

SEEDS = (101, 102, 103)
TOKENS = 300  # length of a question's prompt, about
CHARACTERS = {"notes": 1.75, "needle": 4.0, "passages": 3.7}  # per token, of each kind's documents
BETWEEN = {"first": 0.15, "second": 0.25, "third": 0.35, "where": "late"}
MILD = {"first": 0.3, "second": 0.5, "third": 0.7, "where": "late"}
STRONG = {"first": 0.5, "second": 0.5, "third": 0.5, "where": "early"}
ANSWER = 8  # tokens an answer may take
ABLE = 20.0  # % that the full model must answer before questions can tell pruned models apart


@dataclass(frozen=True)
class Answered:
    """One question: right or not, (token, layer) pairs before the first token and in all, as shares of the full
    model's, and whether any pair was computed twice."""

    right: bool
    work: float
    total: float
    once: bool


def bundle() -> Bundle:
    return load(CHECKPOINTS[0])


def haystack() -> list[str]:
    """Sentences of a shipped example without its needle."""
    text = (ASSETS / "texts" / "prune-needle.txt").read_text("utf-8").split("\n\nQuestion:")[0]
    return [s for s in re.split(r"(?<=[.!?])\s+", text) if "secret number" not in s]


def questions(count: int, kinds: tuple[str, ...] = ("needle",), tokens: int = TOKENS) -> list[retrieval.Task]:
    """`count` tasks with held-out names, from each seed in turn, the kinds in turn."""
    dice = [np.random.default_rng(seed) for seed in SEEDS]
    filler = haystack()
    return [retrieval.task(dice[i % 3], kind, 90 + int((tokens - 25) * CHARACTERS[kind]), filler, "test")
            for i in range(count) for kind in [kinds[(i // 3) % len(kinds)]]]


def two_questions(count: int) -> list[tuple[str, str]]:
    """(prompt, answer): two secrets in one story; one question with its true answer, then one about the other."""
    found = []
    for i, task in enumerate(questions(count)):
        other = retrieval.task(np.random.default_rng(1000 + i), "needle", 200, haystack(), "test", 0.0)
        story, asked = task.prompt.split("\n\nQuestion:")
        at = min((b for _, b in task.units), key=lambda b: abs(b - len(story) * ((i % 4) + 0.5) / 4))
        secret, question = (other.prompt[slice(*span)] for span in (other.gold, other.question))
        if secret[:30] not in story:
            story = f"{story[:at]} {secret}{story[at:]}"
        found.append((f"{story}\n\nQuestion:{asked}{task.answer}\n\nQuestion: {question} Answer:", other.answer))
    return found


def ask(method: Method, prompt: str, answer: str, make: Callable[[Job, int], Policy], params: dict,
        seed: int) -> Answered:
    """How a model pruned by make(job, layers) answers."""
    job = prepare(method, from_text(prompt), {**params, "length": ANSWER}, seed=seed)
    model, layers = job.model, len(job.model.model.layers)
    ids = encode(job.tokenizer, prompt, model.config.max_position_embeddings - ANSWER)
    reads, written = turns(job, ids), []
    runner = Pruner(model, make(job, layers), len(ids) + ANSWER)
    for part in reads:
        now = runner.advance(part)
    work = runner.store.rows / (layers * len(ids))
    while True:
        written.append(int(runner.logits(now.hidden).argmax()))
        if len(written) == ANSWER or finished(job, written):
            break
        now = runner.advance(written[-1:])
    right = said(job.tokenizer.decode(written, skip_special_tokens=True)) == answer.strip().rstrip(".")
    return Answered(right, work, runner.store.rows / (layers * runner.count), int(runner.store.computed.max()) <= 1)


def exam(method: Method, asked: list[tuple[str, str]], make: Callable[[Job, int], Policy],
         params: dict | None = None) -> list[Answered]:
    """All questions, each with its own seed for whatever is drawn."""
    return [ask(method, prompt, answer, make, params or {}, seed) for seed, (prompt, answer) in enumerate(asked)]


class Window(NamedTuple):
    """A piece of a held-out book and the full model's log-probabilities [V] of its next token."""

    ids: list[int]
    whole: torch.Tensor


def windows(count: int, tokens: int = TOKENS) -> list[Window]:
    """`count` pieces of held-out books, evenly spaced."""
    text, model = (ASSETS / "texts" / "heldout.txt").read_text("utf-8"), bundle().model
    ids = bundle().tokenizer(text, add_special_tokens=False)["input_ids"]
    found = [ids[start : start + tokens] for start in np.linspace(0, len(ids) - tokens, count).astype(int)]
    layers = len(model.model.layers)
    return [Window(piece, read(model, unpruned(layers), [piece]).log_softmax(-1)) for piece in found]


def divergence(method: Method, texts: list[Window], make: Callable[[Job, int], Policy], params: dict) -> np.ndarray:
    """Kullback-Leibler divergence [K] in nats of the pruned model's next token from the full model's, per text."""
    found = []
    for seed, (ids, whole) in enumerate(texts):
        job = prepare(method, from_text("-"), params, seed=seed)
        cut = read(job.model, make(job, len(job.model.model.layers)), [ids]).log_softmax(-1)
        found.append(float((whole.exp() * (whole - cut)).sum()))
    return np.array(found)


def able(whole: list[Answered]) -> bool:
    """Whether the full model answers enough for questions to show what pruning costs."""
    return float(right(whole).mean()) >= ABLE


def nearer(name: str, other: np.ndarray, own: np.ndarray) -> Row:
    """Paired difference of divergences [K]; holds when its interval lies above zero."""
    found = row(name, other - own, "nats", expected="> 0")
    return replace(found, holds=bool(found.low > 0))


def weighed(tests: list[Row]) -> tuple[str, str]:
    """Verdict and reason from the rows that were judged."""
    tests = [r for r in tests if r.holds is not None]
    failed = [r for r in tests if not r.holds]
    verdict = "holds" if not failed else "does not hold" if len(failed) == len(tests) else "mixed"
    reason = f"{len(tests) - len(failed)} of {len(tests)} expectations met."
    return verdict, reason + "".join(f" Not met: {r.name}: {r.value:.2g} {r.unit}." for r in failed)


def pairs(tasks: list[retrieval.Task]) -> list[tuple[str, str]]:
    return [(task.prompt, task.answer) for task in tasks]


def right(found: list[Answered]) -> np.ndarray:
    """Per question 100 or 0."""
    return np.array([100.0 * a.right for a in found])


def accuracy(name: str, found: list[Answered], **options) -> Row:
    """Exact match with its interval; the share of work stands in the name."""
    share = 100 * np.mean([a.work for a in found])
    return row(f"exact match, {name} ({share:.0f} % of the work before the first token)", right(found),
               "% of questions", **options)


def first_token_times(model, policies: dict[str, Callable[[], Policy]], ids: list[int], rounds: int) -> dict:
    """Milliseconds [rounds] to the first token of each policy and of the library's own prefill, interleaved."""
    def library() -> torch.Tensor:
        with torch.inference_mode():
            hidden = model.model(torch.tensor([ids], device=model.device), use_cache=True).last_hidden_state
            return model.lm_head(hidden[:, -1])[0].float()

    runners = {name: lambda make=make: read(model, make(), [ids]) for name, make in policies.items()}
    race({**runners, "library": library}, 1)  # warm
    times, _ = race({**runners, "library": library}, rounds)
    return times


def ratio(name: str, above: np.ndarray, below: np.ndarray, **options) -> Row:
    """Median ratio of interleaved rounds, with its bootstrap interval."""
    from models.claims import bootstrap
    value, low, high = bootstrap(above / below, statistic=np.median)
    return Row(name, value, "x", len(above), low, high, **options)


def difference(name: str, better: list[Answered], worse: list[Answered], least: float) -> Row:
    """Paired difference of exact match in points; holds when its value reaches `least` and, where a gain is claimed,
    its interval lies above zero."""
    found = row(name, right(better) - right(worse), "points")
    holds = found.value >= least and (least <= 0 or found.low > 0)
    return Row(found.name, found.value, found.unit, found.n, found.low, found.high, f">= {least:g} points", bool(holds))


def full(job, layers: int) -> Policy:
    return unpruned(layers)
