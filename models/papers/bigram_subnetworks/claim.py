"""Bigram subnetworks' claim: what the mask's weights say alone, and what the model is without them.

Held-out books, windows of 128 tokens. Every comparison is with masks of equal size in every matrix: random ones, whose
weights are drawn anew for two seeds, and the largest weights, which is magnitude pruning. r is Pearson's, of surprisals
with those of the table of word pairs, over the pairs that the table knows; it is pooled over windows, which are what is
resampled.
"""
from __future__ import annotations

import numpy as np
import torch

from models.backbones import weight_masks
from models.checkpoints.store import load
from models.claims import Lab, text_lab
from models.claims.harness import Arm, Budget, Claim, Metric, Quantity, at_least, better, conclude, context
from models.papers.bigram_subnetworks.method import TABLE, TRUNK
from models.papers.bigram_subnetworks.network import surprisals
from models.papers.bigram_subnetworks.record import first_mlp, layer_of, shuffled

DENSE, SPARSE, SEEDS, LENGTH = "text-bigram-10-1", "text-bigram-100-1", (0, 1), 128
MASK, CHANCE, LARGE, NONE, ALL = "the mask's weights", "random weights", "the largest weights", "no weights", "all"


def measure(lab: Lab) -> Claim:
    trunk, bundle = load(TRUNK).model, load(DENSE)
    ids = torch.tensor(text_lab.windows(bundle.tokenizer, lab.size(160, 4), LENGTH))
    pairs = table_surprise(load(TABLE).model, ids)
    masks, sparse = weight_masks.found(bundle.model), weight_masks.found(load(SPARSE).model)
    alone, without = both_ways(trunk, masks, ids)
    few, fewer = both_ways(trunk, sparse, ids)
    spent = Budget(100 * weight_masks.kept(masks), "% of the blocks' weights left out")
    metric = Metric("surprise", "nats a token", "lower", alone[NONE].mean(1), alone[ALL].mean(1))
    harmed = {name: metric.arm(f"without {name}", found.mean(1), budget=spent, checkpoints=(TRUNK, DENSE))
              for name, found in without.items() if name != ALL}
    whole, empty = (metric.arm(title, alone[name].mean(1), budget=Budget(left, spent.unit), checkpoints=TRUNK)
                    for title, name, left in (("all weights", ALL, 0), ("without any", NONE, 100)))
    moved = by_shuffling(trunk, masks, ids[: lab.size(60, 4), :24])
    return conclude(
        "bigram-subnetworks", trainings=1, seeds=SEEDS, arms=[whole, *harmed.values(), empty],
        paper="Models of up to 1 billion parameters hold a part, below 0.2 % of them and mostly in the first MLP, "
              "that guesses the next word from the last one alone, and they need it; with about 10 million parameters "
              "it is surprised where word pairs are (correlation above 0.95; arXiv 2504.15471).",
        here="The mask's weights alone are surprised where the table of word pairs is (r at least 0.85, 0.1 above "
             "random and no weights) and look at nothing but the last token; without them the model loses a nat more "
             "than without as many random weights of every matrix; the first MLP has twice its share of them.",
        controls=[better(whole, empty, unmatched="what the weights of the blocks are worth at all")],
        expect=[better(harmed[CHANCE], harmed[MASK], least=1.0),
                at_least(r_of("r of the mask's weights alone", pairs, alone[MASK]), 0.85),
                at_least(r_of("r: the mask's minus random weights", pairs, alone[MASK], alone[CHANCE]), 0.1),
                at_least(r_of("r: the mask's minus no weights", pairs, alone[MASK], alone[NONE]), 0.1),
                at_least(first_share(masks), 2.0), better(moved[MASK], moved[ALL], least=10.0, unmatched="it has fewer "
                                                          "weights by intention")],
        context=[context("weights in the mask", 100 * weight_masks.kept(masks), "% of the blocks'", "a count"),
                 *(context(f"r of {name} alone", r_of("", pairs, alone[name])) for name in (ALL, CHANCE, LARGE, NONE)),
                 context("surprise, the largest minus random weights left out", without[LARGE].mean(1)
                         - without[CHANCE].mean(1), "nats a token", "magnitude pruning: another method"),
                 context("lambda 100: weights in the mask", 100 * weight_masks.kept(sparse), "% of the blocks'",
                         "a count"),
                 context("lambda 100: r of the mask's weights alone", r_of("", pairs, few[MASK])),
                 context("lambda 100: surprise, the mask's minus random weights left out",
                         fewer[MASK].mean(1) - fewer[CHANCE].mean(1), "nats a token"),
                 context("lambda 100: first MLP, share of the mask over share of all weights",
                         np.divide(*first_mlp(sparse)), "x", "a count")])


