"""Weights at a few bits each, in a safetensors file: 6 for what is shipped, 4 for controls and changes, 1 for masks.

A weight is cut into groups of 32 numbers (64 where it says "group": 64), in the order they lie in; a group is whole
numbers q of `bits` bits and one scale, w = scale * q with q from -2^(bits-1) to 2^(bits-1) - 1. The scale has the sign
that puts the group's largest number on the longer, negative side, and is then fitted to the q by least squares.
Measured on text-ar-1, bits per character of 105,285 characters: half precision 1.2572, 6 bits 1.2576, 5 bits 1.2587,
4 bits 1.2655. A zero point, which costs as much as half a bit, gains less than half a bit does (4 bits: 1.2644);
fifteen levels around 0 lose (1.2688).

    name          uint8 [G, 4 bits]   q + 2^(bits-1), the highest bit first
    name.scale    fp16 [G]
    header        {"packing": "groups of 32", "weights": '{"name": {"bits": 6, "shape": [4096, 256]}}'}

Vectors stay in half precision, as they are. The header's sizes are checked before anything is read (`check`). Files of
before are still read: {"packing": "int8 rows"} has int8 matrices and a scale fp16 [R] for each row.
"""
from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GROUP, SCALE, UP, DOWN = 32, ".scale", ".up", ".down"
GROUPS, ROWS, DIFFERENCE = "groups of 32", "int8 rows", "difference to a trunk"  # what a header's "packing" may say
BITS = range(2, 9)
Table = dict[str, tuple[str, tuple[int, ...]]]  # name -> dtype and shape of what lies in a file


def pack(state: dict[str, Tensor], bits: int = 6) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What a file holds of a state dict: tensors, and its header."""
    tensors, weights = {}, {}
    for name, weight in state.items():
        if name in tensors or name + SCALE in state:
            raise ValueError(f"the name {name + SCALE} is needed for a scale")
        if weight.dim() < 2 or not weight.is_floating_point():
            tensors[name] = weight.half() if weight.is_floating_point() else weight
            continue
        tensors[name], tensors[name + SCALE] = pack_one(weight, bits)
        weights[name] = {"bits": bits, "shape": list(weight.shape)}
    return tensors, {"packing": GROUPS, "weights": json.dumps(weights)}


def pack_one(weight: Tensor, bits: int, group: int = GROUP) -> tuple[Tensor, Tensor]:
    """Bytes [G, group bits / 8] and scales fp16 [G] of one weight."""
    whole, scale = _whole(grouped(weight.float(), group), bits)
    return to_bits(whole + 2 ** (bits - 1), bits), scale.half()


def rounded(weight: Tensor, bits: int) -> Tensor:
    """What a float32 weight is once it was packed, for a network that learns in such steps."""
    whole, scale = _whole(grouped(weight), bits)
    return (whole * scale.half().float()[:, None]).flatten()[: weight.numel()].view_as(weight)


def _whole(groups: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Whole numbers [G, group] and scales [G] of groups."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    extreme = groups.gather(1, groups.abs().argmax(1, keepdim=True))  # [G, 1]
    scale = extreme / low
    whole = (groups / torch.where(scale == 0, 1.0, scale)).round().clamp(low, high)
    return whole, (groups * whole).sum(1) / whole.square().sum(1).clamp_min(1)  # the best scale for these numbers


def unpack_one(packed: Tensor, scale: Tensor, bits: int, shape) -> Tensor:
    """The float32 weight of `pack_one`'s output."""
    whole = from_bits(packed, bits).float() - 2 ** (bits - 1)
    return (whole * scale.float()[:, None]).flatten()[: prod(shape)].view(*shape)


def grouped(weight: Tensor, group: int = GROUP) -> Tensor:
    """[G, group]; the last group is filled up with zeros."""
    flat = weight.flatten()
    return torch.nn.functional.pad(flat, (0, -len(flat) % group)).view(-1, group)


def to_bits(whole: Tensor, bits: int) -> Tensor:
    """Numbers [G, group] from 0 to 2^bits - 1 as bytes [G, group bits / 8]."""
    each = np.unpackbits(whole.numpy().astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]  # [G, group, bits]
    return torch.from_numpy(np.packbits(each.reshape(len(each), -1), axis=-1))


