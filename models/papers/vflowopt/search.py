"""The search of VFlowOpt's knobs: make the question's last state move as little as possible on calibration scenes.

    python -m models.papers.vflowopt.search        # writes vflowopt.json beside scene-vlm-1's weights

Bayesian optimisation with a Gaussian process (Matern 5/2, numpy) and expected improvement. The signal is a hidden
state, never an answer: calibration questions are only asked, and their scenes are not those of the claim.

Letters: E evaluations so far, C candidates, P knobs.
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims.picture_lab import EncodedScenes, Rule
from models.loops.prune import pictures
from models.papers.vflowopt.method import FILE, Knobs, plan
from models.trace.percent import percent
from models.worlds.questions import digest

TARGETS = (0.5, 0.25, 0.1)
SCENES, INITIAL, TRIES = 24, 12, 60  # calibration scenes; random evaluations, then proposed ones
CALIBRATION = 71_000  # seed of scenes; training and the claim draw others
OVERSPENT = 1.02  # a setting that spends more than this share of the budget counts 0
CANDIDATES = 2000
NOISE, LENGTHS = 1e-3, (0.15, 0.3, 0.6, 1.2)  # of the Gaussian process on the unit cube


class Search(NamedTuple):
    """The best knobs, their score, and every evaluation [E, P + 1] in order, the score last."""

    knobs: Knobs
    score: float
    trace: np.ndarray


def calibration(seed: int = 0, count: int = SCENES) -> EncodedScenes:
    """Scenes with questions of the kinds that the checkpoint answers; their answers are never looked at."""
    return EncodedScenes.of(count, seed=CALIBRATION + seed)


def box(kept: float, scenes: EncodedScenes) -> np.ndarray:
    """Least and greatest value [2, P] of each knob: the reference's bounds, in proportion to the budget and to a grid
    of 8 x 8 instead of 27 x 27."""
    peak = np.mean([float(seen.attention.mean(0).max() / seen.attention.mean()) for seen in scenes.views])
    side = scenes.views[0].grid[0]
    return np.array([[kept, 0.533, 0.5, side / 5, -1.0],
                     [min(1.5 * kept, 1.0), 1.0, max(min(8.0, 0.95 * peak), 0.6), float(side), 1.0]])


def inside(bounds: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Knobs [..., P] at points of the unit cube."""
    return bounds[0] + unit * (bounds[1] - bounds[0])


def flow(scenes: EncodedScenes, rule: Rule, kept: float) -> float:
    """F: mean cosine of the last state, full against pruned; 0 for a setting that spends more than the budget."""
    plans = [rule(number, seen) for number, seen in enumerate(scenes.views)]
    spent = np.mean([made.share(seen.layers, seen.count) for made, seen in zip(plans, scenes.views)])
    if spent > OVERSPENT * kept:
        return 0.0
    pruned = scenes.states(lambda number, seen: plans[number])
    return float(torch.cosine_similarity(scenes.full, pruned, dim=1).mean())


def search(score: Callable[[Knobs], float], bounds: np.ndarray, *, initial: int = INITIAL, tries: int = TRIES,
           seed: int = 42) -> Search:
    """Random evaluations, then those that promise the largest improvement."""
    rng = np.random.default_rng(seed)
    points, found = list(rng.random((initial, bounds.shape[1]))), []
    while len(found) < initial + tries:
        if len(points) == len(found):
            points.append(propose(np.array(points), np.array(found), rng))
        found.append(score(Knobs(*inside(bounds, points[len(found)]).tolist())))
    tried, best = np.column_stack([inside(bounds, np.array(points)), found]), int(np.argmax(found))
    return Search(Knobs(*tried[best, :-1].tolist()), found[best], tried)


def propose(points: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The point [P] of greatest expected improvement among random ones and neighbours of the best."""
    near = points[values.argmax()] + 0.1 * rng.standard_normal((CANDIDATES // 4, points.shape[1]))
    candidates = np.concatenate([rng.random((CANDIDATES, points.shape[1])), near.clip(0, 1)])
    values = (values - values.mean()) / (values.std() or 1.0)
    mean, deviation = fitted(points, values)(candidates)
    return candidates[improvement(mean, deviation, values.max()).argmax()]


def improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Expected improvement [C] over `best`."""
    z = (mean - best) / deviation
    below = torch.special.ndtr(torch.from_numpy(z)).numpy()
    return (mean - best) * below + deviation * np.exp(-z**2 / 2) / np.sqrt(2 * np.pi)


def fitted(points: np.ndarray, values: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The Gaussian process of unit variance through points [E, P] that makes the values [E] likeliest, of a few
    lengths: predict(at [C, P]) -> mean and standard deviation [C]."""
    return max((process(points, values, length) for length in LENGTHS), key=lambda found: found[0])[1]


def process(points: np.ndarray, values: np.ndarray, length: float):
    """Log-likelihood of the values, but for a constant, and `predict` of one length."""
    factor = np.linalg.cholesky(matern(points, points, length) + NOISE * np.eye(len(points)))
    weights = np.linalg.solve(factor.T, np.linalg.solve(factor, values))

    def predict(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        across = matern(at, points, length)
        explained = np.linalg.solve(factor, across.T)
        return across @ weights, np.sqrt(np.maximum(1 - (explained**2).sum(0), 1e-9))

    return -0.5 * values @ weights - np.log(np.diag(factor)).sum(), predict


def matern(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """Matern 5/2 covariance [A, B]."""
    d = np.sqrt(5) * np.linalg.norm(a[:, None] - b[None], axis=-1) / length
    return (1 + d + d**2 / 3) * np.exp(-d)


def found_for(scenes: EncodedScenes, kept: float, **options) -> Search:
    """The search for one budget."""
    return search(lambda knobs: flow(scenes, lambda number, seen: plan(seen, knobs, kept), kept), box(kept, scenes),
                  **options)


def main() -> None:
    bundle = load(pictures.CHECKPOINTS[0], dtype="float32")
    scenes, began, made = calibration(), time.perf_counter(), {}
    for kept in TARGETS:
        found = found_for(scenes, kept)
        knobs = {name: round(value, 6) for name, value in asdict(found.knobs).items()}
        made[str(round(100 * kept))] = {"knobs": knobs, "cosine": round(found.score, 6), "initial": INITIAL,
                                        "scenes": len(scenes.views), "trace": np.round(found.trace, 5).tolist()}
        print(f"{percent(kept)}: cosine {found.score:.4f} with {found.knobs}, {time.perf_counter() - began:.0f} s")
    record = {"revision": bundle.revision, "calibration": digest(scenes.cases), "settings": made}
    (bundle.folder / FILE).write_text(json.dumps(record) + "\n", "utf-8")


if __name__ == "__main__":
    main()
