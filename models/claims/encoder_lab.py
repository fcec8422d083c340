"""The exam for encoders of 64x64 photos: what their frozen patch tokens know, and the least difference it can see.

    exam = EncoderExam(lab)
    found = exam.take({"LUT": mae_encoder(lut), "MAE": mae_encoder(more), "start": mae_encoder(start),
                       "floor": mae_encoder(untrained(start))}, ("linear", "objects"))
    probe = metric("linear", floor=found["linear"].pop("floor"))
    arms = probe.arms(found["linear"], checkpoints=..., budget=Budget(64, "patches"))
    controls = [better(arms["LUT"], arms["start"], least=least("linear"))]        # else "not testable here"
    expect = [better(arms["LUT"], arms["MAE"], least=max(1.5, least("linear")))]
    context = [power("linear"), ...]

Every part gives one row of numbers per item, on the same items for every encoder; an encoder reads each photo once,
whatever is asked. `least(part)` is the exam's power: what two trainings of one arm differ by that differ in nothing but
their seed (tools/encoder_power.py measures it, docs/encoder_exam.md tells it). A gain below it shows nothing, and every
claim that uses the exam says it (`power`).

Letters: K items, B photos, N = 64 patches, D features, L layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.backbones.pictures import normalise
from models.backbones.vit_mae import set_positions
from models.claims import Lab
from models.claims.arms import Metric, Number, points
from models.claims.harness import Row
from models.claims.harness import context as context_row
from models.claims.probe import TRAIN, VAL, attentive, held_out, in_batches, ridge, scored
from models.engine.statistics import auc, effective_rank
from models.loops.attend.distance import spread
from models.loops.attend.reading import grid_layout
from models.loops.mask.photos import encode_whole
from models.trace.subject import ASSETS
from models.worlds import scenes

POWER = ASSETS / "encoder_power.json"
SIDE, PATCH = 8, 8  # patches a side, pixels a patch
NEAREST = 20  # neighbours that vote
SHARES = (0.25, 0.5, 0.75)  # of the patches that are painted over
TEACHING = 1000  # photos whose patches teach the probe for objects
INSIDE = (6, 58)  # patches in the box of a photo that counts: neither a speck nor everything


class PhotoEncoder(NamedTuple):
    """What is examined. tokens: pixels [B, 3, 64, 64] -> the patches' last states [B, N, D], nothing hidden; network:
    what `observe` may watch while it does so; first: tokens in front of the patches."""

    tokens: Callable[[Tensor], Tensor]
    network: Any = None
    first: int = 1


def mae_encoder(model) -> PhotoEncoder:
    """The encoder of any network with a ViTMAE in it (`vit`)."""
    return PhotoEncoder(lambda pixels: encode_whole(model, pixels)[:, 1:], model.vit)


def untrained(model, seed: int = 0):
    """The floor: a network of this one's shape that has learned nothing."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return set_positions(type(model)(model.config)).eval()


@dataclass(frozen=True)
class Photos:
    """The exam's photos: pixels, labels [K] and boxes [K, 4] of those that probes learn from, and of those they answer.
    """

    learn: Tensor
    labels: np.ndarray
    framed: np.ndarray
    check: Tensor
    truth: np.ndarray
    boxes: np.ndarray


class EncoderView:
    """One encoder's view of the photos, made when a part asks for it."""

    def __init__(self, encoder: PhotoEncoder, photos: Photos):
        self.encoder, self.photos = encoder, photos

    def read(self, pixels: Tensor) -> Tensor:
        return in_batches(self.encoder.tokens, pixels).float()

    @cached_property
    def learn(self) -> Tensor:
        """[K, N, D]"""
        return self.read(self.photos.learn)

    @cached_property
    def check(self) -> Tensor:
        return self.read(self.photos.check)


# ---- the parts: EncoderView -> one number, or several, per item

def linear(seen: EncoderView) -> np.ndarray:
    """Percent right [K] of a linear probe on the mean token."""
    return 100 * ridge(pooled(seen.learn), seen.photos.labels, pooled(seen.check), seen.photos.truth)


def attention_pooled(seen: EncoderView) -> np.ndarray:
    """Percent right [K] of a probe that learns which tokens to look at."""
    return 100 * attentive(seen.learn, seen.photos.labels, seen.check, seen.photos.truth)


