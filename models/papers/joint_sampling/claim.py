"""ADJUST's claim, small: between independent draws and one full pass per token, one layer closes most of the gap.

A world with a known joint, two coins that must differ: illegal pairs. Continuations of held-out stories: how likely
text-ar-1 finds them, how far their 2- to 4-grams are from those of exact samples of another seed (in place of MAUVE,
which needs a large encoder), and the share of the gap between marginal and exact sampling that is closed. Independent
draws stand there twice: with as many full passes, and with half as many tokens per pass, which costs more than ADJUST
with its layer. KL from a full pass, 1 to 7 tokens into a round, of the layer and of guesses left unchanged. All in the
method's own order at temperature 1; the layer is a copy of the trunk's third, fed from mid-stack, which is our wiring.
"""
from __future__ import annotations

from itertools import permutations
from math import log

import numpy as np
import torch

from kernels import Sampler
from models.backbones.masked import MaskedTransformer
from models.checkpoints.store import load
from models.claims import Lab, text_lab
from models.claims.harness import (
    Arm,
    Budget,
    Claim,
    Metric,
    Quantity,
    at_least,
    at_most,
    better,
    conclude,
    context,
    ratio,
)
from models.claims.probe import fitted
from models.claims.timing import speeds
from models.loops.unmask.loop import Plan
from models.papers.joint_sampling.method import LAYER, SAMPLERS, Adjust, Params, rounds
from models.papers.joint_sampling.network import JointSampler, exact_round, lesson

SEEDS, CONTEXT, HOLE, LONGEST, GRAMS = (61, 62), 32, 32, 8, (2, 3, 4)
WAYS = {"exact": ("exact", 1), "ADJUST": ("adjust", 4), "marginal": ("marginal", 4), "marginal, 2": ("marginal", 2),
        "at once": ("marginal", HOLE)}  # sampler and tokens per full pass
NAMES = {"exact": "exact, one token per pass", "ADJUST": "ADJUST, 4 tokens per pass", "at once": "all tokens at once",
         "marginal": "independent, 4 tokens per pass", "marginal, 2": "independent, 2 tokens per pass"}
PAIRS, WIDTH, TOGETHER = 6, 64, 4
SIZE = 2 * PAIRS


def measure(lab: Lab) -> Claim:
    bundle, layer = load("text-mdm-2"), load(LAYER).model
    prompts = torch.tensor(text_lab.windows(bundle.tokenizer, lab.size(128, 2), 80), device=bundle.device)[:, :CONTEXT]
    adjust = Adjust(bundle.model, layer, tuple(sorted({*bundle.tokenizer.all_special_ids, bundle.model.mask_token_id})))
    drawn = {way: [continued(adjust, prompts, way, seed) for seed in SEEDS] for way in WAYS}
    found, coins = arms(bundle, load("text-ar-1"), drawn), illegal(lab)
    exact, mine, four, two = (found[way] for way in list(WAYS)[:4])
    likely = np.stack([exact.scores, mine.scores, four.scores], 1)
    grams = coded(np.array([[ids.tolist() for ids, _ in drawn[way]] for way in list(WAYS)[:4]])[..., CONTEXT:])
    far = dict(zip(WAYS, apart(grams)))
    return conclude(
        "joint-sampling", paper="Four tokens per pass of Dream-7B read much more like tokens drawn one by one: MAUVE "
                                "0.87 instead of 0.31, where each is drawn by itself (arXiv 2509.22738).",
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
                 *clocked(adjust, prompts[:1], lab.size(24, 1))])


