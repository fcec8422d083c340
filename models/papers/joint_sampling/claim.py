"""ADJUST's claim, small: between independent draws and one full pass per token, one layer closes most of the gap.

A world with a known joint (claim_pairs.py): illegal pairs. Continuations of held-out stories: how likely text-ar-1
finds them, how far their 2- to 4-grams are from those of exact samples of another seed (in place of MAUVE, which needs
a large encoder), and the share of the gap between marginal and exact sampling that is closed. Independent draws stand
there twice: with as many full passes, and with half as many tokens per pass, which costs more than ADJUST with its
layer. KL from a full pass, 1 to 7 tokens into a round, of the layer and of guesses left unchanged. All in the method's
own order at temperature 1; the layer is a copy of the trunk's third, fed from mid-stack, which is our wiring.
"""
from __future__ import annotations

from math import log

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Claim, Quantity, at_least, at_most, better, conclude, context, ratio
from models.claims.text_lab import windows
from models.claims.timing import interleaved, times_faster
from models.papers.joint_sampling import claim_pairs
from models.papers.joint_sampling import method as joint_sampling
from models.papers.joint_sampling.claim_stories import (
    CONTEXT,
    LONGEST,
    NAMES,
    SEEDS,
    WAYS,
    apart,
    arms,
    both,
    coded,
    continued,
)
from models.papers.joint_sampling.method import Adjust


def measure(lab: Lab) -> Claim:
    bundle, layer = load("text-mdm-1"), load(joint_sampling.LAYER).model
    prompts = torch.tensor(windows(bundle.tokenizer, lab.size(128, 2), 80), device=bundle.device)[:, :CONTEXT]
    adjust = Adjust(bundle.model, layer, tuple(sorted({*bundle.tokenizer.all_special_ids, bundle.model.mask_token_id})))
    drawn = {way: [continued(adjust, prompts, way, seed) for seed in SEEDS] for way in WAYS}
    found, coins = arms(bundle, load("text-ar-1"), drawn), illegal(lab)
    exact, mine, four, two = (found[way] for way in list(WAYS)[:4])
    likely = np.stack([exact.scores, mine.scores, four.scores], 1)
    grams = coded(np.array([[ids.tolist() for ids, _ in drawn[way]] for way in list(WAYS)[:4]])[..., CONTEXT:])
    far = dict(zip(WAYS, apart(grams)))
    return conclude(
        "joint-sampling", paper="With four tokens per pass of Dream-7B, MAUVE 0.87 against 0.31 for independent draws, "
        "with respect to true joint sampling (arXiv 2509.22738).",
        here="At most 2 % illegal pairs where independent draws give half; at four tokens per pass likelier stories "
        "than independent draws, also than those that cost more, and at least 60 % of the gap to exact sampling "
        "closed; the layer's KL less than half of that of unchanged guesses.",
        arms=[exact, mine, four, two], trainings=1, seeds=SEEDS,
        controls=[at_least(coins["marginal"], 45), better(exact, four, unmatched="what drawing four at once can cost"),
                  at_least(grams_gap(grams, "marginal", "exact"), 0)],
        expect=[at_most(coins["adjust"], 2), better(mine, two),
                better(mine, four, unmatched="as many full passes; the layer's passes come on top"),
                at_least(closed("likelihood", likely, lambda rows: rows.mean(0)), 0.6),
                at_least(closed("n-gram", grams, apart), 0.6), at_least(grams_gap(grams, "marginal, 2", "ADJUST"), 0),
                at_most(divergence(adjust, prompts, lab.size(LONGEST, 3)), 0.5)],
        context=[context(coins["exact"].name, coins["exact"]),
                 *(context(f"2- to 4-grams from exact ones of another seed, {NAMES[way]}", value, "nats",
                           f"{len(prompts)} texts a seed; at most ln 2 = {log(2):.3f}") for way, value in far.items()),
                 *speeds(adjust, prompts[:1], lab.size(24, 1))])


def illegal(lab: Lab) -> dict[str, Quantity]:
    """Percent of illegal pairs in the world of coins, four tokens per full pass."""
    trunk = claim_pairs.trunk(lab.size(300, 2))
    layer, found = claim_pairs.layer(trunk, lab.size(300, 2)), {}
    for way in joint_sampling.SAMPLERS:
        drawn = torch.cat([claim_pairs.drawn(trunk, layer, way, lab.size(100, 4), seed) for seed in SEEDS])
        found[way] = Quantity(f"coins that must differ, {way}: illegal pairs", claim_pairs.illegal(drawn), "%",
                              floor=0, ceiling=100)
    return found


def grams_gap(grams: np.ndarray, far: str, near: str) -> Quantity:
    far_at, near_at = (list(WAYS).index(way) for way in (far, near))
    return Quantity(f"n-gram divergence from exact samples: {NAMES[far]} minus {NAMES[near]}", grams, "nats",
                    lambda rows: float(np.subtract(*apart(rows)[[far_at, near_at]])), ceiling=log(2))


def closed(name: str, items: np.ndarray, level) -> Quantity:
    """(marginal - ADJUST) / (marginal - exact) of what `level` makes of rows: exact, ADJUST, marginal, ..."""
    def share(rows: np.ndarray) -> float:
        exact, mine, marginal = level(rows)[:3]
        return float((marginal - mine) / (marginal - exact)) if marginal != exact else 0.0
    return Quantity(f"stories: share of the {name} gap closed", items, "of the gap", share)


def divergence(adjust: Adjust, prompts: torch.Tensor, steps: int) -> Quantity:
    """KL per masked position from a full pass, 1 to steps - 1 tokens into a round: the layer's over unchanged guesses'.
    """
    found = np.concatenate([both(adjust, some, steps) for some in prompts.split(32)])
    return ratio(*found.T, f"KL of the layer over that of unchanged guesses, 1 to {steps - 1} tokens in", floor=0)


def speeds(adjust: Adjust, prompt: torch.Tensor, times: int) -> list:
    """A whole text by the clock, against one full pass per token."""
    seconds = interleaved({way: lambda way=way: continued(adjust, prompt, way, 61) for way in list(WAYS)[:4]}, times)
    return [context(f"one text, {NAMES[way]}: speed against exact", times_faster(seconds, "exact", way))
            for way in list(WAYS)[1:4]]
