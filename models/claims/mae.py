"""The baseline's claim: the network beats fills that need none, and how hard an exam is depends on what is hidden."""

from __future__ import annotations

import io

import numpy as np
import torch

from models.backbones.pictures import normalise
from models.checkpoints import load
from models.claims import Claim, Lab, Row, bootstrap, row
from models.mask import mae, photos

SEEDS, RATIO, SIZE = (0, 1, 2), 0.75, (8, 8)


def measure(lab: Lab) -> Claim:
    """Masked-patch error of the network, the two fills and three rules on held-out photos, three masks each."""
    model = load("photo-mae-1").model
    pixels = held_out(lab, lab.size(500, 16))[0]
    errors = {rule: np.mean([exam(model, pixels, rule, seed) for seed in SEEDS], 0) for rule in mae.RULES}  # [3, K]
    network, inpainted, mean = errors["random"]
    rows = [row("masked-patch error, random masks", network, "squared normalised pixels"),
            below("error below bilinear inpainting", network, inpainted, 10),
            below("error below the mean visible colour", network, mean, 10),
            below("a grid is easier than random patches by", errors["grid"][0], network, 0),
            below("random patches are easier than blocks by", network, errors["block"][0], 0)]
    good = [r.holds for r in rows[1:]]
    return Claim(
        method="mae",
        paper="Masked autoencoders (arXiv 2111.06377): hiding 75 % at random works; at the same ratio a grid is an "
              "easier task than random patches, and blocks are a harder one.",
        here="On held-out 64 x 64 photos the network errs at least 10 % less than inpainting and mean colour, and the "
             "error orders grid, random, blocks.",
        metric="mean squared error of hidden patches, ImageNet-normalised pixels; paired over photos",
        baseline="bilinear inpainting of the visible patches; their mean colour",
        budget=f"{len(pixels)} photos, {len(SEEDS)} masks each, 48 of 64 patches hidden", rows=tuple(rows),
        verdict="holds" if all(good) else "mixed" if any(good) else "does not hold",
        reason="All four differences have intervals on the expected side." if all(good)
        else f"{sum(good)} of 4 differences are as expected.",
        control="The two fills see the same masks and the same photos.", seeds=SEEDS)


def below(name: str, ours, other, at_least: float) -> Row:
    """How far the mean of `ours` lies below that of `other`, in percent, with a paired interval over photos."""
    value, low, high = bootstrap(np.stack([ours, other], 1),
                                 statistic=lambda x: 100 * (1 - x[:, 0].mean() / x[:, 1].mean()))
    return Row(name, value, "%", len(ours), low, high, f"at least {at_least:g}, interval above 0",
               bool(value >= at_least and low > 0))


def exam(model, pixels: torch.Tensor, rule: str, seed: int) -> np.ndarray:
    """Mean hidden-patch error [3, K] of the network, of inpainting and of the mean colour; a new mask per photo."""
    n_mask, generator = photos.masked_count(64, RATIO), torch.Generator().manual_seed(seed)
    hidden = [mae.rank(rule, SIZE, n_mask, generator)[:n_mask] for _ in range(1 if rule == "grid" else len(pixels))]
    noise = torch.cat([photos.noise_of(ids, 64) for ids in hidden]).expand(len(pixels), -1)
    found = []
    for some, places in zip(pixels.split(100), noise.split(100)):
        target = model.patchify(some)
        patches, mask = photos.rebuild(model, some, places, n_mask)
        answers = (patches, photos.inpaint(model, target, mask), photos.mean_fill(target, mask))
        found.append(torch.stack([hidden_error(answer, target, mask) for answer in answers]))
    return torch.cat(found, 1).numpy()


def hidden_error(answer, target, mask) -> torch.Tensor:
    """Mean error [B] over the hidden patches."""
    return (photos.patch_error(answer, target) * mask).sum(1) / mask.sum(1)


def held_out(lab: Lab, count: int, file: str = "photos64_val.parquet") -> tuple[torch.Tensor, np.ndarray]:
    """The first `count` photos as normalised pixels [K, 3, 64, 64], and their labels [K]; they are not shipped."""
    import pyarrow.parquet as parquet
    from PIL import Image
    table = parquet.read_table(lab.need(file), columns=["image", "label"]).slice(0, count)
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in table["image"].to_pylist()]
    return normalise(np.stack(images)), np.array(table["label"].to_pylist())

