"""What ADJUST's claim measures on held-out stories: texts by every way of sampling, how likely they are, how far their
n-grams are from those of exact samples, and the KL of the layer's guesses from a full pass.
"""
from __future__ import annotations

from itertools import permutations
from math import log

import numpy as np
import torch

from kernels import Sampler
from models.claims import text_lab
from models.claims.harness import Arm, Budget, Metric
from models.loops.unmask.loop import Plan
from models.papers.joint_sampling import method as joint_sampling
from models.papers.joint_sampling.method import Adjust, rounds
from models.papers.joint_sampling.network import JointSampler, exact_round, lesson

SEEDS, CONTEXT, HOLE, LONGEST, GRAMS = (61, 62), 32, 32, 8, (2, 3, 4)
WAYS = {"exact": ("exact", 1), "ADJUST": ("adjust", 4), "marginal": ("marginal", 4), "marginal, 2": ("marginal", 2),
        "at once": ("marginal", HOLE)}  # sampler and tokens per full pass
NAMES = {"exact": "exact, one token per pass", "ADJUST": "ADJUST, 4 tokens per pass", "at once": "all tokens at once",
         "marginal": "independent, 4 tokens per pass", "marginal, 2": "independent, 2 tokens per pass"}


def continued(adjust: Adjust, prompts: torch.Tensor, way: str, seed: int) -> tuple[torch.Tensor, float]:
    """Texts [B, CONTEXT + HOLE] after the prompts at the method's defaults, and how many layers each went through."""
    p, (sampler, together) = joint_sampling.Params(), WAYS[way]
    plan = Plan(rounds(HOLE, together, sampler), adjust, p.order, sampler=Sampler(p.temperature))
    turns = text_lab.continued(adjust.trunk, prompts, HOLE, plan, seed)
    return turns[-1].ids, sum(turn.found.cost.rows for turn in turns) / turns[-1].ids.numel()


def arms(bundle, judge, drawn: dict) -> dict[str, Arm]:
    """Bits per character of every way, between all tokens at once and one full pass for each."""
    bits = {way: np.array([text_lab.surprise(judge, bundle, ids, CONTEXT) for ids, _ in runs])
            for way, runs in drawn.items()}
    metric = Metric("surprise of text-ar-1", "bits/char", "lower", bits["at once"].mean(0), bits["exact"].mean(0))
    return {way: metric.arm(NAMES[way], bits[way], budget=Budget(drawn[way][0][1], "layers run per text"), checkpoints=(
        (joint_sampling.LAYER, "text-mdm-1") if way == "ADJUST" else ("text-mdm-1",))) for way in WAYS}


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
    found = exact_round(adjust.trunk, empty, steps, joint_sampling.Params().order,
                        torch.Generator().manual_seed(SEEDS[0]), adjust.forbidden, HOLE)
    masks = found.counts.flatten(0, 1).sum(1)
    return np.stack([(lesson(adjust.trunk, net, **found.lessons(), forbidden=adjust.forbidden).sum(1) / masks)
                     .reshape(steps - 1, -1).mean(0).cpu().numpy()
                     for net in (adjust.layer, JointSampler.beside(adjust.trunk).to(prompts.device))], 1)
