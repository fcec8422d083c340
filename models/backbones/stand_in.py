"""For tests: a tiny untrained network in the shipped layout that does something, in place of trained weights.

    STAND_INS = {"text-joint-2": lambda bundle: stirred(JointSampler.beside(bundle("text-mdm-2").model))}
"""
from __future__ import annotations

from torch import nn


def stirred(model: nn.Module, *names: str, std: float = 0.3) -> nn.Module:
    """The model with weights drawn anew, all matrices or those whose names end so: as they begin many change nothing,
    and attention looks everywhere alike."""
    for name, weight in model.named_parameters():
        if name.endswith(names) if names else weight.dim() == 2:
            nn.init.normal_(weight, std=std)
    return model
