"""HPM's claim, small: difficulty is predicted, and mined masks are harder exams. What it does for features is context:
the two networks were trained under unlike schedules."""

from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, Quantity, at_least, better, conclude, context
from models.claims.probe import held_out, in_batches, linear
from models.engine.statistics import spearman_rows
from models.loops.mask import photos
from models.papers.hpm.method import hard_mask, hard_ratio, true_difficulty

SEEDS, RATIO = (0, 1, 2), 0.75
MASKS = 16  # random masks behind the truth, and as many in which the predictor ranks what it does not see
N_MASK = photos.masked_count(64, RATIO)


def measure(lab: Lab) -> Claim:
    """Rank correlations with the true difficulty, errors under mined and random masks, and a linear probe."""
    model = load("photo-hpm-1").model
    pixels, classes = held_out(lab, lab.size(1000, 24))
    scores, variance = in_batches(model.difficulty, pixels), model.patchify(pixels).var(-1)
    true, random = true_difficulty(model, pixels, RATIO, torch.Generator().manual_seed(7), masks=MASKS)
    order = Metric("rank correlation with the true difficulty", "rho", floor=0.0, ceiling=1.0)
    free = Budget(MASKS, "masks behind the truth")
    predicted = order.arm("predicted", spearman_rows(scores, true), budget=free, checkpoints="photo-hpm-1")
    plain = order.arm("patch variance", spearman_rows(variance, true), budget=free)
    hidden = zip(("predicted", "patch variance"), on_hidden(model, pixels, variance))
    asked, asked_plain = (order.arm(f"{name}, hidden patches alone", found, budget=free) for name, found in hidden)
    exam = Metric("error of the hidden patches, same network", "squared normalised pixels", "higher",
                  floor=random.numpy())
    seen = Budget(64 - N_MASK, "visible patches")
    hard, hardest, varied, chance = (
        exam.arm(f"masks {name}", np.asarray(values), budget=seen, checkpoints="photo-hpm-1") for name, values in (
            ("mined by the prediction", [mined(model, pixels, scores, seed) for seed in SEEDS]),
            ("mined by the true error", mined(model, pixels, true.nan_to_num(), 0)),
            ("mined by variance", mined(model, pixels, variance, 0)), ("at random", random)))
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
        context=probes(lab, pixels[:800], classes[:800]),
        would_take="4,000 to 5,000 steps, one schedule for both arms, and an arm with random masks and the prediction "
                   "loss")


def mined(model, pixels: torch.Tensor, scores: torch.Tensor, seed: int) -> np.ndarray:
    """Mean error [K] of the hidden patches under HPM's masks at the end of its schedule, mined by scores [K, L]."""
    noise, _ = hard_mask(scores, hard_ratio(1.0), RATIO, torch.Generator().manual_seed(seed))
    return photos.hidden_mean(*photos.errors(model, pixels, noise, N_MASK)).numpy()


def on_hidden(model, pixels: torch.Tensor, variance: torch.Tensor) -> np.ndarray:
    """Rank correlations [2, K] of prediction and of variance with the error, among the patches that a mask hides: what
    the predictor is trained for. Means over MASKS masks."""
    dice, found = torch.Generator().manual_seed(11), []
    for _ in range(MASKS):
        noise = torch.rand(len(pixels), 64, generator=dice)
        error, mask = photos.errors(model, pixels, noise, N_MASK)
        scores = torch.cat([model.scored(part, some) for part, some in zip(pixels.split(100), noise.split(100))])
        true = torch.where(mask > 0, error, torch.nan)
        found.append([spearman_rows(scores, true), spearman_rows(variance, true)])
    return np.mean(found, 0)


def probes(lab: Lab, pixels: torch.Tensor, truth: np.ndarray) -> list:
    """Linear probes of both networks' mean latents, nothing hidden; shown and not judged."""
    models = {name: load(name).model for name in ("photo-mae-1", "photo-hpm-1")}
    found = linear(lab, {name: lambda part, model=model: photos.encode_whole(model, part)[:, 1:].mean(1)
                         for name, model in models.items()}, lab.size(1500, 60), pixels, truth)
    why = "unlike schedules: MAE 500 + 500 warm steps (EMA 0.999), HPM 1,000 (teacher of at most 0.99)"
    return [context(f"linear probe of {name}", float(hits.mean()), "% correct", why) for name, hits in found.items()]