def neighbours(seen: EncoderView) -> np.ndarray:
    """Percent right [K] of a vote of the nearest photos, by the angle between mean tokens."""
    learn, check = (torch.from_numpy(pooled(part)) for part in (seen.learn, seen.check))
    centre = learn.mean(0)
    like = torch.nn.functional.normalize(check - centre) @ torch.nn.functional.normalize(learn - centre).T
    votes, near = like.topk(min(NEAREST, len(learn)))  # [K, 20]
    chosen = torch.nn.functional.one_hot(torch.from_numpy(seen.photos.labels)[near])  # [K, 20, C]
    return 100.0 * ((votes[..., None] * chosen).sum(1).argmax(1).numpy() == seen.photos.truth)


def objects(seen: EncoderView) -> np.ndarray:
    """AUROC in percent [K'] with which a linear probe on single patches tells those in the object's box from others,
    over the photos whose box is neither a speck nor everything."""
    learn, truth = framed(seen.learn[:TEACHING], seen.photos.framed[:TEACHING])
    check, asked = framed(seen.check, seen.photos.boxes)
    told = scored(learn.flatten(0, 1).numpy(), truth.ravel().astype(int), check.flatten(0, 1).numpy())[:, 1]
    return 100 * np.array([auc(*one) for one in zip(told.reshape(asked.shape), asked, strict=True)])


def context(seen: EncoderView) -> np.ndarray:
    """Percent right [K] of a linear probe that names the shape of a thing in a drawn scene from the one of its four
    patches that is painted over: what the others have told it. Per scene."""
    (learn, labels, _), (check, truth, scene) = (on_things(seen, seed) for seed in (5, 9))
    right = 100 * ridge(learn, labels, check, truth)
    return np.bincount(scene, right) / np.bincount(scene)


