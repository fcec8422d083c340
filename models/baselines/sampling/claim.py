"""The baseline's claim: what is drawn is what was shown, and the shown probabilities can be taken at their word."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import kernels
from kernels import Sampler
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import (
    Budget,
    Claim,
    Metric,
    Quantity,
    at_least,
    at_most,
    close_to,
    conclude,
    context,
    ratio,
)
from models.engine.recording import distribution
from models.trace.percent import percent
from models.trace.subject import ASSETS

WINDOW, WARPERS = 512, Sampler(0.8, top_p=0.95)
NOMINAL, SHARP = (0.5, 0.9), 0.6
PLACES = 4  # of every text at which draws are compared with what is stored
CHECKPOINT = "text-ar-1"


def measure(lab: Lab) -> Claim:
    """Chi-square of draws against stored distributions; coverage of nuclei over held-out text."""
    gaps, spots = [], []
    for logits, truth in read_windows(lab.size(10_000, 3)):  # as many as the held-out books have
        gaps.append([coverage(*case).mean() for case in ((logits, truth, NOMINAL[0]), (logits, truth, NOMINAL[1]),
                                                         (logits / SHARP, truth, NOMINAL[1]))])
        spots.append(logits[:: len(logits) // PLACES])
    half, most, sharp = np.array(gaps).T  # [windows]: tokens of one text are not independent, texts are
    spots = torch.cat(spots)[: lab.size(100, 8)]  # five may all be sure of one token: no degree of freedom
    fit, wrong = (draws_fit(spots, lab.size(2000, 200), sharper) for sharper in (1.0, 1.1))
    metric = Metric("distance between what a top-0.9 nucleus holds of the text and what it promises", "of 1", "lower",
                    floor=NOMINAL[-1], ceiling=0.0)
    read = Budget(WINDOW // 2, "tokens of a held-out text")
    shown, sharpened = (metric.arm(name, np.abs(gap), budget=read, checkpoints=CHECKPOINT) for name, gap in
                        (("as shown", most), (f"sharpened to temperature {SHARP:g}", sharp)))
    return conclude(
        "sampling", paper="No paper: the baseline of the tab (top-p: arXiv 1904.09751).",
        here="Tokens are drawn from exactly the distribution that is stored and shown, and that distribution is "
             "calibrated on held-out books.",
        arms=(shown, sharpened), trainings=0, seeds=tuple(range(len(spots))),
        controls=[at_least(wrong, 1.2), at_most(promised(f"the same at temperature {SHARP:g}", sharp), -0.05)],
        expect=[close_to(fit, 1.0, within=0.1),
                *(close_to(promised(f"text inside the top-{nominal:g} nucleus, minus its mass", gap), 0, within=0.03)
                  for nominal, gap in zip(NOMINAL, (half, most)))],
        context=[context("held-out texts read", len(most), f"of {WINDOW} tokens", "all there are")])


def promised(name: str, gap: np.ndarray) -> Quantity:
    """A nucleus can hold nothing of the text, or all of it."""
    return Quantity(name, gap, "of 1", floor=-NOMINAL[-1], ceiling=1 - NOMINAL[0])


def draws_fit(logits: torch.Tensor, draws: int, sharper: float) -> Quantity:
    """Chi-square per degree of freedom over positions; sharper than 1: of a sampler that is wrong on purpose."""
    found = np.array([chi_square(one, draws, seed, sharper) for seed, one in enumerate(logits)])
    title = "draws against what is stored" if sharper == 1 else f"draws from logits {percent(sharper - 1)} larger"
    return ratio(found[:, 0], found[:, 1], f"chi-square per degree of freedom, {title}", "")


def held_out(windows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [K, V] and true next tokens [K] of some windows of held-out books."""
    return tuple(torch.cat(part) for part in zip(*read_windows(windows)))


def read_windows(count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits [256, V] and true next tokens [256] of at most `count` windows of held-out books, which do not overlap;
    each token has at least half a window before it."""
    bundle = load(CHECKPOINT)
    ids = bundle.tokenizer((ASSETS / "texts" / "heldout.txt").read_text(), add_special_tokens=False)["input_ids"]
    count = min(count, (len(ids) - 1) // WINDOW)
    for at in np.linspace(0, len(ids) - WINDOW - 1, count).astype(int):
        piece = torch.tensor([ids[at: at + WINDOW + 1]], device=bundle.model.device)
        with torch.inference_mode():
            logits = bundle.model(piece[:, :-1], use_cache=False).logits[0, WINDOW // 2:].float().cpu()
        yield logits, piece[0, 1 + WINDOW // 2:].cpu()


def chi_square(logits: torch.Tensor, draws: int, seed: int, sharper: float = 1.0) -> tuple[float, int]:
    """(statistic, degrees of freedom) against the stored fp16 logits; tokens expected under 5 times are pooled."""
    stored = torch.from_numpy(distribution(logits, 0, keep=True).logits.astype(np.float32))
    expected = kernels.warp(stored, WARPERS).softmax(-1)[0].double().numpy() * draws
    drawn = kernels.draw(kernels.warp(sharper * logits[None], WARPERS).expand(draws, -1), Sampler(),
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
