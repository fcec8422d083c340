"""Cautious next token prediction: draw while the model is sure, try several continuations where it is not (2507.03038).

At a token, N trials are rolled out to the next punctuation mark, N growing with the entropy of the next-token
distribution; the trial that the model itself finds least perplexing is kept, with its cache. Everything is measured
after the warpers, as the reference does (the paper's text does not insist: the entropy can be taken before them).
Perplexity is a mean, so short trials are favoured: that is the method, and the second chart shows it.
The authors' code and Algorithm 1 of the paper count trials differently: `rule` chooses, the code's is the default,
because the published results come from it.
Our own: trials are batched, and one that finds no punctuation mark ends after `longest` tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from kernels import Sampler
from models.checkpoints import families
from models.engine.method import Card, Close, Event, Job, Method, follow
from models.loops.sample.cached_lm import Reader
from models.loops.sample.examples import STORIES
from models.loops.sample.loop import Journal, SamplingPolicy, decode
from models.loops.sample.report import entropy_curve, facts
from models.loops.sample.rollouts import LogitsMoment
from models.trace import Chart, Fact
from models.trace.params import Choice, Flag, ParamError, Span, Words
from models.trace.subject import Example

PAPER = (0.01, 1.5)  # H_min and H_max, nats
# A small story model is above 1.5 nats almost everywhere, so it gets the median and the 95 % quantile of its own
# entropy after the default warpers, measured on the held-out books (assets/texts/heldout.txt).
OWN = {"text-ar-1": (2.0, 4.2)}
N_MIN = 1
MOST_TRIES = 20  # what the baseline may draw


@dataclass(frozen=True)
class Params:
    policy: Annotated[str, Choice(
        ("cntp", "constant", "reversed", "plain", "greedy"), "Trials", "How the number of trials follows from the "
        "entropy; the last four are what the paper's rule is compared with.",
        titles=("more when unsure (the method)", "always the most", "fewer when unsure", "one", "one, most probable"))
    ] = "cntp"
    trials: Annotated[int, Span(1, 20, 1, "Most trials", "Where it is least sure; N_max of the paper.")] = 10
    thresholds: Annotated[str, Choice(
        ("checkpoint", "set"), "Sure and unsure", "The entropies between which the number of trials grows.",
        titles=("fit to the checkpoint", "as set below"))] = "checkpoint"
    temperature: Annotated[float, Span(0.1, 2.0, 0.05, "Temperature")] = 0.8
    length: Annotated[int, Span(4, 120, 1, "Length", "The text may end earlier by itself.", unit="tokens")] = 56
    top_p: Annotated[float, Span(0.1, 1.0, 0.05, "Top-p", fold=True)] = 0.95
    rule: Annotated[str, Choice(
        ("code", "paper"), "Counting the trials", "How a share r of the way from sure to unsure becomes a number.",
        titles=("1 + (most - 1) r, the authors' code", "most x r, the paper's Algorithm 1"), fold=True)] = "code"
    h_min: Annotated[float, Span(0.0, 6.0, 0.01, "Sure up to", "Entropy below which one token is drawn.", unit="nats",
                                 fold=True)] = PAPER[0]
    h_max: Annotated[float, Span(0.2, 8.0, 0.05, "Unsure from", "Entropy at which the most trials are made.",
                                 unit="nats", fold=True)] = PAPER[1]
    warped: Annotated[bool, Flag("Entropy after the sampler's settings", "Off: entropy of the model's own "
                                 "distribution. Trials are always judged after the settings.", fold=True)] = True
    stops: Annotated[str, Words("Trials end at", 40, "Punctuation marks; \\n is a line break.", fold=True)
                     ] = ".,?!:;)]}\\n"
    longest: Annotated[int, Span(2, 64, 1, "Longest trial", "A trial without punctuation ends here.", unit="tokens",
                                 fold=True)] = 24


def bounds(p: Params, checkpoint: str) -> tuple[float, float]:
    """H_min and H_max: the paper's, those fit to a checkpoint that is never as sure, or the visitor's."""
    low, high = (p.h_min, p.h_max) if p.thresholds == "set" else OWN.get(checkpoint, PAPER)
    if high <= low:
        raise ParamError(f"h_max must be above h_min ({low:g} nats), not {high:g}")
    return low, high


def count_of(p: Params, low: float, high: float) -> Callable[[LogitsMoment], int]:
    """The rule N(entropy) of a policy."""
    if p.policy in ("plain", "greedy"):
        return lambda moment: 1
    if p.policy == "constant":
        return lambda moment: p.trials

    def count(moment: LogitsMoment) -> int:
        ratio = ((moment.warped_entropy if p.warped else moment.entropy) - low) / (high - low)
        return trials_for(ratio, p.trials, p.rule, p.policy == "reversed")
    return count


def trials_for(ratio: float, most: int, rule: str = "code", reverse: bool = False) -> int:
    """N for r = (H - H_min) / (H_max - H_min): int(1 + (N_max - 1) r) in the code, floor(r N_max) in Algorithm 1.

    Both are clipped to 1..N_max. Reversed, the reference's second ablation, is N_max + 1 minus what is truncated else.
    """
    ratio = min(1.0, max(0.0, ratio))
    exact = N_MIN + (most - N_MIN) * ratio if rule == "code" else most * ratio
    return min(most, max(N_MIN, int(most + 1 - exact if reverse else exact)))


def stop_tokens(tokenizer, marks: str) -> frozenset[int]:
    """The first token of each punctuation mark, as the reference takes it; marks the vocabulary lacks are left out."""
    found = (tokenizer(mark, add_special_tokens=False)["input_ids"][:1] for mark in marks.replace("\\n", "\n"))
    return frozenset(ids[0] for ids in found if ids and ids[0] != tokenizer.unk_token_id)


def run(job: Job) -> Iterator[Event]:
    """The loop of the tab with this paper's number of trials, its stops and its choice of the least perplexing."""
    p = job.params
    source = Reader(job.bundle, job.subject, p.length)
    warpers = Sampler(temperature=0.0) if p.policy == "greedy" else Sampler(p.temperature, top_p=p.top_p)
    rule = count_of(p, *bounds(p, job.bundle.key))
    return decode(job, source, SamplingPolicy(
        sampler=warpers, length=p.length, close=close, trials=rule, longest=p.longest,
        stops=stop_tokens(source.tokenizer, p.stops)))


