"""The baseline's claim: what is drawn is what was shown, and the shown probabilities can be taken at their word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

import kernels
from kernels import Sampler
from models.checkpoints import load
from models.claims import Claim, Lab, Row, bootstrap, row
from models.sample.page import describe
from models.subject import ASSETS

WINDOW, WARPERS = 512, Sampler(0.8, top_p=0.95)
NOMINAL = (0.5, 0.9)


def measure(lab: Lab) -> Claim:
    """Chi-square of draws against stored distributions; coverage of nuclei over held-out text."""
    logits, truth = held_out(lab.size(24, 1))
    places = np.linspace(0, len(logits) - 1, lab.size(100, 5)).astype(int)
    fit = np.array([chi_square(logits[at], lab.size(2000, 200), seed) for seed, at in enumerate(places)])
    value, low, high = bootstrap(fit, statistic=lambda pairs: pairs[:, 0].sum() / max(1.0, pairs[:, 1].sum()))
    rows = [Row("chi-square per degree of freedom, draws against what is stored", value, "", len(fit), low, high,
                "1 within the interval", bool(low <= 1 <= high))]
    for nominal in NOMINAL:
        gap = coverage(logits, truth, nominal)
        found = row(f"true token inside the top-{nominal:g} nucleus, minus the nucleus's own mass", gap, "of 1",
                    expected="within 0.03 of 0")
        rows.append(as_judged(found, abs(found.value) < 0.03))
    control = row("the same at temperature 0.6, nucleus 0.9 (control)", coverage(logits / 0.6, truth, 0.9), "of 1",
                  expected="below -0.05: overconfident")
    rows.append(as_judged(control, control.value < -0.05))
    good = all(r.holds for r in rows)
    return Claim(
        method="sampling", paper="No paper: the baseline of the tab (top-p: arXiv 1904.09751).",
        here="Tokens are drawn from exactly the distribution that is stored and shown, and that distribution is "
             "calibrated on held-out books.",
        metric="chi-square per degree of freedom; coverage of nuclei", baseline="temperature 0.6",
        budget=f"{len(truth):,} held-out tokens", rows=tuple(rows), verdict="holds" if good else "mixed",
        reason="Draws fit the stored probabilities and nuclei cover as much text as they promise." if good
        else "One of the rows is outside what was expected.",
        control="Sharpened to temperature 0.6, the same nuclei cover visibly less than they promise.",
        seeds=tuple(range(len(fit))))


def held_out(windows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [K, V] and true next tokens [K] over windows of held-out books, each token with at least half a window."""
    bundle = load("text-ar-1")
    ids = bundle.tokenizer((ASSETS / "texts" / "heldout.txt").read_text(), add_special_tokens=False)["input_ids"]
    logits, truth = [], []
    for at in np.linspace(0, len(ids) - WINDOW - 1, windows).astype(int):
        piece = torch.tensor([ids[at: at + WINDOW + 1]], device=bundle.model.device)
        with torch.inference_mode():
            logits.append(bundle.model(piece[:, :-1], use_cache=False).logits[0, WINDOW // 2:].float().cpu())
        truth.append(piece[0, 1 + WINDOW // 2:].cpu())
    return torch.cat(logits), torch.cat(truth)


def chi_square(logits: torch.Tensor, draws: int, seed: int) -> tuple[float, int]:
    """(statistic, degrees of freedom) against the stored fp16 logits; tokens expected under 5 times are pooled."""
    stored = torch.from_numpy(describe(logits[None], [0], keep=True).logits.astype(np.float32))
    expected = kernels.warp(stored, WARPERS).softmax(-1)[0].double().numpy() * draws
    drawn = kernels.draw(kernels.warp(logits[None], WARPERS).expand(draws, -1), Sampler(),
                         torch.Generator().manual_seed(seed))
    seen, often = np.bincount(drawn.numpy(), minlength=len(expected)), expected >= 5
    seen = np.append(seen[often], seen[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    if expected[-1] < 5:  # too thin to count on its own
        seen, expected = np.append(seen[:-2], seen[-2:].sum()), np.append(expected[:-2], expected[-2:].sum())
    return float(((seen - expected) ** 2 / expected).sum()), len(expected) - 1


def coverage(logits: torch.Tensor, truth: torch.Tensor, nominal: float) -> np.ndarray:
    """For each position [K]: whether the true token is in the nucleus, minus the nucleus's probability."""
    inside = ~kernels.warp(logits, Sampler(top_p=nominal)).isneginf()
    mass = (logits.softmax(-1) * inside).sum(-1)
    return (inside.gather(-1, truth[:, None])[:, 0].float() - mass).numpy()


def as_judged(found: Row, holds: bool) -> Row:
    return replace(found, holds=bool(holds))
