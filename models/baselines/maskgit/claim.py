"""MaskGIT's claim, small: a dozen or so steps are enough, too few break objects, and confidence is a good order."""

from __future__ import annotations

import numpy as np

from models.claims import Claim, Lab, row, scene_lab

STEPS = (1, 2, 4, 8, 16, 28, 32)  # 28 is the default of the tab
SEEDS = (11, 12, 13)


def measure(lab: Lab) -> Claim:
    (model, tokenizer), each = (b.model for b in scene_lab.bundles()), lab.size(24, 4)
    asked = [scene_lab.requests(each, seed) for seed in SEEDS]

    def scored(steps: int, order: str = "confidence") -> np.ndarray:
        return np.concatenate([scene_lab.base(model, tokenizer, things, steps, seed, order)
                               for things, seed in zip(asked, SEEDS)])

    curve = {steps: scored(steps) for steps in (STEPS if not lab.quick else STEPS[:3])}
    most = max(curve) if lab.quick else 16
    chance = scored(most, "random")
    top = np.concatenate([scene_lab.ceiling(tokenizer, things) for things in asked])
    loss, order = curve[most] - curve[min(4, most // 2)], curve[most] - chance
    rows = [*(row(f"{steps} steps: score", values, "of 1") for steps, values in curve.items()),
            row(f"{most} steps, random order: score", chance, "of 1"),
            row("tokenizer alone: score", top, "of 1"),
            row(f"{most} steps minus {min(4, most // 2)} steps", loss, "score", expected="> 0", holds=above(loss)),
            row(f"{most} steps minus the same in random order", order, "score", expected="> 0", holds=above(order))]
    if not lab.quick:
        more = curve[32] - curve[16]
        rows.append(row("32 steps minus 16 steps", more, "score", expected="within 0.05",
                        holds=bool(abs(more.mean()) <= 0.05)))
    held = [r.holds for r in rows if r.holds is not None]
    verdict = "holds" if all(held) else "mixed" if held[0] else "does not hold"
    return Claim(
        "maskgit", "Confidence-ordered parallel decoding reaches its quality in 8 to 12 steps instead of 256 (arXiv "
        "2202.04200, ImageNet).", "On drawn scenes the score stays the same from 32 down to 16 steps, falls with 4, "
        "and a random order scores lower at equal steps.", "parser score: valid and as asked / max(asked, found)",
        "the same model with fewer steps, or in random order", f"{3 * each} captions, the tab's defaults", tuple(rows),
        verdict, reason(curve, rows), "a scene drawn by program scores 1 through the tokenizer, an empty one 0", SEEDS,
        dtype="bfloat16")


def above(differences: np.ndarray) -> bool:
    """The whole 95 % interval of a paired difference lies above zero."""
    return row("", differences, "").low > 0


def reason(curve: dict[int, np.ndarray], rows: list) -> str:
    """The curve in words, and what did not come out as expected."""
    said = "Mean score " + ", ".join(f"{values.mean():.2f} at {steps}" for steps, values in curve.items()) + " steps."
    return said + "".join(f" Not met: {r.name} is {r.value:.2f}, {r.expected} expected." for r in rows
                          if r.holds is False)
