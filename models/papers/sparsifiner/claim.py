"""Sparsifiner's claim, small: what a predicted quarter of the pairs costs in accuracy, keeps in attention, and takes.

One training: predictors on photo-vit-1, then the trunk under their masks; the control was trained densely for as many
steps. Other masks are not trained. Multiply-adds at 257 tokens are counted, no network of that size was trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from models.baselines.vit import method as vit
from models.checkpoints.store import load
from models.claims import Claim, Lab, Row, bootstrap, row
from models.claims.probe import VAL, held_out
from models.papers.sparsifiner import network as net
from models.papers.sparsifiner.method import DENSE, LARGE, PREDICTORS, SPARSE
from models.papers.sparsifiner.record import Work, work

KEEP, FEW, TOKENS, SEEDS = 0.25, 0.05, 0.7, (0, 1, 2)


def measure(lab: Lab) -> Claim:
    """Accuracy with and without masks, before and after phase 2; mass kept; the price, counted and timed."""
    plain, sparse, dense, guess = (load(name).model for name in (vit.CHECKPOINT, SPARSE, DENSE, PREDICTORS))
    pixels, truth = held_out(lab, lab.size(2463, 8), VAL)
    few = pixels[: lab.size(500, 8)]
    learned = net.chosen(guess.learned(), KEEP)
    after, control = hits(sparse, pixels, truth, learned), hits(dense, pixels, truth)
    rows = (
        row("accuracy with masks", after, "% correct"),
        row("control, trained as long, all pairs", control, "% correct"),
        at_least("with masks minus control", after - control, -1, "points"),
        *before(plain, guess, pixels, truth),
        *scarce(sparse, guess, pixels[: lab.size(1000, 8)], truth),
        *kept_mass(sparse, guess, few),
        *leaving(sparse, dense, pixels, truth, learned),
        *counts(guess),
        *times(sparse, learned, few, lab))
    good = [found.holds for found in rows if found.holds is not None]
    return Claim(
        method="sparsifiner",
        paper="Sparsifiner (arXiv 2303.13755): attention on predicted pairs alone takes 48 to 69 % fewer multiply-adds "
              "at an accuracy within 0.4 points of dense attention; with token pruning over 60 % of the whole network.",
        here="50 classes of 64 x 64 photos, 17 of 65 keys per patch: at most 1 point below a control trained as long "
             "with all pairs; at least 0.8 of the attention that the best 17 keys hold; before phase 2 at least 3 "
             "points above random and 1 above nearest keys; at 257 tokens at most 0.6 of dense attention's "
             "multiply-adds, the predictor included (counted, that size was not trained).",
        metric="share of photos classified right; dense attention on kept keys; multiply-adds; time",
        baseline="photo-sparsifiner-dense-1: same start, teacher, photos and steps, no mask",
        budget=f"{len(pixels)} photos for accuracy, {len(few)} for attention; one training: {steps()}; random masks "
               f"drawn with {len(SEEDS)} seeds",
        rows=rows, verdict="mixed" if any(good) else "does not hold", reason=reason(rows),
        control="The oracle's keys, of the same number, keep most of the attention; with 4 keys instead of 17 the same "
                "accuracy tells the kinds of masks apart.", seeds=SEEDS)


def steps() -> str:
    return ", ".join(f"{load(name).card.get('steps', '?')} steps of {name}" for name in (PREDICTORS, SPARSE, DENSE))


def reason(rows: tuple[Row, ...]) -> str:
    judged = [found for found in rows if found.holds is not None]
    missed = "".join(f" Not met: {found.name}." for found in judged if not found.holds)
    return (f"{sum(found.holds for found in judged)} of {len(judged)} expectations met; one training, so it cannot "
            f"read 'holds'.{missed}")


def hits(model, pixels: Tensor, truth: np.ndarray, keys: net.Keys | None = None, tokens: float = 1.0) -> np.ndarray:
    """Percent right [K], 0 or 100 each."""
    with torch.no_grad():
        last = torch.cat([net.states(model, part, keys, tokens=tokens)[-1][:, 0] for part in pixels.split(100)])
        found = model.classifier(model.vit.layernorm(last)).argmax(1).numpy()
    return 100.0 * (found == truth)


def at_least(name: str, values: np.ndarray, bound: float, unit: str) -> Row:
    found = row(name, values, unit)
    return Row(name, found.value, unit, found.n, found.low, found.high, f"at least {bound:g}", found.value >= bound)


def before(plain, guess, pixels: Tensor, truth: np.ndarray) -> tuple[Row, ...]:
    """The untouched trunk under each kind of mask: nothing has adapted to any of them."""
    def under(kind: str, seed: int = 0) -> np.ndarray:
        score = net.score_of(kind, guess, torch.Generator().manual_seed(seed))
        return hits(plain, pixels, truth, net.chosen(score, KEEP))

    found = {kind: under(kind) for kind in ("learned", "oracle", "window")}
    found["random"] = np.mean([under("random", seed) for seed in SEEDS], 0)
    named = {"learned": "predicted", "oracle": "the oracle's", "window": "nearest", "random": "random"}
    return (row("before phase 2: all pairs", hits(plain, pixels, truth), "% correct"),
            *(row(f"before phase 2: {named[kind]} keys", values, "% correct") for kind, values in found.items()),
            at_least("before phase 2: predicted minus random keys", found["learned"] - found["random"], 3, "points"),
            at_least("before phase 2: predicted minus nearest keys", found["learned"] - found["window"], 1, "points"))


def scarce(model, guess, pixels: Tensor, truth: np.ndarray) -> tuple[Row, Row]:
    """Predicted keys against others where few are left, in the trained network: what accuracy can see at all."""
    found = {kind: hits(model, pixels, truth[: len(pixels)], net.chosen(
        net.score_of(kind, guess, torch.Generator().manual_seed(0)), FEW)) for kind in ("learned", "window", "random")}
    name = f"{FEW:.0%} of the keys, trained at 25 %: predicted minus"
    return (row(f"{name} nearest keys", found["learned"] - found["window"], "points"),
            row(f"{name} random keys", found["learned"] - found["random"], "points"))


def kept_mass(model, guess, pixels: Tensor) -> tuple[Row, ...]:
    """Dense attention on kept keys [K] of the trained network, and its ratio to the oracle's."""
    found = np.concatenate([mass(model, guess, part) for part in pixels.split(100)])  # [K, 3]
    value, low, high = bootstrap(found, statistic=lambda x: x[:, 0].mean() / x[:, 1].mean())
    return (row("dense attention on predicted keys", found[:, 0], "of 1"),
            row("on as many best keys", found[:, 1], "of 1"), row("on as many random keys", found[:, 2], "of 1"),
            Row("predicted over best", value, "ratio", len(found), low, high, "at least 0.8", value >= 0.8))


