"""Masked autoencoder: hide most patches, rebuild them from the rest. The Mask tab's baseline.

What is hidden follows a rule (random, block, grid) or the visitor; the network is the same for all. Paper: He et al.,
Masked Autoencoders Are Scalable Vision Learners (arXiv 2111.06377); the block rule is BEiT's (arXiv 2106.08254), as
tried in MAE's mask-sampling ablation together with grid.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from models.engine.method import Card, Job, Method, Turn
from models.loops.mask import loop
from models.loops.mask.photos import masked_count, photo
from models.trace.params import Choice, Span
from models.trace.subject import Example

RULES = ("random", "block", "grid")
EXAMPLES = (Example("coffee", "A cup of coffee", "coffee.jpg"), Example("cat", "A cat", "cat.jpg"),
            Example("rocket", "A rocket", "rocket.jpg"), Example("astronaut", "An astronaut", "astronaut.jpg"),
            Example("photographer", "A photographer", "photographer.jpg"), Example("grass", "Grass", "grass.jpg"),
            Example("galaxies", "Galaxies", "galaxies.jpg"))


@dataclass(frozen=True)
class Params:
    mask_ratio: Annotated[float, Span(0.25, 0.9, 0.05, "Mask ratio", "How much of the picture is hidden.",
                                      unit="of patches")] = 0.75
    rule: Annotated[str, Choice(RULES, "What is hidden", "Random patches, whole blocks, or a regular grid.",
                                titles=("random patches", "blocks", "a grid"))] = "random"
    target: Annotated[str, Choice(("raw", "normalised"), "Error counted in",
                                  "Normalised divides by each patch's own variance: flat patches then look hard, "
                                  "because their noise is amplified.", titles=("pixels", "patch variances"))] = "raw"


def rank(rule: str, grid: tuple[int, int], n_mask: int, generator) -> np.ndarray:
    """Patch identities [L] in the order in which this rule hides them."""
    count = grid[0] * grid[1]
    shuffled = torch.randperm(count, generator=generator).numpy()
    if rule == "random":
        return shuffled
    if rule == "grid":
        order = ordered_dither(grid)
        return np.argsort(-order, kind="stable")
    return blocks(grid, n_mask, shuffled, generator)


def masks(rule: str, grid: tuple[int, int], n_mask: int, count: int, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Visible [K, L - n_mask] and hidden [K, n_mask] patches of so many photos, each in the picture's order."""
    order = torch.from_numpy(np.stack([rank(rule, grid, n_mask, generator) for _ in range(count)]))
    return order[:, n_mask:].sort(1).values, order[:, :n_mask].sort(1).values


def ordered_dither(grid: tuple[int, int]) -> np.ndarray:
    """Bayer's ordered-dither value of each patch [L]: any share of lowest values is spread evenly over the grid."""
    y, x = np.mgrid[:grid[0], :grid[1]]
    value = np.zeros(grid, np.int64)
    for bit in range(int(max(grid)).bit_length()):
        a, b = (x >> bit) & 1, (y >> bit) & 1
        value = value * 4 + ((a ^ b) * 2 + b)
    return value.ravel()


def blocks(grid: tuple[int, int], n_mask: int, shuffled: np.ndarray, generator) -> np.ndarray:
    """BEiT's rule: rectangles of 4 or more patches, aspect 0.3 to 1/0.3, until n_mask are hidden; then the rest."""
    hidden: list[int] = []
    for _ in range(100 * n_mask):
        if len(hidden) >= n_mask:
            break
        area, tilt, top, left = torch.rand(4, generator=generator).tolist()
        size = 4 + area * max(0, n_mask - len(hidden) - 4)
        aspect = 0.3 ** (1 - 2 * tilt)
        height = min(max(round((size * aspect) ** 0.5), 1), grid[0])
        width = min(max(round((size / aspect) ** 0.5), 1), grid[1])
        y, x = int(top * (grid[0] - height + 1)), int(left * (grid[1] - width + 1))
        inside = [(y + i) * grid[1] + x + j for i in range(height) for j in range(width)]
        hidden += [patch for patch in inside if patch not in hidden]
    rest = [int(patch) for patch in shuffled if patch not in set(hidden[:n_mask])]
    return np.array(hidden[:n_mask] + rest)


def hide(job: Job, view) -> loop.Hidden:
    """What the visitor hides, or else the rule of a job with `rule` and `mask_ratio`."""
    def by_rule():
        n_mask, rule = masked_count(view.count, job.params.mask_ratio), job.params.rule
        ids = np.sort(rank(rule, view.grid, n_mask, job.generator())[:n_mask])
        return loop.Hidden(ids, ("masked-random" if rule == "random" else "masked",) * n_mask)
    return loop.hidden_by(job, view, by_rule)


def run(job: Job):
    """Hide by the rule (or the visitor), rebuild, compare with two fills that need no network."""
    view = photo(job.subject.image, job.model)
    exam = loop.sit(job, view, hide(job, view))
    facts = loop.exam_facts(exam, view.count, job.params.target == "normalised")
    yield from loop.record(job, view, exam, sentence=say(job, exam, view.count), facts=facts)


def say(job: Job, exam, count: int) -> str:
    how = "by you" if job.choice is not None else {"random": "at random", "block": "in blocks",
                                                   "grid": "on a grid"}[job.params.rule]
    return (f"{len(exam.hidden.ids)} of {count} patches are hidden {how}; the network rebuilds them with a mean "
            f"squared error of {loop.errs(exam.mean())}, {loop.against(exam)}; the mean visible colour errs by "
            f"{loop.errs(exam.mean('loss_mean'))}.")


def budget(job: Job) -> tuple[int]:
    """How many patches one mask hides."""
    patches = job.model.vit.embeddings.patch_embeddings.num_patches
    return (masked_count(patches, job.params.mask_ratio),)


METHOD = Method(
    card=Card(
        id="mae", title="Masked autoencoder", tabs=("mask",), arxiv="2111.06377", year=2021, seed=None,
        summary="Most patches are hidden; an encoder sees only the rest, and a small decoder paints what is missing.",
        flow="photo > patches hidden at random > encoder on visible patches > decoder > hidden patches "
             "rebuilt",
        look_at="Compare the pasted picture with the network's whole output, and the error with the patch variance.",
        not_covered="Training and fine-tuning; the network was trained on 64 x 64 photos with random masks of 75 %.",
        unverified="Block and grid are drawn by the rules named in the file, with an exact number of hidden patches."),
    params=Params, accepts="photo", checkpoints=("photo-mae-1", "photo-hpm-1"), run=run, examples=EXAMPLES,
    turn=Turn("Hide the patches that you think are hardest to rebuild.", "error", budget))