@torch.no_grad()
def surprise(trunk, masks, ids: torch.Tensor) -> np.ndarray:
    """Nats [K, N - 1] of the trunk with only these weights."""
    model = weight_masks.partial(trunk, masks)
    return np.concatenate([surprisals(model(some, use_cache=False).logits[:, :-1].float().log_softmax(-1), some).numpy()
                           for some in ids.split(16)])


def table_surprise(table, ids: torch.Tensor) -> np.ndarray:
    """Nats [K, N - 1]; infinite where the books have not the pair."""
    return torch.stack([surprisals(table(row[:-1]).log()[None], row[None])[0] for row in ids]).numpy()


def both_ways(trunk, masks, ids: torch.Tensor) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Surprisals of each kind of weights alone, and of the model without them, of random ones the mean of two draws."""
    chances = [weight_masks.permuted(masks, torch.Generator().manual_seed(seed)) for seed in SEEDS]
    none = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    kinds = {MASK: [masks], CHANCE: chances, LARGE: [weight_masks.largest(trunk, masks)], NONE: [none], ALL: [{}]}
    alone = {kind: surprise(trunk, some[0], ids) for kind, some in kinds.items()}
    without = {kind: np.mean([surprise(trunk, weight_masks.inverted(one), ids) for one in kinds[kind]], 0)
               for kind in (MASK, CHANCE, LARGE)}
    return alone, without


def r_of(name: str, pairs: np.ndarray, *sides: np.ndarray) -> Quantity:
    """Pearson's r with the table over all tokens of the windows; of two sides, the first's minus the second's."""
    def found(rows: np.ndarray) -> float:
        first, *second = (pearson(part) for part in np.split(rows.sum(0), len(sides)))
        return float(first - sum(second))
    most = float(len(sides))
    return Quantity(name, np.concatenate([sums(pairs, side) for side in sides], 1), "correlation", found, -most, most)


def sums(pairs: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """What a correlation needs of every window [K, 6]: count, both sums, both squares, the product."""
    known = np.isfinite(pairs)
    x, y = np.where(known, pairs, 0).astype(np.float64), np.where(known, mine, 0).astype(np.float64)
    return np.stack([known.sum(1), x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)], 1)


def pearson(found: np.ndarray) -> float:
    count, x, y, xx, yy, xy = found
    return (xy - x * y / count) / np.sqrt((xx - x * x / count) * (yy - y * y / count))


def first_share(masks: weight_masks.Masks) -> Quantity:
    """The first MLP's share of the mask over its share of all weights; the rows of the matrices are resampled."""
    rows = [np.stack([mask.sum(1), np.full(len(mask), mask.shape[1]),
                      np.full(len(mask), layer_of(name) == 0 and "mlp" in name)], 1) for name, mask in masks.items()]

    def times(found: np.ndarray) -> float:
        kept, size, first = found.T
        return float((kept * first).sum() / kept.sum() / ((size * first).sum() / size.sum()))
    return Quantity("first MLP: share of the mask over share of all weights", np.concatenate(rows), "x", times, 0.0)


def by_shuffling(trunk, masks, ids: torch.Tensor) -> dict[str, Arm]:
    """Percent [K] of the next-token probability that moves when all but the last token change places."""
    metric = Metric("moved by shuffling the words before", "% of the probability", "lower", 100.0, 0.0)
    two = {MASK: weight_masks.partial(trunk, masks), ALL: trunk}
    found = [shuffled(two, row.tolist(), torch.Generator().manual_seed(SEEDS[0])) for row in ids]
    return {name: metric.arm(name, np.array([100 * one[name].mean() for one in found]),
                             budget=Budget(1, "calls"), checkpoints=(TRUNK, DENSE)) for name in two}
