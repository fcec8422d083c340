"""HPM's claim, small: difficulty is predicted, and mined masks are harder exams. What it does for features is context:
the two networks were trained under unlike schedules."""

from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, Quantity, at_least, better, conclude, context
from models.claims.probe import TRAIN, held_out, in_batches, ridge
from models.loops.mask import photos
from models.papers.hpm.method import MASKS
from models.papers.hpm.trials import by_trial, correlations, errors, mined

SEEDS, RATIO = (0, 1, 2), 0.75
HIDDEN = 16  # random masks in which the predictor ranks what it does not see


def measure(lab: Lab) -> Claim:
    """Rank correlations with the true difficulty, errors under mined and random masks, and a linear probe."""
    model = load("photo-hpm-1").model
    pixels = held_out(lab, lab.size(1000, 24))[0]
    scores, variance = in_batches(model.difficulty, pixels), model.patchify(pixels).var(-1)
    true, random = by_trial(model, pixels, MASKS, RATIO)
    order = Metric("rank correlation with the true difficulty", "rho", floor=0.0, ceiling=1.0)
    free = Budget(MASKS, "masks behind the truth")
    predicted = order.arm("predicted", correlations(scores, true), budget=free, checkpoints="photo-hpm-1")
    plain = order.arm("patch variance", correlations(variance, true), budget=free)
    hidden = zip(("predicted", "patch variance"), on_hidden(model, pixels, variance))
    asked, asked_plain = (order.arm(f"{name}, hidden patches alone", found, budget=free) for name, found in hidden)
    exam = Metric("error of the hidden patches, same network", "squared normalised pixels", "higher",
                  floor=random.numpy())
    seen = Budget(64 - photos.masked_count(64, RATIO), "visible patches")
    hard, hardest, varied, chance = (
        exam.arm(f"masks {name}", np.asarray(values), budget=seen, checkpoints="photo-hpm-1") for name, values in (
            ("mined by the prediction", [mined(model, pixels, scores, RATIO, seed) for seed in SEEDS]),
            ("mined by the true error", mined(model, pixels, true.nan_to_num(), RATIO, 0)),
            ("mined by variance", mined(model, pixels, variance, RATIO, 0)), ("at random", random)))
    harder = Quantity("mined masks, error above random masks", np.stack([hard.scores, random], 1), "%",
                      lambda x: 100 * (x[:, 0].mean() / x[:, 1].mean() - 1), floor=0.0)
    return conclude(
        "hpm",
        paper="Hard patches mining (arXiv 2312.13714; reference README): ViT-B fine-tunes to 83.0 % after 200 epochs, "
              "0.8 points above MAE.",
        here="On held-out photos the teacher's scores order patches by their true error (rho at least 0.5, and 0.03 "
             "above patch variance; on hidden patches, the trained task, above variance too), and half-mined masks are "
             "at least 15 % harder than random ones for the same network.",
        arms=(predicted, plain, asked, asked_plain, hard, hardest, varied, chance), trainings=1, seeds=SEEDS,
        controls=[better(hardest, chance)],
        expect=[at_least(predicted, 0.5, bar="ours"), better(predicted, plain, least=0.03, bar="ours"),
                better(asked, asked_plain, bar="ours"), at_least(harder, 15, bar="ours"), better(hard, chance)],
        context=probes(lab),
        would_take="4,000 to 5,000 steps, one schedule for both arms, and an arm with random masks and the prediction "
                   "loss")


def on_hidden(model, pixels: torch.Tensor, variance: torch.Tensor) -> np.ndarray:
    """Rank correlations [2, K] of prediction and of variance with the error, among the patches that a mask hides: what
    the predictor is trained for. Means over HIDDEN masks."""
    dice, found = torch.Generator().manual_seed(11), []
    for _ in range(HIDDEN):
        noise = torch.rand(len(pixels), 64, generator=dice)
        error, mask = errors(model, pixels, noise, RATIO)
        scores = torch.cat([model.scored(part, some) for part, some in zip(pixels.split(100), noise.split(100))])
        true = torch.where(mask > 0, error, torch.nan)
        found.append([correlations(scores, true), correlations(variance, true)])
    return np.mean(found, 0)


def probes(lab: Lab) -> list:
    """Linear probes of both networks, shown and not judged."""
    learn, labels = held_out(lab, lab.size(1500, 60), TRAIN)
    check, truth = held_out(lab, lab.size(800, 24))
    why = "unlike schedules: MAE 500 + 500 warm steps (EMA 0.999), HPM 1,000 (teacher of at most 0.99)"
    return [context(f"linear probe of {name}", 100 * float(ridge(features(name, learn), labels, features(name, check),
                                                                truth).mean()), "% correct", why)
            for name in ("photo-mae-1", "photo-hpm-1")]


def features(name: str, pixels: torch.Tensor) -> np.ndarray:
    """Mean latent [K, D] of all patches, nothing hidden."""
    model = load(name).model
    return in_batches(lambda part: photos.encode(model, part, torch.zeros(len(part), 64), 0)[0][:, 1:].mean(1),
                      pixels).numpy()
