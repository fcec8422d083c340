"""Heads that a visitor switched off: what they say is zero, in the context of one run only.

models/backbones/instrument.py and models/backbones/rows.py ask `quiet` wherever a layer has mixed its values, so that
other runs of the same model, in other threads, never hear of it.
"""
from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

from torch import Tensor, nn

SILENT: ContextVar[Mapping[int, list[int]] | None] = ContextVar("silent_heads", default=None)  # id of a module -> heads


def quiet(module: nn.Module, mixed: Tensor) -> Tensor:
    """What an attention layer found [B, N, H, D], with nothing from the heads that are switched off."""
    heads = (SILENT.get() or {}).get(id(module))
    if not heads:
        return mixed
    mixed = mixed.clone()
    mixed[:, :, heads] = 0
    return mixed