def from_bits(packed: Tensor, bits: int) -> Tensor:
    """Numbers uint8 [G, group] of `to_bits`'s bytes."""
    each = np.unpackbits(packed.numpy(), axis=-1).reshape(len(packed), packed.shape[1] * 8 // bits, bits)
    wide = np.pad(each, ((0, 0), (0, 0), (8 - bits, 0)))
    return torch.from_numpy(np.packbits(wide, axis=-1)[..., 0])


def save_packed(state: dict[str, Tensor], path: Path, bits: int = 6) -> None:
    save(*pack(state, bits), path)


def save(tensors: dict[str, Tensor], said: dict[str, str], path: Path) -> None:
    from safetensors.torch import save_file
    save_file({name: weight.contiguous() for name, weight in tensors.items()}, str(path), metadata=said)


def pack_file(path: Path, bits: int) -> None:
    """Packs an ordinary safetensors file in its place."""
    from safetensors.torch import load_file
    save_packed(load_file(str(path)), path, bits)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file, as they lie in it."""
    from safetensors import safe_open
    with safe_open(str(path), "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def header(path: Path) -> dict[str, str]:
    """What a file says of itself."""
    from safetensors import safe_open
    with safe_open(str(path), "pt") as file:
        return file.metadata() or {}


def kind(path: Path) -> str:
    """How a file's weights are packed; "" where they are not."""
    return header(path).get("packing", "")


def read_packed(path: Path) -> dict[str, Tensor] | None:
    """The float32 weights of a packed file, integers as they are; None of an ordinary one."""
    tensors, said = read(path)
    if said.get("packing") not in (GROUPS, ROWS):
        return None
    return _rows(tensors) if said["packing"] == ROWS else unpack(tensors, said)


def unpack(tensors: dict[str, Tensor], said: dict[str, str]) -> dict[str, Tensor]:
    weights = json.loads(said["weights"])
    state = {name: unpack_one(tensors[name], tensors[name + SCALE], one["bits"], one["shape"])
             for name, one in weights.items()}
    packed = {name + end for name in weights for end in ("", SCALE)}
    rest = {name: tensor for name, tensor in tensors.items() if name not in packed}
    return state | {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in rest.items()}


def _rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Int8 matrices times the scale of each row."""
    state = {}
    for name, weight in tensors.items():
        if weight.dtype == torch.int8:
            scale = tensors[name + SCALE].float()
            state[name] = weight.float() * scale.view(-1, *[1] * (weight.dim() - 1))
        elif not name.endswith(SCALE):
            state[name] = weight.float()
    return state


def check(said: dict[str, str], table: Table) -> Table:
    """What a file's tensors are once they are unpacked; ValueError, the end of a sentence, where header and tensors do
    not belong together."""
    if said["packing"] == ROWS:
        return {name: one for name, one in table.items() if name + SCALE in table or not name.endswith(SCALE)}
    if said["packing"] not in (GROUPS, DIFFERENCE):
        raise ValueError(f"is packed as '{str(said['packing'])[:40]}', which is not known here.")
    try:
        parts = {name: _parts(one) for name, one in json.loads(said["weights"]).items()}
        lie = {name + end: place for name, ends in parts.items() for end, place in ends.items()}
        shapes = {name: tuple(one["shape"]) for name, one in json.loads(said["weights"]).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("has a damaged file: its header does not say how its weights are packed.") from None
    if any(table.get(name) != place for name, place in lie.items()):
        raise ValueError("has a damaged file: its packed weights have not the sizes that its header states.")
    return {name: one for name, one in table.items() if name not in lie} | {n: ("F16", s) for n, s in shapes.items()}


def factors(one: dict) -> dict[str, tuple[int, int]]:
    """Shapes of the two factors of a product, from a header's list."""
    return {UP: (one["shape"][0], one["rank"]), DOWN: (one["rank"], prod(one["shape"][1:]))}


def _parts(one: dict) -> Table:
    """Where one weight of a header's list must lie: suffix -> dtype and shape. ValueError for a list that is none."""
    shape = one["shape"]
    if not shape or any(type(side) is not int or side < 1 for side in shape):
        raise ValueError
    group = one.get("group", GROUP)
    if group not in (GROUP, 2 * GROUP):
        raise ValueError
    groups = -(-prod(shape) // group)
    if "rank" in one and type(one["rank"]) is int:  # up @ down
        sides = factors(one)
        if "bits" not in one:
            return {end: ("F16", side) for end, side in sides.items()}
        return {end + part: place for end, side in sides.items() for part, place in
                _parts({"shape": list(side), "bits": one["bits"]}).items()}
    if one.get("mask") is True:
        return {"": ("U8", (groups, 4))}
    if type(one["bits"]) is not int or one["bits"] not in BITS:
        raise ValueError
    return {"": ("U8", (groups, group * one["bits"] // 8)), SCALE: ("F16", (groups,))}
