"""HPM's claim, small: difficulty is predicted, mined masks are harder exams, and what a probe makes of the features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.baselines.mae.claim import held_out
from models.checkpoints.store import load
from models.claims import Claim, Lab, Row, bootstrap, row
from models.claims.ridge import RIDGES, solve
from models.engine.statistics import spearman
from models.loops.mask import photos
from models.papers.hpm.method import MASKS

SEEDS, RATIO = (0, 1, 2), 0.75


def measure(lab: Lab) -> Claim:
    """Rank correlation with the true difficulty, error under mined and random masks, a linear probe of both arms."""
    model, count = load("photo-hpm-1").model, lab.size(200, 12)
    pixels = held_out(lab, count)[0]
    scores = torch.cat([model.difficulty(some) for some in pixels.split(100)])  # [K, L]
    true, random = difficulty(model, pixels)
    rho = np.array([spearman(s, t) for s, t in zip(scores.numpy(), true)])
    plain = np.array([spearman(v, t) for v, t in zip(model.patchify(pixels).var(-1).numpy(), true)])
    mined = np.mean([mined_error(model, pixels, scores, seed) for seed in SEEDS], 0)
    agree = row("rank correlation of predicted and true difficulty", rho, "rho")
    gain = row("the same minus patch variance's own correlation", rho - plain, "rho")
    harder = harder_by("error of mined masks above random masks, same network", mined, random)
    ceiling = harder_by("control: masks of the truly hardest patches above random masks",
                        oracle_error(model, pixels, true), random)
    rows = (judged(agree, agree.value >= 0.5, "at least 0.5"),
            judged(gain, gain.value >= 0.03 and gain.low > 0, "at least 0.03, interval above 0"),
            judged(harder, harder.value >= 15, "at least 15 %"),
            judged(ceiling, ceiling.low > 0, "interval above 0"), *probe(lab))
    good = [r.holds for r in rows[:3]]
    return Claim(
        method="hpm",
        paper="Hard patches mining (arXiv 2312.13714; reference README): ViT-B fine-tunes to 83.0 % after 200 epochs, "
              "0.8 points above MAE.",
        here="On held-out photos the teacher's scores order patches by their true error (rho at least 0.5, 0.03 above "
             "patch variance), and half-mined masks are at least 15 % harder than random ones for the same network. "
             "The probe compares one training run per arm and is reported without a verdict.",
        metric="Spearman's rho per photo; mean squared error of hidden patches, ImageNet-normalised pixels",
        baseline="patch pixel variance; random masks at the same ratio on the same network",
        budget=f"{count} photos, {MASKS} random masks each, mined masks from {len(SEEDS)} seeds, alpha 0.5", rows=rows,
        verdict="holds" if all(good) else "mixed" if any(good) else "does not hold",
        reason=reason(agree, gain, harder),
        control="Masks of the truly hardest patches show that the metric sees a harder exam.", seeds=SEEDS)


def reason(agree: Row, gain: Row, harder: Row) -> str:
    """What the three inference rows say, in one sentence."""
    order = "better" if gain.low > 0 else "less well" if gain.high < 0 else "no better"
    effect = "harder" if harder.low > 0 else "not clearly harder"
    return (f"The scores order patches (rho {agree.value:.2f}), {order} than patch variance does; mined masks are "
            f"{effect} ({harder.value:.0f} % where 15 % was expected); fine-tuning was not run.")


def difficulty(model, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """True difficulty [K, L] over MASKS random masks, and each photo's mean error [K] under them."""
    total, times = torch.zeros(len(pixels), 64), torch.zeros(len(pixels), 64)
    generator = torch.Generator().manual_seed(7)
    for _ in range(MASKS):
        error, mask = errors(model, pixels, torch.rand(len(pixels), 64, generator=generator))
        total, times = total + error * mask, times + mask
    return torch.where(times > 0, total / times, torch.nan).numpy(), (total.sum(1) / times.sum(1)).numpy()


def mined_error(model, pixels, scores, seed: int) -> np.ndarray:
    """Mean hidden-patch error [K] under HPM's masks at the end of its schedule."""
    from models.papers.hpm.network import hard_mask, hard_ratio
    noise, _ = hard_mask(scores, hard_ratio(1.0), RATIO, torch.Generator().manual_seed(seed))
    error, mask = errors(model, pixels, noise)
    return ((error * mask).sum(1) / mask.sum(1)).numpy()


def oracle_error(model, pixels, true: np.ndarray) -> np.ndarray:
    """The same, mined by the true difficulty: what no method may do, as a control."""
    return mined_error(model, pixels, torch.from_numpy(np.nan_to_num(true)), SEEDS[0])


def errors(model, pixels, noise) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-patch error and mask, both [K, L]."""
    found = []
    for some, places in zip(pixels.split(100), noise.split(100)):
        patches, mask = photos.rebuild(model, some, places, photos.masked_count(64, RATIO))
        found.append((photos.patch_error(patches, model.patchify(some)), mask))
    return tuple(torch.cat(part) for part in zip(*found))


def harder_by(name: str, mined, random) -> Row:
    """How far the mean error [K] under one kind of mask lies above another's, in percent, paired over photos."""
    value, low, high = bootstrap(np.stack([mined, random], 1),
                                 statistic=lambda x: 100 * (x[:, 0].mean() / x[:, 1].mean() - 1))
    return Row(name, value, "%", len(mined), low, high)


def judged(found: Row, holds: bool, expected: str) -> Row:
    return replace(found, holds=bool(holds), expected=expected)


def probe(lab: Lab) -> tuple[Row, ...]:
    """Ridge classifier on mean patch features: accuracy of both arms and their paired difference, one training each."""
    learn, labels = held_out(lab, lab.size(1500, 60), "photos64_train.parquet")
    check, truth = held_out(lab, lab.size(800, 20))
    right = {name: classify(load(name).model, learn, labels, check, truth) for name in ("photo-mae-1", "photo-hpm-1")}
    rows = [row(f"linear probe, {name}, one training run", 100 * hits, "% correct") for name, hits in right.items()]
    gap = 100 * (right["photo-hpm-1"] - right["photo-mae-1"])
    return (*rows, row("linear probe, HPM minus MAE, one training run each", gap, "points",
                       expected="+0.5 over three training seeds; only one was trained"))


def classify(model, learn, labels, check, truth) -> np.ndarray:
    """Hits [K] (0 or 1) on the check photos; the ridge is chosen on a fifth of the training photos."""
    x, y = features(model, learn), np.eye(50)[labels]
    cut = len(x) * 4 // 5
    scores = [np.mean((x[cut:] @ solve(x[:cut], y[:cut], ridge)).argmax(1) == labels[cut:]) for ridge in RIDGES]
    weights = solve(x, y, RIDGES[int(np.argmax(scores))])
    return ((features(model, check) @ weights).argmax(1) == truth).astype(np.float64)


def features(model, pixels) -> np.ndarray:
    """Mean latent of all patches, nothing masked, standardised per photo, with a constant: [K, D + 1]."""
    nothing = torch.zeros(1, 64)
    found = torch.cat([photos.encode(model, some, nothing.expand(len(some), -1), 0)[0][:, 1:].mean(1)
                       for some in pixels.split(200)]).double().numpy()
    found = (found - found.mean(1, keepdims=True)) / found.std(1, keepdims=True)
    return np.concatenate([found, np.ones((len(found), 1))], 1)
