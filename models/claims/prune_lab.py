"""Shared by the claims of the Prune tab: procedural questions, and how a pruned model answers them.

Needle questions only: the shipped checkpoint answers those, and hardly any of the other two kinds.
Nothing but the shipped weights and texts is needed: questions come from models/worlds/retrieval.py with names never
seen in training, the haystack's sentences from a shipped example (public domain).
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from models.backbones import text as reading
from models.checkpoints.store import Bundle, load
from models.claims.arms import Arm, Budget, Metric
from models.claims.text_lab import windows as held_out
from models.claims.timing import interleaved
from models.engine.method import Job, Method, prepare
from models.loops.prune.forward import KeepPolicy, Pruner, unpruned
from models.loops.prune.loop import Cuts, finished, survivors, turns
from models.loops.prune.summary import read, said
from models.loops.prune.texts import CHECKPOINTS
from models.trace.subject import ASSETS, from_text
from models.worlds import retrieval

SEEDS = (101, 102, 103)
VALIDATION = (201, 202, 203)  # of the questions on which cuts are chosen; never scored
TOKENS = 300  # length of a question's prompt, about
CHARACTERS = {"notes": 1.75, "needle": 4.0, "passages": 3.7}  # per token, of each kind's documents
USUAL = {"first": Cuts.first, "second": Cuts.second, "third": Cuts.third, "where": "late"}  # 69 % of the work
FEWER = {**USUAL, "first": 0.8}  # 58 %
HALF = {"first": 0.5, "second": 0.5, "third": 0.5, "where": "early"}  # 50 %
ANSWER = 8  # tokens an answer may take
WORK = "(token, layer) pairs before the first token"
Make = Callable[[Job, int], KeepPolicy]


class Sat(NamedTuple):
    """An exam's questions [K]: 100 or 0 each, or nats of stories; (token, layer) pairs before the first token, these
    and the whole answer's in % of the full model's; and whether a pair was computed twice."""

    hits: np.ndarray
    pairs: np.ndarray
    share: np.ndarray
    total: np.ndarray
    twice: np.ndarray

    def arm(self, metric: Metric, name: str, **options) -> Arm:
        return metric.arm(name, self.hits, budget=Budget(self.pairs, WORK),
                          **{"checkpoints": CHECKPOINTS[0]} | options)


def bundle() -> Bundle:
    return load(CHECKPOINTS[0])


def haystack() -> list[str]:
    """Sentences of a shipped example without its needle."""
    text = (ASSETS / "texts" / "prune-needle.txt").read_text("utf-8").split("\n\nQuestion:")[0]
    return [s for s in re.split(r"(?<=[.!?])\s+", text) if "secret number" not in s]


def questions(count: int, kinds: tuple[str, ...] = ("needle",), tokens: int = TOKENS,
              seeds: Sequence[int] = SEEDS) -> list[retrieval.Task]:
    """`count` tasks with held-out names, from each of three seeds in turn, the kinds in turn."""
    dice = [np.random.default_rng(seed) for seed in seeds]
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


def pairs(tasks: list[retrieval.Task]) -> list[tuple[str, str]]:
    return [(task.prompt, task.answer) for task in tasks]


def exam(method: Method, asked: Sequence[tuple[str, str]], make: Make, params: Mapping | None = None,
         checkpoint: str = CHECKPOINTS[0]) -> Sat:
    """How a model pruned by make(job, layers) answers, each question with its own seed for whatever is drawn."""
    return Sat(*np.array([ask(method, prompt, answer, make, params or {}, seed, checkpoint)
                          for seed, (prompt, answer) in enumerate(asked)], np.float64).T)


def ask(method: Method, prompt: str, answer: str, make: Make, params: Mapping, seed: int, checkpoint: str
        ) -> tuple[float, ...]:
    """One question's row of `Sat`."""
    job = prepare(method, from_text(prompt), {**params, "length": ANSWER}, checkpoint=checkpoint, seed=seed)
    model, layers = job.model, len(job.model.model.layers)
    text = reading.read(job.tokenizer, prompt, model.config.max_position_embeddings - ANSWER).before_more()
    reads, written = turns(prompt, text), []
    runner = Pruner(model, make(job, layers), len(text) + ANSWER)
    for part in reads:
        now = runner.advance(part)
    before = runner.store.rows
    while True:
        written.append(int(runner.logits(now.hidden).argmax()))
        if len(written) == ANSWER or finished(job, written):
            break
        now = runner.advance(written[-1:])
    right = said(job.tokenizer.decode(written, skip_special_tokens=True)) == answer.strip().rstrip(".")
    return (100.0 * right, before, 100 * before / (layers * len(text)),
            100 * runner.store.rows / (layers * runner.count), int(runner.store.computed.max()) > 1)


class Window(NamedTuple):
    """A piece of a held-out book and the full model's log-probabilities [V] of its next token."""

    ids: list[int]
    whole: torch.Tensor


def windows(count: int, tokens: int = TOKENS) -> list[Window]:
    """`count` pieces of held-out books, evenly spaced."""
    model = bundle().model
    layers = len(model.model.layers)
    return [Window(piece, read(model, unpruned(layers), [piece]).log_softmax(-1))
            for piece in held_out(bundle().tokenizer, count, tokens)]


def divergence(method: Method, texts: Sequence[Window], make: Make, params: Mapping) -> Sat:
    """Kullback-Leibler divergence [K] in nats of the pruned model's next token from the full model's, per text."""
    found, work, layers = [], [], len(bundle().model.model.layers)
    for seed, (ids, whole) in enumerate(texts):
        job = prepare(method, from_text("-"), params, seed=seed)
        cut = read(job.model, make(job, layers), [ids]).log_softmax(-1)
        found.append(float((whole.exp() * (whole - cut)).sum()))
        work.append(sum(survivors(job.params, layers, len(ids))))
    share = 100 * np.array(work) / (layers * len(texts[0].ids))
    return Sat(np.array(found), np.array(work), share, share, np.zeros(len(work)))


def first_token(method: Method, arms: Mapping[str, tuple[Make, Mapping]], tokens: int, rounds: int) -> dict:
    """Seconds [rounds] to the first token of a prompt of about so many tokens, interleaved: of each arm, of the same
    loop in full, and of the library's own prefill."""
    return raced(method, arms, questions(2, tokens=tokens)[0].prompt, rounds)


def raced(method: Method, arms: Mapping[str, tuple[Make, Mapping]], prompt: str, rounds: int,
          checkpoint: str = CHECKPOINTS[0]) -> dict:
    """As `first_token`, on this prompt and this model."""
    jobs = {name: prepare(method, from_text(prompt), params, checkpoint=checkpoint)
            for name, (_, params) in arms.items()}
    model, tokenizer = load(checkpoint).model, load(checkpoint).tokenizer
    ids, layers = reading.encode(tokenizer, prompt, model.config.max_position_embeddings), len(model.model.layers)

    def library() -> torch.Tensor:
        with torch.inference_mode():
            hidden = model.model(torch.tensor([ids], device=model.device), use_cache=True).last_hidden_state
            return model.lm_head(hidden[:, -1])[0].float()

    ways = {name: lambda job=job, make=arms[name][0]: read(model, make(job, layers), [ids])
            for name, job in jobs.items()}
    return interleaved({**ways, "full": lambda: read(model, unpruned(layers), [ids]), "the library": library}, rounds)


def full(job: Job, layers: int) -> KeepPolicy:
    return unpruned(layers)
