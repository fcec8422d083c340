"""Photos that no network was trained on, and what frozen features know of their classes.

Photos are not shipped (DATA=folder). Letters: K photos, D features, N tokens, C classes. Hits [K] are 0 or 1.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.backbones.pictures import normalise
from models.claims import Lab
from models.engine.statistics import aucs

TRAIN, VAL = "photos64_train.parquet", "photos64_val.parquet"
PENALTIES = tuple(10.0 ** power for power in range(-4, 4))
FOLDS = 5


def held_out(lab: Lab, count: int, file: str = VAL) -> tuple[Tensor, np.ndarray]:
    """The first `count` photos as normalised pixels [K, 3, 64, 64], and their labels [K]."""
    import pyarrow.parquet as parquet
    from PIL import Image
    table = parquet.read_table(lab.need(file), columns=["image", "label"]).slice(0, count)
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in table["image"].to_pylist()]
    return normalise(np.stack(images)), np.array(table["label"].to_pylist())


@torch.no_grad()
def in_batches(read: Callable[[Tensor], Tensor], pixels: Tensor, size: int = 100) -> Tensor:
    """read(pixels [B, ...]) for all, joined: features [K, D], tokens [K, N, D] or answers."""
    return torch.cat([read(part) for part in pixels.split(size)])


def hits(model: Callable, pixels: Tensor, truth: np.ndarray, **options) -> np.ndarray:
    """Right answers of a classifier, which returns logits or something that has them."""
    def answer(part: Tensor) -> Tensor:
        found = model(part, **options)
        return getattr(found, "logits", found).argmax(1)
    return (in_batches(answer, pixels).numpy() == truth).astype(np.float64)


def ridge(learn: np.ndarray, labels: np.ndarray, check: np.ndarray, truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Hits of a linear probe, ridge regression on one-hot labels; the penalty is chosen by cross-validation on the
    photos it learns from, so it is tuned alike for every network."""
    classes = int(max(labels.max(), truth.max())) + 1
    return (scored(learn, labels, check, classes, seed).argmax(1) == truth).astype(np.float64)


def scored(learn: np.ndarray, labels: np.ndarray, check: np.ndarray, classes: int = 2, seed: int = 0) -> np.ndarray:
    """What the same probe says of every class [K, C]: the higher, the likelier."""
    learn, check = (np.asarray(part, np.float64) for part in (learn, check))
    mean, spread = learn.mean(0), learn.std(0) + 1e-6
    learn, check = ((part - mean) / spread for part in (learn, check))
    targets = np.eye(classes)[labels]
    best = PENALTIES[int(np.argmax(validated(learn, targets, labels, seed)))]
    return told(learn, targets, check, (best,))[0]


def linear(lab: Lab, readers: Mapping[str, Callable[[Tensor], Tensor]], count: int, pixels: Tensor, truth: np.ndarray
           ) -> dict[str, np.ndarray]:
    """name -> percent right [K] of a linear probe on what read(pixels [B, ...]) -> [B, D] makes of photos; it learns
    from the first `count` training photos."""
    learn, labels = held_out(lab, count, TRAIN)
    return {name: 100 * ridge(in_batches(read, learn).numpy(), labels, in_batches(read, pixels).numpy(), truth)
            for name, read in readers.items()}


