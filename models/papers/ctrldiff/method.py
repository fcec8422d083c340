"""CtrlDiff (arXiv 2505.14455): text in blocks from left to right, a masked diffusion inside each; a policy says how
long the next block is, and a classifier steers what is filled in without any training of the base.

The base (models/backbones/block_diffusion.py) learned all sizes, mixed inside a text, too. Before each block one pass
reads the last one and looks at 16 masks behind it: the policy sees the state of the last word and their entropies, the
entropy rule those alone, fixed and random sizes nothing; the pass is counted for all of them (rule.py).
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.backbones.block_diffusion import SIZES
from models.backbones.story_classifier import LABELS
from models.backbones.text import read
from models.engine.method import Card, Control, Event, Job, Method
from models.loops.unmask.blocks import Choose, at_random, by_blocks, by_entropy, by_size
from models.loops.unmask.steering import steering
from models.papers.ctrldiff.rule import BASE, GUIDE, JUDGE, POLICIES, WRITER, by_policy
from models.trace.params import Choice, Flag, Span
from models.trace.subject import Example, SubjectError
from models.worlds.tales.headings import LENGTH
from models.worlds.world import END

LEAST = 4  # words that must find room behind a prompt


@dataclass(frozen=True)
class Params:
    blocks: Annotated[str, Choice(
        (*POLICIES, "entropy", "random", "fixed"), "Block sizes", "Who says how long the next block is.", titles=(
            "policy: a pass costs 0.5 nats", "policy: a pass costs 2 nats", "entropy rule, no policy",
            "random, no policy", "fixed, no policy"))] = "policy"
    size: Annotated[str, Choice(tuple(map(str, SIZES)), "Fixed size", "Words of a block, where sizes are fixed.")] = "4"
    label: Annotated[str, Choice(("none", *LABELS), "Steer towards", "A mood or a topic that the classifier knows."
                                 )] = "none"
    strength: Annotated[float, Span(0, 100, 5, "Guidance", "How hard the classifier pulls; 0 is not at all.")] = 50.0
    most: Annotated[float, Span(0.1, 4, 0.1, "Entropy rule", "The block ends before the first word that is less sure "
                                "than this.", "nats", fold=True)] = 1.0
    hitting: Annotated[bool, Flag("One word per pass", "First hitting: as many passes as words. Off: blocks of 1, 2, "
                                  "4, 8, 16 take 1, 2, 3, 4, 6.", fold=True)] = False
    length: Annotated[int, Span(24, LENGTH, 1, "Longest text", "Words and signs, with the prompt.", fold=True)] = LENGTH


def chooser(job: Job) -> Choose:
    """Who says how long blocks are. Only a trained policy goes by that name."""
    p = job.params
    if p.blocks in POLICIES:
        return by_policy(job.companion(POLICIES[p.blocks]).model)
    if p.blocks == "entropy":
        return by_entropy(p.most)
    if p.blocks == "random":
        return at_random(0.0, np.random.default_rng(job.seed))
    return by_size(SIZES.index(int(p.size)))


def prompt_of(job: Job) -> tuple[list[int], tuple[str, ...]]:
    """Ids behind the sign of the beginning, and how they read."""
    found = read(job.tokenizer, job.subject.text, LENGTH).before_more()
    if (needed := len(found) + 1 + LEAST) > job.params.length:
        raise SubjectError(f"This text has {len(found)} words and signs and needs a longest text of {needed}, so that "
                           f"some may follow; it is set to {job.params.length}. Please shorten it, or set more.")
    return [END, *found.ids], found.labels


def run(job: Job) -> Iterator[Event]:
    from models.papers.ctrldiff.record import told

    (prompt, labels), p, guide = prompt_of(job), job.params, None
    if p.label != "none" and p.strength:
        guide = steering(job.companion(GUIDE).model, LABELS.index(p.label), p.strength)
    return told(job, prompt, labels, list(by_blocks(job.model, [prompt], chooser(job), job.generator(), p.length,
                                                    hitting=p.hitting, guide=guide)))


METHOD = Method(
    bound="its policies and classifiers were trained beside their own base",
    card=Card(
        id="ctrldiff", title="CtrlDiff", tabs=("unmask", "sample"), arxiv="2505.14455", year=2025, seed="B",
        summary="Writes text in blocks from left to right and fills each in from masks. A policy, trained by rewards, "
                "says how long the next block is, and a small classifier steers what is filled in.",
        flow="text so far > block diffusion > state of the last word; state of the last word > *policy over sizes > "
             "*block of that size > masks filled in; *gradient of a classifier > masks filled in; masks filled in ~> "
             "text so far",
        look_at="Where blocks are short: where a sentence begins, all that follows depends on its first words; once "
                "its form is known, half of it comes in one block.",
        not_covered="The paper's base (LLaDA-size networks) and its benchmarks; other numbers of passes per block; "
                    "several trainings; a third price of a pass; tense as a label. Measured on 120 texts (the spec: "
                    "500 in three seeds).",
        unverified="Policy, reward and guidance are ours: only the abstract was read. A block's reward is minus its "
                   "judge's nats and its price in passes, summed over its words (a mean would pay for few blocks), "
                   "plus the usual price of as many words; returns are discounted by 0.8 a block, against a trained "
                   "baseline. The policy sees 16 entropies, as the entropy rule does; its likeliest size is taken. "
                   "Guidance is first order around the masks, whose slope is small: strengths reach 100 (spec: 10). "
                   "Stories of 80 words; 637 steps, and 50 of each policy, instead of 40,000 and 3,000."),
    params=Params, accepts="text", checkpoints=(BASE,), companions=(*POLICIES.values(), GUIDE, JUDGE, WRITER), run=run,
    control=Control(params={"blocks": "fixed"}, title="Blocks of one size"),
    fixed=dict.fromkeys(("unmask", "sample"), "Sizes come from the policy and words from the base: choose other sizes "
                        "or another label, and run again."),
    examples=(Example("sea", "A happy tale of the sea", "A happy tale of the sea."),
              Example("open", "A heading that says nothing: steer it", "A tale."),
              Example("winter", "A mood is left open", "A tale of the winter."),
              Example("begun", "A story that has begun", "A sad tale of the market. Once a young miller lived at the "
                      "market. One day it lost its silver flute.")))
