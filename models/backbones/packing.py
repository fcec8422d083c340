"""Weights at one byte each, for checkpoints that only have to be looked at: snapshots of a training, failed arms.

Every row of a matrix is stored as int8 with one scale, its largest size / 127; vectors stay in half precision. The file
says so in its header, so that a reader never mistakes one kind for the other.
"""
from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

HEADER, SCALE = {"packing": "int8 rows"}, ".scale"


def pack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with int8 matrices [R, ...] and their scales fp16 [R] under `name.scale`."""
    packed = {}
    for name, weight in state.items():
        if weight.dim() < 2:
            packed[name] = weight.half()
            continue
        rows = weight.float().flatten(1)
        scale = (rows.abs().amax(1) / 127).clamp_min(1e-7).half()  # [R]
        packed[name] = (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).view(weight.shape)
        packed[name + SCALE] = scale
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float32 state dict of `pack`'s output; each weight is off by half its row's scale at most."""
    state = {}
    for name, weight in packed.items():
        if weight.dtype == torch.int8:
            scale = packed[name + SCALE].float()
            state[name] = weight.float() * scale.view(-1, *[1] * (weight.dim() - 1))
        elif not name.endswith(SCALE):
            state[name] = weight.float()
    return state


def save_packed(state: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file
    save_file({name: weight.contiguous() for name, weight in pack(state).items()}, str(path), metadata=HEADER)


def read_packed(path: Path) -> dict[str, Tensor] | None:
    """The unpacked weights of a file written by `save_packed`; None if it is an ordinary one."""
    from safetensors import safe_open
    with safe_open(str(path), "pt") as file:
        if not HEADER.items() <= (file.metadata() or {}).items():
            return None
        return unpack({name: file.get_tensor(name) for name in file.keys()})