def rank(seen: EncoderView) -> np.ndarray:
    """Effective rank [K] of each photo's patch tokens: e to the entropy of their singular values' shares."""
    return effective_rank(seen.check[: len(seen.check) // 4].numpy())


def distance(seen: EncoderView) -> np.ndarray:
    """How far patches look, in patches [K, L]: mean over heads and queries, without what goes to other tokens."""
    return np.concatenate([looked(seen.encoder, part) for part in seen.photos.check[: len(seen.check) // 12].split(50)])


def occlusion(seen: EncoderView) -> np.ndarray:
    """Percent right [K, 1 + 3] of the linear probe of whole photos where SHARES of the patches are painted over in the
    mean colour; the first column is the whole photo. Every encoder misses the same patches."""
    some, dice = len(seen.check) // 6, np.random.default_rng(17)
    order = torch.from_numpy(dice.random((some, SIDE * SIDE)).argsort(1).argsort(1))  # [K, N]
    asked = [pooled(seen.check[:some]), *(pooled(seen.read(painted_over(seen.photos.check[:some],
                                                                  order < round(share * SIDE * SIDE))))
                                          for share in SHARES)]
    right = ridge(pooled(seen.learn), seen.photos.labels, np.concatenate(asked), np.tile(seen.photos.truth[:some], 4))
    return 100 * right.reshape(len(asked), some).T


# ---- their pieces

def pooled(tokens: Tensor) -> np.ndarray:
    """Mean tokens [K, D]."""
    return tokens.mean(1).numpy()


def framed(tokens: Tensor, boxes: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Of the photos whose box counts: tokens [K', N, D], and whether each patch's middle is inside [K', N]."""
    middle = np.arange(SIDE) * PATCH + PATCH / 2
    across, down = ((boxes[:, [at]] <= middle) & (middle < boxes[:, [at + 2]]) for at in (0, 1))  # [K, side]
    inside = (down[:, :, None] & across[:, None]).reshape(len(boxes), -1)
    counts = (inside.sum(1) >= INSIDE[0]) & (inside.sum(1) <= INSIDE[1])
    return tokens[torch.from_numpy(counts)], inside[counts]


def on_things(seen: EncoderView, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of drawn scenes with one patch of each thing painted over: the tokens of these [P, D], the thing's shape [P] and
    the scene's number [P]."""
    drawn, dice = scenes.several(max(len(seen.photos.check) // 6, 20), seed), np.random.default_rng(seed)
    wide = scenes.CELL // PATCH  # patches a cell
    patch = np.arange(SIDE * SIDE)
    cell = patch // SIDE // wide * scenes.SIDE + patch % SIDE // wide
    found = [(number, dice.choice(patch[cell == thing.cell]), scenes.SHAPES.index(thing.shape))
             for number, things in enumerate(drawn) for thing in things]
    scene, at, shape = np.array(found).T
    hidden = torch.zeros(len(drawn), SIDE * SIDE, dtype=torch.bool)
    hidden[scene, at] = True
    tokens = seen.read(painted_over(normalise(scenes.pictures(drawn)), hidden))
    return tokens[scene, at].numpy(), shape, scene


@torch.no_grad()
def looked(encoder: PhotoEncoder, pixels: Tensor) -> np.ndarray:
    """Attention distance [B, L]."""
    with observe(encoder.network, want={"qk"}) as calls:
        encoder.tokens(pixels)
    return spread(calls, grid_layout((SIDE, SIDE), first=encoder.first)).distance.mean((2, 3))


def painted_over(pixels: Tensor, hidden: Tensor) -> Tensor:
    """Pictures [K, 3, 64, 64] whose hidden patches [K, N] have the mean colour of all photos."""
    hidden = hidden.view(-1, 1, SIDE, SIDE)
    return pixels.masked_fill(hidden.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3), 0.0)


class Part(NamedTuple):
    ask: Callable[[EncoderView], np.ndarray]
    name: str
    unit: str
    ceiling: float | None = 100.0


PARTS = {
    "linear": Part(linear, "linear probe", "% of photos"),
    "attentive": Part(attention_pooled, "attentive probe", "% of photos"),
    "neighbours": Part(neighbours, f"vote of the {NEAREST} nearest photos", "% of photos"),
    "objects": Part(objects, "patches of the object told from others", "AUROC in %"),
    "context": Part(context, "shape named from a patch that is painted over", "% of things"),
    "rank": Part(rank, "effective rank of a photo's patch tokens", "dimensions", float(SIDE * SIDE - 1)),
    "distance": Part(distance, "attention distance", "patches", None),
    "occlusion": Part(occlusion, "linear probe, patches painted over", "% of photos")}


class EncoderExam:
    """The photos, read once, and the parts."""

    def __init__(self, lab: Lab):
        learn, check = lab.size(2000, 30), lab.size(2463, 32)
        self.photos = Photos(*held_out(lab, learn, TRAIN), boxes(lab, learn, TRAIN), *held_out(lab, check),
                             boxes(lab, check, VAL))

    def take(self, encoders: Mapping[str, PhotoEncoder], parts: Collection[str]) -> dict[str, dict[str, np.ndarray]]:
        """part -> name -> numbers [K], or [K, ...]. One encoder at a time, so that only one's tokens are kept."""
        found = {name: self.sit(encoder, parts) for name, encoder in encoders.items()}
        return {part: {name: one[part] for name, one in found.items()} for part in parts}

    def sit(self, encoder: PhotoEncoder, parts: Collection[str]) -> dict[str, np.ndarray]:
        seen = EncoderView(encoder, self.photos)
        return {part: PARTS[part].ask(seen) for part in parts}


def boxes(lab: Lab, count: int, file: str) -> np.ndarray:
    """x0, y0, x1, y1 [K, 4] in pixels of the main object of each of `held_out`'s photos."""
    import pyarrow.parquet as parquet
    table = parquet.read_table(lab.need(file), columns=["bbox"]).slice(0, count)
    return np.array(table["bbox"].to_pylist(), int)


def metric(part: str, floor: Number, ceiling: Number | None = None) -> Metric:
    """The metric of a part. floor: of the untrained network, on the same items."""
    one = PARTS[part]
    return Metric(one.name, one.unit, floor=floor, ceiling=one.ceiling if ceiling is None else ceiling)


def least(part: str) -> float:
    """The least difference between two arms, in the part's unit, that the exam can tell from another seed."""
    return json.loads(POWER.read_text("utf-8"))["parts"][part]["least"]


def power(part: str) -> Row:
    """What a claim shows of it."""
    one = PARTS[part]
    return context_row(f"least difference that one training can show, {one.name}", least(part), points(one.unit),
                       "docs/encoder_exam.md: trainings of one arm that differ in their seed alone")