def validated(learn: np.ndarray, targets: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Share of right answers of every penalty, over FOLDS folds."""
    fold = np.random.default_rng(seed).permutation(len(learn)) % FOLDS
    right = np.zeros(len(PENALTIES))
    for part in range(FOLDS):
        rest, here = fold != part, fold == part
        found = answers(learn[rest], targets[rest], learn[here], PENALTIES)
        right += [(one == labels[here]).sum() for one in found]
    return right / len(learn)


def answers(learn: np.ndarray, targets: np.ndarray, check: np.ndarray, penalties) -> list[np.ndarray]:
    """Classes [K] that the probe names, for every penalty."""
    return [scores.argmax(1) for scores in told(learn, targets, check, penalties)]


def told(learn: np.ndarray, targets: np.ndarray, check: np.ndarray, penalties) -> list[np.ndarray]:
    """The probe's numbers [K, C] for every penalty (per photo); one decomposition serves all."""
    mean = targets.mean(0)
    values, vectors = np.linalg.eigh(learn.T @ learn)
    turned, product = check @ vectors, vectors.T @ (learn.T @ (targets - mean))
    return [turned @ (product / (values + penalty * len(learn))[:, None]) + mean for penalty in penalties]


def attentive(learn: Tensor, labels: np.ndarray, check: Tensor, truth: np.ndarray, *, steps: int = 300, size: int = 128,
              rate: float = 3e-3, seed: int = 0) -> np.ndarray:
    """Hits of an attentive probe on frozen tokens [K, N, D]: one learned query pools them, a linear layer answers."""
    mean, spread = learn.mean((0, 1)), learn.std((0, 1)) + 1e-6
    learn, check = (learn - mean) / spread, (check - mean) / spread
    dice, known = torch.Generator().manual_seed(seed), torch.from_numpy(labels)
    width, classes = learn.shape[-1], int(max(labels.max(), truth.max())) + 1
    query, head = torch.zeros(width, requires_grad=True), torch.zeros(width, classes, requires_grad=True)

    def loss() -> Tensor:
        some = torch.randint(len(learn), (size,), generator=dice)
        return cross_entropy(pooled(learn[some], query) @ head, known[some])

    fitted([query, head], loss, steps, rate, weight_decay=0.05)
    with torch.no_grad():
        return ((pooled(check, query) @ head).argmax(1).numpy() == truth).astype(np.float64)


def fitted(weights: Sequence[Tensor], loss: Callable[[], Tensor], steps: int, rate: float, *, weight_decay: float = 0.0,
           clip: float = 0.0, falling: bool = False) -> None:
    """A small training inside a claim, by AdamW. falling: the rate goes down to zero; clip: the largest gradient."""
    adam = torch.optim.AdamW(weights, rate, weight_decay=weight_decay)
    with torch.enable_grad():
        for step in range(steps):
            adam.param_groups[0]["lr"] = rate * (1 - step / steps) if falling else rate
            adam.zero_grad()
            loss().backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(weights, clip)
            adam.step()


def finetuned(model: torch.nn.Module, learn: Tensor, labels: np.ndarray, steps: int, *, size: int = 64,
              rate: float = 1e-3, seed: int = 0) -> torch.nn.Module:
    """A classifier of photos [K, 3, S, S], trained in place on a few labelled ones that are flipped at random; in bf16,
    like all trainings, which takes a third of the time."""
    dice, known = torch.Generator().manual_seed(seed), torch.from_numpy(labels)
    model.train().requires_grad_(True)

    def loss() -> Tensor:
        some = torch.randint(len(learn), (size,), generator=dice)
        flip = torch.rand(size, generator=dice)[:, None, None, None] < 0.5
        with torch.autocast(learn.device.type, torch.bfloat16):
            told = model(torch.where(flip, learn[some].flip(3), learn[some]))
        return cross_entropy(told.float(), known[some])

    fitted(list(model.parameters()), loss, steps, rate, weight_decay=0.05, clip=1.0, falling=True)
    return model.eval()


def untrained(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """A copy of a network as it begins."""
    torch.manual_seed(seed)
    made = copy.deepcopy(model)
    for module in made.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return made


def pooled(tokens: Tensor, query: Tensor) -> Tensor:
    """[B, N, D] -> [B, D], weighted by how well each token answers the query."""
    weights = (tokens @ query / tokens.shape[-1] ** 0.5).softmax(1)  # [B, N]
    return (weights[..., None] * tokens).sum(1)


def per_group(values: np.ndarray, group: np.ndarray, count: int, here: np.ndarray | None = None) -> np.ndarray:
    """Mean [G, ...] of the rows [N, ...] of each of `count` groups; NaN for a group without any. here: which count."""
    here = np.ones(len(group), bool) if here is None else here
    rows, made = np.bincount(group[here], minlength=count).astype(float), np.zeros((count, *values.shape[1:]))
    np.add.at(made, group[here], values[here])
    return made / np.where(rows, rows, np.nan).reshape(-1, *[1] * (values.ndim - 1))


@torch.no_grad()
def told_by_features(lens, states: Tensor, truth: np.ndarray, scored: int) -> np.ndarray:
    """AUROC [K, R, L + 1] with which one feature of each autoencoder and layer (models/backbones/layer_lens.py) tells
    each column of truth [N, K]. It is the best for one of the first `scored` columns; behind them others may stand, as
    many again, that the same features are asked for."""
    made = np.zeros((truth.shape[1], *lens.codes.shape[:2]))
    for run, layer in np.ndindex(*made.shape[1:]):
        found = np.nan_to_num(aucs(lens.features(states[:, layer], layer, run).numpy(), truth), nan=0.5)  # [F, K]
        best = np.resize(found[:, :scored].argmax(0), truth.shape[1])
        made[:, run, layer] = found[best, range(truth.shape[1])]
    return made
