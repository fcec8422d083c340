"""MaskGIT's claim, small: its quality is reached in 8 to 12 steps, and confidence is a better order than chance."""

from __future__ import annotations

from models.claims import Lab, scene_lab
from models.claims.harness import Arm, Budget, Claim, as_good, better, conclude, context

SEEDS, DTYPE = (11, 12, 13), "bfloat16"


def measure(lab: Lab) -> Claim:
    model, tokenizer = (b.model for b in scene_lab.bundles(DTYPE))
    captions = scene_lab.Captions.of(lab.size(52, 1), SEEDS, tokenizer, floor=False)

    def arm(steps: int, order: str = "confidence") -> Arm:
        values = captions.filled(model, tokenizer, steps, order=order)
        return captions.score.arm(f"{steps} steps" + ", random order" * (order == "random"), values,
                                  budget=Budget(steps, "passes"), checkpoints=("scene-mgm-1", "scene-vq-1"))

    four, eight, twelve, most = (arm(steps) for steps in (4, 8, 12, 32))
    chance = arm(12, "random")
    paper = "paper: 8 to 12 steps"
    return conclude(
        "maskgit", paper="Confidence-ordered parallel decoding reaches its quality in 8 to 12 steps instead of 256 "
        "(arXiv 2202.04200, ImageNet).",
        here="On drawn scenes 8 and 12 steps score within 0.05 of 32, and at 12 steps a random order scores lower.",
        arms=(eight, twelve, most, chance), trainings=0, seeds=SEEDS, dtype=DTYPE,
        expect=[as_good(eight, most, 0.05, bar=paper), as_good(twelve, most, 0.05, bar=paper),
                better(twelve, chance)],
        controls=[better(most, four, unmatched="steps are what is taken away")],
        context=[context(f"score at {arm.name}", arm) for arm in (four, eight, twelve, most)])
