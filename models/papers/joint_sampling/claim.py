"""ADJUST's claim, small: between independent draws and one full pass per token, one layer closes most of the gap.

(a) A world with a known joint (models/papers/joint_sampling/claim_pairs.py): share of illegal pairs. (b)
Continuations of held-out
stories with four tokens per full pass: how likely text-ar-1 finds them and how far their n-grams are from exact ones,
as a share of the gap between marginal and exact sampling. MAUVE of the paper needs a large encoder and is not computed;
the n-gram divergence stands in its place. (c) KL from a full pass on the new text, 1 to 7 tokens into a round, of the
layer and of guesses left unchanged. Every way uses the method's own order and temperature 1, and layer passes are paid
for: counted and timed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import torch

from kernels import Sampler
from models.baselines.mdm import method as mdm
from models.baselines.mdm.claim import passages
from models.checkpoints.store import load
from models.claims import Claim, Lab, Row, bootstrap, row
from models.loops.unmask.canvases import Board
from models.loops.unmask.loop import Plan, fill
from models.papers.joint_sampling import claim_pairs
from models.papers.joint_sampling import method as joint_sampling
from models.papers.joint_sampling.method import Adjust, gain, rounds

SEEDS = (61, 62, 63)
CONTEXT, HOLE, TOGETHER, LONGEST = 32, 32, 4, 8
WAYS = ("exact", "marginal", "adjust")
GRAMS = (2, 3, 4)
ASIDE = "one training of the layer"


def measure(lab: Lab) -> Claim:
    bundle, judge, layer = load("text-mdm-1"), load("text-ar-1"), load(joint_sampling.LAYER).model
    texts = passages(bundle.tokenizer, lab.size(32, 2))
    prompts = torch.tensor([text[:CONTEXT] for text in texts], device=bundle.device)
    forbidden = tuple(sorted({*bundle.tokenizer.all_special_ids, bundle.model.mask_token_id}))
    adjust, seeds = Adjust(bundle.model, layer, forbidden), SEEDS[: lab.size(3, 2)]
    rows = [*pairs_rows(lab), *story_rows(adjust, bundle, judge, prompts, seeds),
            *divergence_rows(adjust, prompts, lab.size(LONGEST, 3)), *cost_rows(adjust, prompts[:1], lab.size(7, 1))]
    held = [r.holds for r in rows if r.holds is not None]
    return Claim(
        "joint-sampling", "With four tokens per pass of Dream-7B, MAUVE 0.87 against 0.31 for independent draws, with "
        "respect to true joint sampling (arXiv 2509.22738).",
        "Illegal pairs at most 2 % where independent draws give half; at least 60 % of the gap to exact sampling "
        "closed on stories at four tokens per pass; the layer's KL less than half of that of unchanged guesses.",
        "share of illegal pairs; bits per character of text-ar-1; n-gram divergence in place of MAUVE; KL",
        "independent draws, as many full passes, same order and temperature",
        f"{len(texts)} held-out prompts x {len(seeds)} seeds, {HOLE} new tokens each; {ASIDE}", tuple(rows),
        "mixed" if any(held) else "does not hold",
        f"{sum(held)} of {len(held)} expectations met; {ASIDE}, so it cannot read 'holds'."
        + "".join(f" Not met: {r.name}." for r in rows if r.holds is False),
        "independent draws give the illegal half that arithmetic demands, exact sampling next to none", seeds)


def pairs_rows(lab: Lab) -> list[Row]:
    """(a) Percent of illegal pairs in the world of coins, four tokens per full pass."""
    trunk = claim_pairs.trunk(lab.size(300, 2))
    layer, found = claim_pairs.layer(trunk, lab.size(300, 2)), {}
    for way in WAYS:
        drawn = [claim_pairs.drawn(trunk, layer, way, lab.size(100, 4), seed) for seed in SEEDS]
        found[way] = claim_pairs.illegal(torch.cat(drawn))
    bounds = {"exact": (0, 1), "marginal": (45, 55), "adjust": (0, 2)}
    return [row(f"coins that must differ, {way}: illegal pairs", found[way], "%", expected=f"{low} to {high}",
                holds=bool(low <= found[way].mean() <= high)) for way, (low, high) in bounds.items()]


def continued(adjust: Adjust, prompts: torch.Tensor, way: str, seed: int) -> torch.Tensor:
    """Texts [B, CONTEXT + HOLE] after the prompts, by one way of sampling at the method's defaults."""
    p, mask = joint_sampling.Params(), adjust.trunk.mask_token_id
    start = torch.cat([prompts, prompts.new_full((len(prompts), HOLE), mask)], 1)
    plan = Plan(rounds(HOLE, TOGETHER, way), adjust, p.order, sampler=Sampler(p.temperature))
    *_, last = fill(start, mask, plan, torch.Generator().manual_seed(seed))
    return last.ids