def close(journal: Journal) -> Close:
    """Facts, the two charts and the sentence of a run."""
    found, branches = facts(journal), [d for d in journal.decisions if len(d.trials) > 1]
    del found["entropy"]
    unsure = Fact("Unsure", len(branches), f"of {len(journal.decisions)} times")
    found = {**found, "branches": unsure}
    said = f"At {len(branches)} of {len(journal.decisions)} decisions the model was unsure enough to try several " \
           f"continuations: it generated {journal.spent} tokens to write {len(journal.ids)}"
    charts = (entropy_curve(journal), *(trial_chart(branches) for _ in branches[:1]))
    tail = "; step through a branch to read what was refused." if branches else ": nothing was refused."
    return Close("sample", said + verdict(found) + tail, charts, found, path=journal.path)


def trial_chart(branches) -> Chart:
    """Every trial by its length and perplexity; the kept ones are the lowest of their branch."""
    points = {"kept": [], "refused": []}
    for decision in branches:
        for k, trial in enumerate(decision.trials):
            points["kept" if k == decision.kept else "refused"].append((len(trial.ids), trial.perplexity))
    series = {name: np.array(found, np.float32) for name, found in points.items() if found}
    return Chart("scatter", "Trials by length and perplexity", "length (tokens)", "perplexity", series,
                 caption="Perplexity is a mean over the trial, so a short trial can win a contest it says little in.")


def verdict(found: dict[str, Fact]) -> str:
    if "right" not in found:
        return ""
    return ", and its answer is right" if found["right"].value else ", and its answer is wrong"


def matched(job: Job) -> dict[str, int]:
    """The baseline's budget: whole texts of this length until they have at least the tokens that this run generated."""
    *_, last = follow(job)
    found = last.traces["sample"].facts
    return {"tries": min(MOST_TRIES, math.ceil(found["spent"].value / found["kept"].value))}


METHOD = Method(
    card=Card(
        id="cntp", title="Cautious next token prediction", tabs=("sample",), arxiv="2507.03038", year=2025, seed="B",
        summary="Draws a token while the model is sure; where it is not, rolls out several continuations to the next "
                "punctuation mark and keeps the one the model finds least perplexing.",
        flow="text so far > model > entropy > *number of trials; *number of trials > trials up to a stop > "
             "*least perplexing is kept; *least perplexing is kept ~> text so far",
        look_at="Branch points: the continuations that were refused, their length and perplexity, and the tokens they "
                "cost.",
        not_covered="Vision-language models; the vote over several runs (self-consistency). The opening sum was "
                    "picked: CNTP is right on it and best of n is not, which is rarer over many (see the claim).",
        unverified="The number of trials follows the authors' code, from which the published results come: 1 + "
                   "(most - 1) r, several from 0.176 nats on. Algorithm 1 of the paper says most x r, several from "
                   "0.308 nats on; both are offered. The entropy is taken after the sampler's settings, as in the "
                   "code. On stories the two thresholds are 2.0 and 4.2 nats instead of 0.01 and 1.5: the median and "
                   "the 95 % quantile of what this small model has on held-out books.",
        states={"sample": {"accepted": "of the kept trial", "refused": "of a refused trial"}}),
    params=Params, accepts="problem", checkpoints=("algo-arithmetic-2", "text-ar-1"),
    kinds={"algo-arithmetic-2": "problem", **dict.fromkeys(families.CAUSAL, "text")}, layouts=families.CAUSAL,
    run=run, baseline="sampling", baseline_budget=matched,
    baseline_params=lambda p: {"temperature": p.temperature, "top_p": p.top_p, "length": p.length},
    worldly=(
        Example("water", "Water boils and freezes", "Water boils at 100 degrees and freezes at", "text"),
        Example("cities", "Cities of Italy", "The three largest cities of Italy are", "text"),
    ),
    examples=(
        Example("three-steps", "A sum of four numbers", "32+16+12-5."),
        Example("four-steps", "A sum of five numbers", "26-7-33+32+19."),
        Example("five-steps", "A sum of six numbers", "30+1-52+25+40+5."),
        *STORIES[:2],
    ))
