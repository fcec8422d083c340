"""The control's claim: it classifies better than colours do, and its class token looks at the object."""

from __future__ import annotations

import numpy as np
import torch

from models.baselines.vit import method as vit
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, better, conclude, more_than_chance
from models.claims.probe import TRAIN, VAL, held_out, hits
from models.loops.attend.classifiers import look

PATCH, CHANCE = 8, 2.0  # pixels; percent, of 50 classes


def measure(lab: Lab) -> Claim:
    """Accuracy on held-out photos beside the nearest class mean of patch colours; attention inside the object's box."""
    model, once = load(vit.CHECKPOINT).model, Budget(1, "pass")
    pixels, truth = held_out(lab, lab.size(2463, 24))
    right = Metric("photos classified right", "%", floor=CHANCE, ceiling=100.0)
    ours = right.arm("ViT", 100 * hits(model, pixels, truth), budget=once, checkpoints=vit.CHECKPOINT)
    plain = right.arm("nearest class mean of patch colours", 100 * nearest(lab, pixels, truth), budget=once)
    inside, area = boxed(lab, vit.arm_of(model), pixels[: lab.size(500, 24)])
    focus = Metric("class token's last-layer attention inside the object's box", "%", floor=0.0, ceiling=100.0)
    seen, even = (focus.arm(name, 100 * values, budget=once) for name, values in (
        ("its attention", inside), ("even attention: the box's area", area)))
    return conclude(
        "vit",
        paper="An Image is Worth 16x16 Words (arXiv 2010.11929): a plain transformer over patches classifies photos; "
              "its attention from the class token falls on what the class is about.",
        here="On held-out 64 x 64 photos of 50 classes: at least 5 points better than the nearest class mean of patch "
             "colours, and more attention inside the object's box than the box's share of the picture.",
        arms=(ours, plain, seen, even), trainings=1, controls=[more_than_chance(plain, CHANCE)],
        expect=[better(ours, plain, least=5), better(seen, even, bar="paper: figure 6")])


def nearest(lab: Lab, pixels: torch.Tensor, truth: np.ndarray) -> np.ndarray:
    """Hits [K] of the class whose mean patch colours are nearest."""
    learn, labels = held_out(lab, lab.size(25_000, 200), TRAIN)
    kinds = np.unique(labels)
    means = torch.stack([colours(learn[torch.from_numpy(labels == kind)]).mean(0) for kind in kinds])
    return (kinds[torch.cdist(colours(pixels), means).argmin(1).numpy()] == truth).astype(np.float64)


def colours(pixels: torch.Tensor) -> torch.Tensor:
    """Mean colour of every patch [K, 3 P]."""
    return torch.nn.functional.avg_pool2d(pixels, PATCH).flatten(1)


def boxed(lab: Lab, arm, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Share of the class token's attention to patches that lies inside the object's box, and the box's area [K];
    photos with an empty box are left out."""
    found = []
    for photo, box in zip(pixels.split(1), boxes(lab, len(pixels))):
        cover = covered(box)
        if cover.sum() > 0:
            weights = look(arm, photo).cls_row(arm)[-1].mean(0)
            found.append((float(weights @ cover / weights.sum()), float(cover.mean())))
    return tuple(np.array(part) for part in zip(*found))


def boxes(lab: Lab, count: int) -> np.ndarray:
    """Boxes [K, 4] of the main objects: x0, y0, x1, y1 in pixels."""
    import pyarrow.parquet as parquet
    return np.array(parquet.read_table(lab.need(VAL), columns=["bbox"]).slice(0, count)["bbox"].to_pylist())


def covered(box: np.ndarray, side: int = 64) -> np.ndarray:
    """Share of every patch [P] that lies inside a box."""
    inside = np.zeros((side, side))
    inside[int(box[1]):int(box[3]), int(box[0]):int(box[2])] = 1
    return inside.reshape(side // PATCH, PATCH, -1, PATCH).mean((1, 3)).ravel()
