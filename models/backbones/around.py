"""A second network around the same weights: modules of its own, whose parts can be exchanged, and no number copied."""
from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor, nn


def around(net: nn.Module, put: Mapping[int, Tensor] | None = None, _made: dict[int, nn.Module] | None = None
           ) -> nn.Module:
    """The same network in modules of its own. What is set, trained or hooked there is not seen by others who run `net`
    at the same moment; config, weights and buffers are shared. put: id of a weight -> what stands there instead."""
    made = {} if _made is None else _made  # a module that stands at two places stays one
    if id(net) in made:
        return made[id(net)]
    twin = made[id(net)] = copy.copy(net)
    for name, value in vars(net).items():
        if isinstance(value, (dict, set)):
            vars(twin)[name] = value.copy()
    for name, part in net._modules.items():
        twin._modules[name] = None if part is None else around(part, put, made)
    for name, weight in net._parameters.items():
        twin._parameters[name] = (put or {}).get(id(weight), weight)
    return twin
