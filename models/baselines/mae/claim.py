"""The baseline's claim: the network beats fills that need none, and how hard an exam is depends on what is hidden."""

from __future__ import annotations

import numpy as np
import torch

from models.baselines.mae import method as mae
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, better, conclude, context
from models.claims.probe import held_out
from models.loops.mask import photos

SEEDS, RATIO, SIZE = (0, 1, 2), 0.75, (8, 8)
CHECKPOINT = "photo-mae-1"


def measure(lab: Lab) -> Claim:
    """Masked-patch error of the network, of the two fills and of three rules on held-out photos, three masks each."""
    model = load(CHECKPOINT).model
    pixels = held_out(lab, lab.size(500, 24))[0]
    found = {rule: np.stack([exam(model, pixels, rule, seed) for seed in SEEDS], 1) for rule in mae.RULES}  # [3, S, K]
    network, inpainted, mean = found["random"]
    error = Metric("masked-patch error", "squared normalised pixels", "lower", floor=mean.mean(0), ceiling=0.0)
    seen = Budget(64 - photos.masked_count(64, RATIO), "visible patches")
    random, grid, block = (error.arm(f"network, {title}", found[rule][0], budget=seen, checkpoints=CHECKPOINT)
                           for rule, title in (("random", "random patches"), ("grid", "a grid"), ("block", "blocks")))
    inpaint, colour = error.arm("inpainting", inpainted, budget=seen), error.arm("mean colour", mean, budget=seen)
    return conclude(
        "mae",
        paper="Masked autoencoders (arXiv 2111.06377): hiding 75 % at random works; at the same ratio a grid is an "
              "easier task than random patches, and blocks are a harder one.",
        here="On held-out 64 x 64 photos the network errs at least 10 % less than inpainting and mean colour, and the "
             "error orders grid, random, blocks.",
        arms=(random, inpaint, colour, grid, block), trainings=1, seeds=SEEDS,
        controls=[better(inpaint, colour)],
        expect=[better(random, inpaint, least=10, by="percent"), better(random, colour, least=10, by="percent"),
                better(grid, random, bar="paper: section 4, mask sampling strategies"),
                better(random, block, bar="paper: section 4, mask sampling strategies")],
        context=[context(f"masked-patch error, mean colour under {title}", found[rule][2].mean(0), error.unit,
                         "how hard the hidden patches are by themselves")
                 for rule, title in (("grid", "a grid"), ("block", "blocks"))])


def exam(model, pixels: torch.Tensor, rule: str, seed: int) -> np.ndarray:
    """Mean hidden-patch error [3, K] of the network, of inpainting and of the mean colour; a new mask per photo."""
    n_mask, generator = photos.masked_count(64, RATIO), torch.Generator().manual_seed(seed)
    hidden = [mae.rank(rule, SIZE, n_mask, generator)[:n_mask] for _ in range(1 if rule == "grid" else len(pixels))]
    noise = torch.cat([photos.noise_of(ids, 64) for ids in hidden]).expand(len(pixels), -1)
    found = []
    for some, places in zip(pixels.split(100), noise.split(100)):
        patches, mask = photos.rebuild(model, some, places, n_mask)
        found.append(photos.beside_fills(model, some, patches, mask))
    return torch.cat(found, 1).numpy()
