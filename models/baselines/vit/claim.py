"""The control's claim: it classifies better than colours do, and its class token looks at the object."""

from __future__ import annotations

import numpy as np
import torch

from models.baselines.mae.claim import held_out
from models.baselines.vit import method as vit
from models.checkpoints.store import load
from models.claims import Claim, Lab, Row, row
from models.loops.attend.classifiers import look

TRAIN, VAL, PATCH = "photos64_train.parquet", "photos64_val.parquet", 8


def measure(lab: Lab) -> Claim:
    """Accuracy on held-out photos beside the nearest class mean of patch colours; attention inside the object's box."""
    model = load(vit.CHECKPOINT).model
    pixels, truth = held_out(lab, lab.size(2463, 8))
    hits, plain = correct(model, pixels, truth), nearest(lab, pixels, truth)
    inside, area = boxed(lab, vit.arm_of(model), pixels[: lab.size(500, 8)])
    gain, focus = (row("accuracy minus nearest class mean", 100 * (hits - plain), "points"),
                   row("class token's last-layer attention inside the object's box, above the box's area",
                       100 * (inside - area), "points"))
    rows = (row("accuracy", 100 * hits, "% correct"), row("nearest class mean of patch colours", 100 * plain,
                                                          "% correct"),
            judged(gain, "at least 5, interval above 0", gain.value >= 5), judged(focus, "interval above 0"))
    good = [found.holds for found in rows[2:]]
    return Claim(
        method="vit",
        paper="An Image is Worth 16x16 Words (arXiv 2010.11929): a plain transformer over patches classifies photos; "
              "its attention from the class token falls on what the class is about.",
        here="On held-out 64 x 64 photos of 50 classes: at least 5 points better than the nearest class mean of patch "
             "colours, and more attention inside the object's box than the box's share of the picture.",
        metric="share of photos classified right; attention of the class token, mean over heads",
        baseline="nearest class mean of the 64 patch colours; even attention",
        budget=f"{len(pixels)} photos; {len(inside)} with a box", rows=rows,
        verdict="mixed" if any(good) else "does not hold",
        reason=f"{sum(good)} of {len(good)} expectations met; one training, so it cannot read 'holds'."
               + "".join(f" Not met: {found.name}." for found in rows[2:] if not found.holds),
        control="Colours and even attention see the same photos.")


def judged(found: Row, expected: str, also: bool = True) -> Row:
    """A difference that must lie above 0 with its whole interval."""
    return Row(found.name, found.value, found.unit, found.n, found.low, found.high, expected,
               bool(also and found.low > 0))


def correct(model, pixels: torch.Tensor, truth: np.ndarray, **options) -> np.ndarray:
    """Hits [K] (0 or 1) of a classifier."""
    with torch.no_grad():
        found = [model(part, **options) for part in pixels.split(100)]
    answers = torch.cat([getattr(out, "logits", out) for out in found]).argmax(1).numpy()
    return (answers == truth).astype(np.float64)


def nearest(lab: Lab, pixels: torch.Tensor, truth: np.ndarray) -> np.ndarray:
    """Hits [K] of the class whose mean patch colours are nearest."""
    learn, labels = held_out(lab, lab.size(25_000, 16), TRAIN)
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