def mass(model, guess, pixels: Tensor) -> np.ndarray:
    """Dense attention of patches [K, 3] on predicted, best and random keys, in the masked pass, mean over layers."""
    dice, found = net.dice(torch.Generator().manual_seed(0)), []
    learned = net.chosen(guess.learned(), KEEP)

    def keys(layer: int, q: Tensor, k: Tensor, alive=None) -> Tensor:
        dense, own = net.probabilities(q, k)[:, :, 1:], learned(layer, q, k)
        kept = (own, net.chosen(net.oracle, KEEP)(layer, q, k), net.chosen(dice, KEEP)(layer, q, k))
        found.append(torch.stack([dense.gather(-1, one).sum(-1).mean((1, 2)) for one in kept], 1))
        return own

    with torch.no_grad():
        net.states(model, pixels, keys)
    return torch.stack(found).mean(0).numpy()


def leaving(sparse, dense, pixels: Tensor, truth: np.ndarray, learned) -> tuple[Row, Row]:
    """Patches leave at three layers by the class token's attention, in both networks; neither was trained for it."""
    name = f"{TOKENS:.0%} of the patches stay at each of three layers"
    return (row(f"{name}, with masks", hits(sparse, pixels, truth, learned, TOKENS), "% correct"),
            row(f"{name}, all pairs", hits(dense, pixels, truth, tokens=TOKENS), "% correct"))


def counts(guess) -> tuple[Row, Row]:
    """Multiply-adds of attention between the projections, predictor included, over those of dense attention."""
    own = guess.layers[0]
    tokens, maps = own.down.shape
    filled = float(np.mean([(one.maps() > 0).float().mean() for one in guess.layers]))

    def price(tokens: int, maps: int, top: int) -> Work:
        return work(tokens, own.q_proj.in_features, net.budget(KEEP, tokens), maps, top, filled * tokens, 1)

    small, large = price(tokens, maps, net.TOP), price(*LARGE)
    return (Row(f"multiply-adds of attention at {tokens} tokens (predictor alone {small.predictor / small.dense:.2f})",
                small.share, "of dense", 1),
            Row(f"multiply-adds of attention at {LARGE[0]} tokens, counted, not trained (predictor alone "
                f"{large.predictor / large.dense:.2f})", large.share, "of dense", 1, expected="at most 0.6",
                holds=large.share <= 0.6))


def times(model, learned, pixels: Tensor, lab: Lab) -> tuple[Row, ...]:
    """Time of the kept pairs alone and of masked dense attention over that of dense attention, in turns."""
    rounds, batch = lab.size(15, 3), pixels[:16]
    ways: dict[str, Callable] = {
        "dense": lambda: net.states(model, batch), "masked": lambda: net.states(model, batch, learned),
        "gathered": lambda: net.states(model, batch, learned, net.gathered)}
    far = lab.size(1025, 129)
    q, keys = torch.randn(1, 3, far, 64), torch.rand(1, 3, far - 1, far).topk(net.budget(KEEP, far), -1).indices
    attention = SimpleNamespace(scaling=0.125, config=model.config)
    alone: dict[str, Callable] = {"dense": lambda: net.masked(attention, q, q, q, None),
                                  "gathered": lambda: net.gathered(attention, q, q, q, keys)}
    here, there = interleaved(ways, rounds), interleaved(alone, rounds)
    return (ratio("time of a pass, kept pairs gathered", here["gathered"] / here["dense"]),
            ratio("time of a pass, masked", here["masked"] / here["dense"]),
            ratio(f"time of attention alone at {far} tokens, gathered, without a predictor",
                  there["gathered"] / there["dense"]))


def interleaved(ways: dict[str, Callable], rounds: int) -> dict[str, np.ndarray]:
    """Seconds [rounds] of every way, each round running all of them once; a first round is not counted."""
    found = {name: [] for name in ways}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                found[name].append(time.perf_counter() - began)
    return {name: np.array(values[1:]) for name, values in found.items()}


def ratio(name: str, values: np.ndarray) -> Row:
    """The median over rounds with its interval."""
    value, low, high = bootstrap(values, statistic=np.median)
    return Row(name, value, "x dense", len(values), low, high)