def story_rows(adjust: Adjust, bundle, judge, prompts, seeds: Sequence[int]) -> list[Row]:
    """(b) Likelihood and n-gram divergence of the three ways, and the shares of their gaps that ADJUST closes."""
    texts = {way: [continued(adjust, prompts, way, seed) for seed in seeds] for way in WAYS}
    bits = {way: np.concatenate([read(bundle, judge, ids) for ids in texts[way]]) for way in WAYS}
    apart = {way: grams_apart(texts[way], texts["exact"]) for way in WAYS}
    return [*(row(f"stories, {way}", bits[way], "bits/char of text-ar-1") for way in WAYS),
            closed("stories: share of the likelihood gap closed", bits),
            *(row(f"stories, {way}: 2- to 4-gram divergence from exact samples", apart[way], "nats") for way in WAYS),
            closed("stories: share of the n-gram gap closed", apart)]


def read(bundle, judge, ids: torch.Tensor) -> np.ndarray:
    """Bits per character [B] of what follows the prompt."""
    mask = bundle.model.mask_token_id
    start = torch.cat([ids[:, :CONTEXT], torch.full_like(ids[:, CONTEXT:], mask)], 1)
    return np.array([mdm.bits(judge, bundle.tokenizer, Board(None, a[None], mask, str), b[None])
                     for a, b in zip(start, ids)])


def grams_apart(ours: list[torch.Tensor], exact: list[torch.Tensor]) -> np.ndarray:
    """Jensen-Shannon divergence [pairs of seeds] of n-grams, mean over n; other seeds only, so exact has its floor."""
    pairs = list(permutations(range(len(exact)), 2))
    return np.array([np.mean([jensen_shannon(grams(ours[i], n), grams(exact[j], n)) for n in GRAMS]) for i, j in pairs])


def grams(ids: torch.Tensor, n: int) -> Counter:
    new = ids[:, CONTEXT:].tolist()
    return Counter(tuple(text[at: at + n]) for text in new for at in range(len(text) - n + 1))


def jensen_shannon(a: Counter, b: Counter) -> float:
    """Divergence in nats of two counts: 0 for equal ones, ln 2 for disjoint ones."""
    keys = list(a | b)
    p, q = (np.array([c[key] for key in keys], float) / c.total() for c in (a, b))
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(sum(np.nansum(np.where(x > 0, x * np.log(x / middle), 0)) for x in (p, q)) / 2)


def closed(name: str, found: dict[str, np.ndarray]) -> Row:
    """(marginal - ADJUST) / (marginal - exact), resampled in pairs; no verdict where there is no clear gap."""
    table = np.stack([found[way] for way in WAYS], 1)  # [K, 3]: exact, marginal, adjust

    def share(rows: np.ndarray) -> float:
        exact, marginal, adjust = rows.mean(0)
        return float((marginal - adjust) / (marginal - exact)) if marginal != exact else 0.0

    value, low, high = bootstrap(table, statistic=share)
    clear = bootstrap(table[:, 1] - table[:, 0])[1] > 0
    return Row(name + ("" if clear else " (no clear gap)"), value, "of the gap", len(table), low, high, ">= 0.6",
               bool(value >= 0.6) if clear else None)


def divergence_rows(adjust: Adjust, prompts: torch.Tensor, steps: int) -> list[Row]:
    """(c) KL per masked position at 1 .. steps - 1 tokens into a round, of the layer and of unchanged guesses."""
    from models.papers.joint_sampling.network import JointSampler, exact_round, lesson
    empty = torch.cat([prompts, prompts.new_full((len(prompts), HOLE), adjust.trunk.mask_token_id)], 1)
    found = exact_round(adjust.trunk, empty, steps, joint_sampling.Params().order,
                        torch.Generator().manual_seed(SEEDS[0]), adjust.forbidden, HOLE)
    kl = {}
    for name, net in (("layer", adjust.layer), ("unchanged", JointSampler.beside(adjust.trunk).to(prompts.device))):
        with torch.inference_mode():
            each = lesson(adjust.trunk, net, **found.lessons(), forbidden=adjust.forbidden)
        kl[name] = (each.sum(1) / found.counts.flatten(0, 1).sum(1)).reshape(steps - 1, -1).cpu().numpy()  # [K - 1, B]
    both = np.stack([kl["layer"].mean(0), kl["unchanged"].mean(0)], 1)  # [B, 2]
    value, low, high = bootstrap(both, statistic=lambda rows: rows[:, 0].mean() / rows[:, 1].mean())
    ends = [row(f"KL from a full pass, {k} tokens into the round, {name}", kl[name][k - 1], "nats per mask")
            for k in (1, steps - 1) for name in kl]
    return [*ends, Row(f"KL of the layer over that of unchanged guesses, 1 to {steps - 1} tokens in", value, "x",
                       len(both), low, high, "< 0.5", bool(value < 0.5))]


def cost_rows(adjust: Adjust, prompt: torch.Tensor, times: int) -> list[Row]:
    """What layer passes cost: tokens per full pass's cost by the count of layers, and a whole text by the clock."""
    taken = {way: [] for way in WAYS}
    for _ in range(times + 1):  # interleaved; the first one warms up
        for way in WAYS:
            began = time.perf_counter()
            continued(adjust, prompt, way, SEEDS[0])
            taken[way].append(time.perf_counter() - began)
    fast = {way: np.array(taken["exact"][1:]) / np.array(taken[way][1:]) for way in WAYS}
    return [Row("tokens per cost of a full pass, K D / (D + K)", gain(TOGETHER, len(adjust.trunk.layers)), "", 1),
            *(row(f"one text, {way}: speed against exact", fast[way], "x, measured") for way in ("adjust", "marginal"))]
