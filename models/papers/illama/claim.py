"""iLLaMA's claim, small: where the class token stands decides whether anything is learned; what the soft mask leaves.

Arms: 0 photo-vit-1, 1 class token first, 3 class token last with the soft mask, 900 steps each. Arms 2 (hard mask from
the first step) and 4 (renormalised rows) were not trained, nor the bidirectional LLaMA that the rank of maps would have
to beat.
"""

from __future__ import annotations

import numpy as np
import torch

from models.baselines.vit import method as vit
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, as_good, at_most, better, conclude, context, mean_of
from models.claims.probe import VAL, held_out, hits
from models.loops.attend.classifiers import look, ranks
from models.papers.illama.method import FIRST, LAST, arm_of

CHANCE = 2.0  # percent, of 50 classes


def measure(lab: Lab) -> Claim:
    """Accuracy of the arms, with the mask on and off; collapse, leaks and effective ranks as context."""
    plain, first, last = (load(name).model for name in (vit.CHECKPOINT, FIRST, LAST))
    pixels, truth = held_out(lab, lab.size(2463, 24), VAL)
    few = pixels[: lab.size(200, 4)]
    right = Metric("photos classified right", "%", floor=CHANCE, ceiling=100.0)
    arm0, arm1, arm3, bare = (
        right.arm(name, 100 * hits(model, pixels, truth, **options), budget=Budget(1, "pass"), checkpoints=checkpoint)
        for name, model, options, checkpoint in (
            ("ViT", plain, {}, vit.CHECKPOINT), ("class token first", first, {}, FIRST),
            ("class token last, soft mask", last, {}, LAST),
            ("class token last, mask off at test", last, {"softness": 1.0}, LAST)))
    return conclude(
        "illama",
        paper="iLLaMA (arXiv 2404.06773): a causal LLaMA-style decoder reaches 75.1 % on ImageNet with 5.7 M "
              "parameters once the class token stands last and the causal mask comes in softly; causal attention "
              "raises the rank of attention maps.",
        here="50 classes of 64 x 64 photos. Class token last: within 2 points of a ViT of equal steps, and worse with "
             "the mask off. Class token first: at most twice chance.",
        arms=(arm0, arm1, arm3, bare), trainings=1, controls=[better(arm3, arm1)],
        expect=[as_good(arm3, arm0, within=2), better(arm3, bare), at_most(mean_of(arm1), 2 * CHANCE, bar="ours")],
        context=[collapse(first, few), *leaks(last, few), *rank_context(few, plain, last)],
        would_take="a bidirectional LLaMA for the rank of maps (recipe photo-illama-bidirectional-1, 900 steps)")


def collapse(model, pixels: torch.Tensor):
    """Class token first, rows renormalised: the largest difference between any two photos' logits."""
    with torch.no_grad():
        logits = model.classify(model.states(pixels, convention="before")[-1])
    return context("class token first, mask before the softmax: largest difference of a logit between photos",
                   float((logits.amax(0) - logits.amin(0)).max()), "logits", "follows from the mask: nothing is seen")


def leaks(model, pixels: torch.Tensor) -> list:
    """Change of the first patch's state after layer 1 when only the last patch's pixels change."""
    size, changed = model.config.patch_size, pixels.clone()
    changed[..., -size:, -size:] = pixels.roll(1, 0)[..., -size:, -size:]
    return [context(f"change at token 0 after layer 1, last patch swapped, mask {convention} the softmax",
                    apart(model, pixels, changed, convention), "state", "follows from where the mask stands")
            for convention in ("after", "before")]


def apart(model, pixels: torch.Tensor, changed: torch.Tensor, convention: str) -> float:
    """The largest difference of any number of token 0 after layer 1."""
    with torch.no_grad():
        one, other = (model.states(some, convention=convention)[0][:, model.first_patch] for some in (pixels, changed))
    return float((one - other).abs().max())


def rank_context(pixels: torch.Tensor, plain, last) -> list:
    """Effective rank of maps, mean over layers and heads, per photo. A ViT with its upper triangle deleted and rows
    renormalised already has a higher one, and this network a still higher one with its mask off."""
    why = "the triangle alone raises it: needs a bidirectional LLaMA arm"
    arms = {"ViT": vit.arm_of(plain), "class token last": arm_of(last), "the same, mask off": arm_of(last, 1.0)}
    found = {name: [look(arm, photo).maps for photo in pixels.split(1)] for name, arm in arms.items()}
    found["ViT, upper triangle deleted and renormalised"] = [lower(maps) for maps in found["ViT"]]
    return [context(f"effective rank of maps, {name}", np.array([ranks(one)[1].mean() for one in maps]), "of 65", why)
            for name, maps in found.items()]


def lower(maps: np.ndarray) -> np.ndarray:
    """Maps [L, H, N, N] without what lies above the diagonal, rows summing to 1."""
    cut = np.tril(maps)
    return cut / cut.sum(-1, keepdims=True)
