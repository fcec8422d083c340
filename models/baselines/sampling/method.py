"""Sampling, the tab's baseline: temperature, top-k, top-p and min-p, one token after the other.

Full logits are stored while steps x vocabulary stay small, so the four warpers re-render every distribution without
the model; the text that was sampled stays as it is. `tries` draws several whole texts and keeps the one the model finds
least perplexing: the same-budget baseline of methods that spend more tokens than they keep (best of n).
Sources: top-p arXiv 1904.09751; min-p arXiv 2407.01082.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch

import kernels
from kernels import Sampler
from models.checkpoints import families
from models.engine.method import Card, Close, Event, Job, Method, Options, Turn
from models.loops.sample.examples import STORIES, SUMS
from models.loops.sample.loop import Journal, SamplingPolicy, decode, once
from models.loops.sample.report import along, entropy_curve, facts, shown
from models.trace import Fact, Trace
from models.trace.params import Span
from models.trace.percent import percent
from models.trace.subject import Example

STORED = 500_000  # steps x vocabulary up to which full logits are kept
PICKS, CANDIDATES = 6, 5  # a visitor's turn: words to choose, and from how many each


@dataclass(frozen=True)
class Params:
    temperature: Annotated[float, Span(0.0, 2.0, 0.05, "Temperature", "Divides the logits: below 1 sharpens, above 1 "
                                       "flattens; 0 takes the most probable token.", view=True)] = 0.8
    top_k: Annotated[int, Span(0, 200, 1, "Top-k", "Keep the k most probable tokens; 0 keeps all.", view=True)] = 0
    top_p: Annotated[float, Span(0.05, 1.0, 0.05, "Top-p", "Keep the smallest set of tokens that holds this much "
                                 "probability; 1 keeps all.", view=True)] = 0.95
    min_p: Annotated[float, Span(0.0, 1.0, 0.01, "Min-p", "Keep tokens at least this fraction as probable as the best "
                                 "one; 0 keeps all.", view=True)] = 0.0
    length: Annotated[int, Span(1, 200, 1, "Length", "The text may end earlier by itself.", unit="tokens")] = 40
    tries: Annotated[int, Span(1, 20, 1, "Texts tried", "Draws this many whole texts and keeps the one the model finds "
                               "least perplexing.", fold=True)] = 1
    cut: Annotated[int, Span(0, 60, 1, "Cut off at the end", "Where the prompt stops, character by character.",
                             unit="characters", fold=True)] = 0


def run(job: Job) -> Iterator[Event]:
    """Draws `length` tokens, or `tries` texts of that length from one branch point."""
    from models.loops.sample.cached_lm import Reader
    p = job.params
    source = Reader(job.bundle, job.subject, p.length, p.cut)
    several = p.tries > 1
    return decode(job, source, SamplingPolicy(
        sampler=Sampler(p.temperature, p.top_k, p.top_p, p.min_p), length=p.length, close=close,
        trials=(lambda moment: p.tries) if several else once,
        keep_logits=not several and p.length * source.size <= STORED))


def close(journal: Journal) -> Close:
    """What the header, the curve and the sentence say about a plainly sampled text."""
    entropy = along(journal, "entropy")
    at = int(entropy.argmax())
    piece = shown(journal.page.labels[journal.page.start + at])
    sentence = (f"The model was least sure before {piece} ({entropy[at]:.1f} nats), where the settings cut away "
                f"{percent(max(0.0, along(journal, 'cut')[at]))} of the probability; point at a token to see its "
                "rivals.")
    return Close("sample", sentence, (entropy_curve(journal),), {"surprise": surprise(journal), **facts(journal)},
                 path=journal.path)


def surprise(journal: Journal) -> Fact:
    """Mean of -log2 p over the tokens written, before the warpers: a visitor may choose what they exclude."""
    logits = torch.stack([row for decision in journal.decisions for row in decision.trial.logits])  # [T, V]
    stats = kernels.vocab_stats(logits, top_k=1, chosen=torch.tensor(journal.ids, device=logits.device))
    return Fact("Surprise of the model", -float(stats.chosen_logp.mean()) / math.log(2), "bits per token", "lower")


def candidates(trace: Trace) -> Options:
    """Your turn: the place that is still open, and the tokens the model finds likeliest there."""
    found = trace.steps[-1].distributions["raw"]
    ids = tuple(found.top_ids[-1, :CANDIDATES].tolist())
    return Options(int(found.positions[-1]), ids, tuple(trace.vocabulary[id] for id in ids))


METHOD = Method(
    card=Card(
        id="sampling", title="Sampling", tabs=("sample",),
        summary="Draws one token after the other from the model's next-token distribution, reshaped by temperature, "
                "top-k, top-p and min-p.",
        flow="text so far > model > temperature, top-k, top-p, min-p > next token drawn; next token drawn "
             "~> text so far",
        look_at="How sure the model is at each token, and how much of its distribution the settings cut away.",
        not_covered="Repetition penalties, typical and eta sampling, beam search.",
        states={"sample": {"accepted": "of the kept trial", "refused": "of a refused trial"}}),
    params=Params, accepts="text", layouts=families.CAUSAL,
    kinds={"algo-arithmetic-1": "problem", "algo-arithmetic-2": "problem"},
    checkpoints=("text-ar-1", "text-ar-retrieval-1", "text-ar-1k-2", "algo-arithmetic-1", "algo-arithmetic-2"),
    run=run,
    worldly=(
        Example("capital", "The capital of France", "Question: What is the capital of France?\nAnswer: The capital of "
                "France is", "text"),
        Example("chat", "The same, asked as a chat", "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
                "<|im_start|>assistant\n", "text"),
        Example("water", "Why the sea is salty", "The sea is salty because", "text"),
    ),
    examples=(*STORIES, SUMS[0]),
    turn=Turn("Guess what the model finds likeliest next, word after word; the text goes on from your words.",
              "surprise", lambda job: (1,) * PICKS, candidates))