def illegal(lab: Lab) -> dict[str, Quantity]:
    """Percent of illegal pairs in the world of coins, four tokens per full pass."""
    trunk = coin_trunk(lab.size(300, 2))
    layer, found = coin_layer(trunk, lab.size(300, 2)), {}
    for way in SAMPLERS:
        drawn = torch.cat([coins_drawn(trunk, layer, way, lab.size(100, 4), seed) for seed in SEEDS])
        found[way] = Quantity(f"coins that must differ, {way}: illegal pairs", illegal_pairs(drawn), "%",
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


def clocked(adjust: Adjust, prompt: torch.Tensor, times: int) -> list:
    """A whole text by the clock, against one full pass per token."""
    ways = {way if way == "exact" else f"one text, {NAMES[way]}": lambda way=way: continued(adjust, prompt, way, 61)
            for way in list(WAYS)[:4]}
    return speeds(ways, "exact", times)


# ---- held-out stories

def continued(adjust: Adjust, prompts: torch.Tensor, way: str, seed: int) -> tuple[torch.Tensor, float]:
    """Texts [B, CONTEXT + HOLE] after the prompts at the method's defaults, and how many layers each went through."""
    p, (sampler, together) = Params(), WAYS[way]
    plan = Plan(rounds(HOLE, together, sampler), adjust, p.order, sampler=Sampler(p.temperature))
    turns = text_lab.continued(adjust.trunk, prompts, HOLE, plan, seed)
    return turns[-1].ids, sum(turn.found.cost.rows for turn in turns) / turns[-1].ids.numel()


def arms(bundle, judge, drawn: dict) -> dict[str, Arm]:
    """Bits per character of every way, between all tokens at once and one full pass for each."""
    bits = {way: np.array([text_lab.surprise(judge, bundle, ids, CONTEXT) for ids, _ in runs])
            for way, runs in drawn.items()}
    metric = Metric("surprise of text-ar-1", "bits/char", "lower", bits["at once"].mean(0), bits["exact"].mean(0))
    return {way: metric.arm(NAMES[way], bits[way], budget=Budget(drawn[way][0][1], "layers run per text"), checkpoints=(
        (LAYER, "text-mdm-2") if way == "ADJUST" else ("text-mdm-2",))) for way in WAYS}


def coded(texts: np.ndarray) -> np.ndarray:
    """[K, A, S, M]: a number for each 2- to 4-gram of texts [A, S, K, T] of A ways and S seeds."""
    every = np.concatenate([np.pad(np.lib.stride_tricks.sliding_window_view(texts, n, -1),
                                   [(0, 0)] * 4 + [(0, GRAMS[-1] - n)], constant_values=-1) for n in GRAMS], 3)
    codes = np.unique(every.reshape(-1, GRAMS[-1]), axis=0, return_inverse=True)[1]
    return codes.reshape(every.shape[:-1]).transpose(2, 0, 1, 3)


def apart(codes: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence [A] in nats from the first way's n-grams, over pairs of unlike seeds, so that exact
    samples have their own floor. With counts a, b of N each: ln 2 - sum(f(a + b) - f(a) - f(b)) / 2N, f(x) = x ln x."""
    codes = codes.astype(np.int64)
    size, (texts, ways, seeds, each) = codes.max() + 1, codes.shape
    counts = [[np.bincount(codes[:, a, s].ravel(), minlength=size) for s in range(seeds)] for a in range(ways)]
    numbers = np.arange(2 * texts * each + 1)
    f = numbers * np.log(np.maximum(numbers, 1))
    alike = [np.mean([(f[a[i] + counts[0][j]] - f[a[i]] - f[counts[0][j]]).sum()
                      for i, j in permutations(range(seeds), 2)]) for a in counts]
    return log(2) - np.array(alike) / (2 * texts * each)


@torch.inference_mode()
def both(adjust: Adjust, prompts: torch.Tensor, steps: int) -> np.ndarray:
    """KL [B, 2] of the layer and of unchanged guesses in the first round after each prompt."""
    empty = torch.cat([prompts, prompts.new_full((len(prompts), HOLE), adjust.trunk.mask_token_id)], 1)
    found = exact_round(adjust.trunk, empty, steps, Params().order,
                        torch.Generator().manual_seed(SEEDS[0]), adjust.forbidden, HOLE)
    masks = found.counts.flatten(0, 1).sum(1)
    return np.stack([(lesson(adjust.trunk, net, **found.lessons(), forbidden=adjust.forbidden).sum(1) / masks)
                     .reshape(steps - 1, -1).mean(0).cpu().numpy()
                     for net in (adjust.layer, JointSampler.beside(adjust.trunk).to(prompts.device))], 1)


# ---- rows of two coins that must differ: text-mdm-2 has never seen such pairs, and its own joint is not known in
# closed form, so this world has its own small network, trained here in seconds, and a layer taught by that network

def coins(count: int, generator: torch.Generator) -> torch.Tensor:
    """Legal texts [count, SIZE]: 0 heads, 1 tails; the two of a pair differ."""
    first = torch.randint(0, 2, (count, PAIRS, 1), generator=generator)
    return torch.cat([first, 1 - first], 2).flatten(1)


def illegal_pairs(ids: torch.Tensor) -> np.ndarray:
    """Percent of illegal pairs [B] in each text [B, SIZE]."""
    pairs = ids.unflatten(1, (PAIRS, 2))
    return (100 * (pairs[..., 0] == pairs[..., 1]).float().mean(1)).cpu().numpy()


def coin_trunk(steps: int, seed: int = 0) -> MaskedTransformer:
    """A masked network of this world, trained as LLaDA is: each text masked at its own rate."""
    torch.manual_seed(seed)
    model = MaskedTransformer(2, WIDTH, 2, 4, positions="2d", grid=(PAIRS, 2), absolute=True)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> torch.Tensor:
        ids, rate = coins(64, generator), torch.rand(64, 1, generator=generator).clamp_min(0.05)
        masked = torch.rand(ids.shape, generator=generator) < rate
        logits = model(torch.where(masked, model.mask_token_id, ids))
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
        return (each * masked.flatten()).sum() / masked.sum().clamp_min(1)

    return trained(model, loss, steps).requires_grad_(False)


def coin_layer(model: MaskedTransformer, steps: int, seed: int = 0) -> JointSampler:
    """ADJUST's layer for it, taught by exact rounds of the network itself, which begin where the last ones ended."""
    torch.manual_seed(seed)
    sampler, generator = JointSampler.beside(model), torch.Generator().manual_seed(seed)
    empty = ids = torch.full((24, SIZE), model.mask_token_id)

    def loss() -> torch.Tensor:
        nonlocal ids
        found = exact_round(model, ids, TOGETHER, "random", generator, most=SIZE)
        ids = found.end if bool((found.end == model.mask_token_id).any()) else empty
        return lesson(model, sampler, **found.lessons()).sum() / found.counts.sum()

    return trained(sampler, loss, steps).requires_grad_(False)


def trained(model, loss, steps: int):
    fitted(list(model.train().parameters()), loss, steps, 3e-3, clip=1.0, falling=True)
    return model.eval()


def coins_drawn(model, sampler, way: str, count: int, seed: int, order: str = "leftmost") -> torch.Tensor:
    """Texts [count, SIZE] by one sampler of the method; from the left both coins of a pair fall into one round."""
    plan = Plan(rounds(SIZE, TOGETHER, way), Adjust(model, sampler), order)
    return text_lab.continued(model, torch.zeros(count, 0, dtype=torch.long), SIZE, plan, seed)[-1].ids
