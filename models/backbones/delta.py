"""A checkpoint as its difference to a trunk: for controls, and for what a short training made of another checkpoint.

The file names the trunk and its revision (the first 12 digits of its file's sha256) and is refused on any other. Each
of its weights is one of

    {"bits": 4}             the trunk's weight + groups of 32 (packing.py); of 64 with "group": 64
    {"bits": 6, "own": true}  groups of 32 alone: a weight that the trunk has not, or has in another shape
    {"rank": 8}             the trunk's weight + up @ down, fp16 [R, r] and [r, C]; with "bits": both in groups of 32
    {"mask": true}          the trunk's weight where the mask is 1, else 0; one bit per weight

beside its shape. Vectors stand as they are, in half precision; a weight that is not named is the trunk's own, but for
those that the header calls left: the checkpoint has them no more (an encoder whose trunk has a decoder, too).
"""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from models.backbones import packing
from models.backbones.packing import DIFFERENCE, DOWN, SCALE, UP

OWN_BITS = 6  # of weights that have nothing to differ from


class Trunk(NamedTuple):
    """A checkpoint that others differ from: its weights by their names in its file, and its revision."""

    name: str
    revision: str
    state: dict[str, Tensor]


def save_difference(state: dict[str, Tensor], trunk: Trunk, path: Path, *, bits: int = 4, rank: int = 0,
                    group: int = packing.GROUP) -> None:
    """Writes a state dict as its difference to a trunk: `bits` per weight, or a product of this rank whose factors have
    as many bits (0: half precision). group: numbers with one scale."""
    how = {"rank": rank, "bits": bits, "group": group}
    how = {word: number for word, number in how.items() if number and (word, number) != ("group", packing.GROUP)}
    tensors, weights = {}, {}
    for name, weight in state.items():
        base = trunk.state.get(name)
        alike = base is not None and base.shape == weight.shape
        if alike and torch.equal(base.half(), weight.half()):
            continue  # the trunk's own
        if weight.dim() < 2 or not weight.is_floating_point():
            tensors[name] = weight.half() if weight.is_floating_point() else weight
        elif alike:
            change = weight.float() - base.float()
            _put(tensors, weights, name, weight, _product(change, rank, bits) if rank else _groups(change, bits, group),
                 **how)
        else:
            _put(tensors, weights, name, weight, _groups(weight, OWN_BITS), bits=OWN_BITS, own=True)
    left = " ".join(name for name in trunk.state if name not in state)
    packing.save(tensors, _header(trunk, weights) | ({"left": left} if left else {}), path)


def save_masks(masks: dict[str, Tensor], trunk: Trunk, path: Path) -> None:
    """Writes which weights of a trunk are kept (bool, each of its weight's shape); the others are 0."""
    tensors, weights = {}, {}
    for name, mask in masks.items():
        _put(tensors, weights, name, mask, {"": packing.to_bits(packing.grouped(mask.float()), 1)}, mask=True)
    packing.save(tensors, _header(trunk, weights), path)


def read_difference(path: Path, trunk_of: Callable[[str], Trunk]) -> dict[str, Tensor]:
    """The float32 weights of a file that `save_difference` or `save_masks` wrote.

    trunk_of: a shipped checkpoint's weights by its name. ValueError, the end of a sentence, where it does not fit.
    """
    tensors, header = packing.read(path)
    trunk = trunk_of(header.get("trunk", ""))
    if header.get("revision") != trunk.revision:
        raise ValueError(f"is a difference to {trunk.name} at {header.get('revision', '')[:12] or '?'}, and the one "
                         f"here is {trunk.revision}.")
    left = set(header.get("left", "").split())
    state = {name: weight.float() if weight.is_floating_point() else weight for name, weight in trunk.state.items()
             if name not in left}
    listed = json.loads(header["weights"])
    for name, one in listed.items():
        state[name] = _joined(state.get(name), tensors, name, one)
    taken = {name + end for name in listed for end in ("", SCALE, UP, DOWN, UP + SCALE, DOWN + SCALE)}
    rest = {name: tensor for name, tensor in tensors.items() if name not in taken}
    return state | {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in rest.items()}


def _joined(base: Tensor | None, tensors: dict[str, Tensor], name: str, one: dict) -> Tensor:
    """One weight of the checkpoint, from the trunk's and what the file holds of it."""
    shape, own = tuple(one["shape"]), one.get("own") is True and "bits" in one
    if not own and (base is None or base.shape != shape):
        raise ValueError(f"does not fit its trunk: {name[:60]} has another shape there.")
    if "rank" in one:
        up, down = (_factor(tensors, name + end, side, one.get("bits")) for end, side in packing.factors(one).items())
        return base + (up @ down).view(shape)
    if one.get("mask"):
        return base * packing.from_bits(tensors[name], 1).flatten()[: base.numel()].view(shape)
    change = packing.unpack_one(tensors[name], tensors[name + SCALE], one["bits"], shape)
    return change if own else base + change


def _groups(weight: Tensor, bits: int, group: int = packing.GROUP) -> dict[str, Tensor]:
    return dict(zip(("", SCALE), packing.pack_one(weight, bits, group), strict=True))


def _product(change: Tensor, rank: int, bits: int) -> dict[str, Tensor]:
    """The nearest product of this rank, its length shared by both factors."""
    u, s, v = torch.linalg.svd(change.flatten(1), full_matrices=False)
    root = s.sqrt()
    made = {UP: (u * root)[:, :rank], DOWN: (root[:, None] * v)[:rank]}
    if not bits:
        return {end: factor.half() for end, factor in made.items()}
    return {end + part: one for end, factor in made.items() for part, one in _groups(factor, bits).items()}


def _factor(tensors: dict[str, Tensor], name: str, shape: tuple[int, int], bits: int | None) -> Tensor:
    return packing.unpack_one(tensors[name], tensors[name + SCALE], bits, shape) if bits else tensors[name].float()


def _put(tensors: dict, weights: dict, name: str, weight: Tensor, parts: dict[str, Tensor], **how) -> None:
    if "rank" in how:
        how["rank"] = min(how["rank"], *weight.flatten(1).shape)  # a small matrix has no more
    tensors.update({name + end: part for end, part in parts.items()})
    weights[name] = {"shape": list(weight.shape), **how}


def _header(trunk: Trunk, weights: dict) -> dict[str, str]:
    return {"packing": DIFFERENCE, "trunk": trunk.name, "revision": trunk.revision, "weights": json.dumps(weights)}
