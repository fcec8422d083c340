"""Interventions while a run goes on: which methods take them, and heads that are switched off from step to step.

Overwritten and kept tokens are the loops' own business (models/trace/interventions.py says what they are).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from models.backbones.instrument import attention_modules, shared_configs, swap_in, swap_out
from models.backbones.silence import SILENT
from models.trace.interventions import TABS, Interventions
from models.trace.params import ParamError


def check_allowed(title: str, tabs: Iterable[str], fixed: Mapping[str, str], asked: Interventions) -> None:
    """ParamError where a method has no tab that takes such a change, or says why it cannot."""
    for name, places in TABS.items():
        there = [tab for tab in places if tab in tabs]
        if not getattr(asked, name) or any(tab not in fixed for tab in there):
            continue
        why = fixed[there[0]] if there else f"it has no picture in {' or '.join(places)}."
        raise ParamError(f"{title} cannot be changed in this way: {why}")


def silenced(steps: Iterator, model: Any, heads: Iterable[tuple[int, int]]) -> Iterator:
    """The same steps, while each is made with these (layer, head) of `model` switched off, in this context only.

    Raises ParamError for a head that the model does not have.
    """
    off, configs = switched_off(model, heads), shared_configs(model)
    try:
        while True:
            swap_in(configs)
            token = SILENT.set(off)
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                SILENT.reset(token)
                swap_out(configs)
            yield step
    finally:
        getattr(steps, "close", lambda: None)()


def switched_off(model: Any, heads: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """id of an attention module -> its heads that say nothing."""
    modules, found = [module for _, module in attention_modules(model)], dict[int, list[int]]()
    counts = [head_count(module) for module in modules]
    for layer, head in heads:
        if layer >= len(modules) or head >= counts[layer]:
            raise ParamError(f"there is no head {head + 1} in layer {layer + 1}: this model has {len(modules)} layers "
                             f"of {max(counts, default=0)} heads")
        found.setdefault(id(modules[layer]), []).append(head)
    return found


def head_count(module: nn.Module) -> int:
    """Heads of queries of one attention module, by its own account or its config's."""
    names = ("num_attention_heads", "num_heads", "n_head", "n_heads")
    found = [getattr(owner, name, None) for owner in (module, getattr(module, "config", None)) for name in names]
    return next((count for count in found if isinstance(count, int)), 0)
