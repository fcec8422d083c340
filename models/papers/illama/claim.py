"""iLLaMA's claim, small: where the class token stands decides whether anything is learned; what the soft mask leaves.

Arms: 0 photo-vit-1, 1 class token first, 3 class token last with the soft mask; one training each, equal steps for 0
and 3. Arms 2 (hard mask from the first step) and 4 (renormalised rows) were not trained.
"""

from __future__ import annotations

import numpy as np
import torch

from models.baselines.mae.claim import held_out
from models.baselines.vit import method as vit
from models.baselines.vit.claim import VAL, correct, judged
from models.checkpoints.store import load
from models.claims import Claim, Lab, Row, row
from models.loops.attend.classifiers import look, ranks
from models.papers.illama.method import FIRST, LAST, arm_of

CHANCE = 2.0  # percent, of 50 classes


def measure(lab: Lab) -> Claim:
    """Collapse in both conventions, accuracy of the arms, effective rank of their maps, and what leaks."""
    plain, first, last = (load(name).model for name in (vit.CHECKPOINT, FIRST, LAST))
    pixels, truth = held_out(lab, lab.size(2463, 8), VAL)
    hits = {name: 100 * correct(model, pixels, truth) for name, model in
            (("0, ViT", plain), ("1, class token first", first), ("3, class token last, soft mask", last))}
    vit_hits, first_hits, last_hits = hits.values()
    open_hits = 100 * correct(last, pixels, truth, softness=1.0)
    few = pixels[: lab.size(200, 4)]
    rows = (
        *(row(f"accuracy, arm {name}", found, "% correct") for name, found in hits.items()),
        exact_collapse(first, few),
        near_chance(first_hits),
        judged(row("class token last minus first, trained 4.5 times as long", last_hits - first_hits, "points"),
               "interval above 0"),
        no_worse(row("arm 3 minus arm 0", last_hits - vit_hits, "points")),
        rank_row(few, plain, last),
        *leaks(last, few),
        judged(row("mask off at test (a = 1): points lost", last_hits - open_hits, "points"), "interval above 0"))
    good = [found.holds for found in rows if found.holds is not None]
    return Claim(
        method="illama",
        paper="iLLaMA (arXiv 2404.06773): a causal LLaMA-style decoder reaches 75.1 % on ImageNet with 5.7 M "
              "parameters once the class token stands last and the causal mask comes in softly; causal attention "
              "raises the rank of attention maps.",
        here="50 classes of 64 x 64 photos. Class token first: identical logits for every photo when rows are "
             "renormalised, within twice chance as trained. Class token last: at most 2 points below a ViT of equal "
             "steps, maps of higher effective rank in two thirds of the layers, and a measurable leak through the "
             "softmax denominators. Soft against hard mask (arm 2) was not trained.",
        metric="share of photos classified right; effective rank of a map; largest change of a state or logit",
        baseline="photo-vit-1, same photos, start and steps; chance is 2 %",
        budget=f"{len(pixels)} photos for accuracy, {len(few)} for maps and leaks; one training per arm: {steps()}",
        rows=rows,
        verdict="mixed" if any(good) else "does not hold",
        reason=reason(rows, float(first_hits.mean())),
        control="The same photos and the same code classify with the class token last.")


def steps() -> str:
    """How long each arm was trained."""
    return ", ".join(f"{load(name).card.get('steps', '?')} steps of {name}" for name in (vit.CHECKPOINT, FIRST, LAST))


def reason(rows: tuple[Row, ...], first: float) -> str:
    """How many expectations were met, which were not, and what the class token in front still learned."""
    judged_rows = [found for found in rows if found.holds is not None]
    missed = "".join(f" Not met: {found.name}." for found in judged_rows if not found.holds)
    leak = (f" With the class token in front {first:.0f} % are right where 2 % is chance: one number per head, the "
            "softmax denominator, still tells it about the photo." if first > 2 * CHANCE else "")
    met = sum(found.holds for found in judged_rows)
    return (f"{met} of {len(judged_rows)} expectations met; one training per arm, so it cannot read 'holds'."
            f"{missed}{leak}")


def exact_collapse(model, pixels: torch.Tensor) -> Row:
    """Class token first, rows renormalised: the largest difference between any two photos' logits."""
    with torch.no_grad():
        logits = model.classify(model.states(pixels, convention="before")[-1])
    apart = float((logits.amax(0) - logits.amin(0)).max())
    return Row("class token first, mask before the softmax: largest difference of a logit between photos", apart,
               "logits", len(pixels), expected="below 0.00001", holds=apart < 1e-5)


def near_chance(hits: np.ndarray) -> Row:
    found = row("class token first, as trained: accuracy over chance", hits / CHANCE, "x")
    return Row(found.name, found.value, found.unit, found.n, found.low, found.high, "at most 2", found.value <= 2)


def no_worse(found: Row) -> Row:
    return Row(found.name, found.value, found.unit, found.n, found.low, found.high, "at least -2", found.value >= -2)


def rank_row(pixels: torch.Tensor, plain, last) -> Row:
    """Layers in which the causal maps have the higher effective rank, mean over heads and the same photos."""
    ours, theirs = (np.mean([ranks(look(arm, photo).maps)[1].mean(1) for photo in pixels.split(1)], 0)
                    for arm in (arm_of(last), vit.arm_of(plain)))  # each [L]
    share = float(np.mean(ours > theirs))
    return Row(f"layers with maps of higher effective rank than the ViT's ({ours.mean():.1f} against "
               f"{theirs.mean():.1f} on average)", share, "share of layers", len(pixels), expected="at least 2/3",
               holds=share >= 2 / 3)


def leaks(model, pixels: torch.Tensor) -> tuple[Row, Row]:
    """Change of the first patch's state after layer 1 when only the last patch's pixels change."""
    size = model.config.patch_size
    changed = pixels.clone()
    changed[..., -size:, -size:] = pixels.roll(1, 0)[..., -size:, -size:]
    after, before = (apart(model, pixels, changed, convention) for convention in ("after", "before"))
    return (Row("leak: change at token 0 after layer 1, last patch swapped, mask after the softmax", after, "state",
                len(pixels), expected="above 0", holds=after > 0),
            Row("the same with the mask before the softmax", before, "state", len(pixels), expected="0",
                holds=before == 0))


def apart(model, pixels: torch.Tensor, changed: torch.Tensor, convention: str) -> float:
    """The largest difference of any number of token 0 after layer 1."""
    with torch.no_grad():
        one, other = (model.states(some, convention=convention)[0][:, model.first_patch] for some in (pixels, changed))
    return float((one - other).abs().max())
