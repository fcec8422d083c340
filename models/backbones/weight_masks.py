"""A frozen network with only some of its weights: masks that are learned, random ones of equal size, and none.

A mask is a bool tensor of its weight's shape, under its weight's name; what it leaves out is 0, and what it keeps
stands as it is, unscaled. Embeddings, head, norms and biases are never masked. The network itself is never changed.
Learning follows continuous sparsification (Savarese et al., arXiv 1912.04427): a score s per weight, at first 0, a soft
mask sigmoid(beta s) whose slope beta grows from 1 until it is a step, and at the end s > 0.
models/backbones/delta.py keeps masks as one bit per weight beside the name and revision of their trunk.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.backbones import lora
from models.backbones.around import around

Masks = dict[str, Tensor]  # name of a weight -> bool of its shape


def maskable(model: nn.Module, names=lora.LLAMA) -> dict[str, Tensor]:
    """The weights of a model's linear layers of these names, as its state dict names them."""
    inside = {id(part.weight) for _, _, part in lora.linears(model, names)}
    return {name: weight for name, weight in model.named_parameters() if id(weight) in inside}


class MaskScores(nn.Module):
    """s: one number per weight that may be masked, at first 0."""

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        self.names = tuple(weights)
        self.scores = nn.ParameterList(torch.zeros_like(weight, dtype=torch.float32) for weight in weights.values())

    def soft(self, beta: float) -> list[Tensor]:
        """sigmoid(beta s) of every weight."""
        return [torch.sigmoid(beta * score) for score in self.scores]

    def hard(self) -> Masks:
        return {name: score.detach() > 0 for name, score in zip(self.names, self.scores)}


def call(model: nn.Module, masks: dict[str, Tensor], *args, **options):
    """The model's answer with its weights times these masks, to learn from. It holds them while it answers: never for a
    model that others use at the same time (`partial`)."""
    whole = dict(model.named_parameters())
    return functional_call(model, {name: whole[name] * mask for name, mask in masks.items()}, args, options)


def partial(model: nn.Module, masks: Masks) -> nn.Module:
    """A second network that has only these weights; whatever has no mask it shares with the first."""
    own = {id(weight): nn.Parameter(weight * masks[name], requires_grad=False) if name in masks else weight
           for name, weight in model.named_parameters()}
    return around(model, own)


def undecided(soft: list[Tensor]) -> float:
    """Masks between 0.1 and 0.9 as a share of those above 0.9."""
    between = sum(int(((m >= 0.1) & (m <= 0.9)).sum()) for m in soft)
    return between / max(1, sum(int((m > 0.9).sum()) for m in soft))


def kept(masks: Masks) -> float:
    """Share of the weights that stay."""
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def inverted(masks: Masks) -> Masks:
    return {name: ~mask for name, mask in masks.items()}


def permuted(masks: Masks, generator: torch.Generator) -> Masks:
    """Random masks that keep as many weights of every matrix."""
    def shuffled(mask: Tensor) -> Tensor:
        order = torch.randperm(mask.numel(), generator=generator).to(mask.device)
        return mask.flatten()[order].view(mask.shape)
    return {name: shuffled(mask) for name, mask in masks.items()}


def largest(model: nn.Module, masks: Masks) -> Masks:
    """Masks that keep as many of every matrix's largest weights: magnitude pruning."""
    weights, found = maskable(model), {}
    for name, mask in masks.items():
        found[name] = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
        found[name][weights[name].abs().flatten().topk(int(mask.sum())).indices] = True
        found[name] = found[name].view(mask.shape)
    return found


def found(masked: nn.Module, names=lora.LLAMA) -> Masks:
    """The masks of a network that was read from one bit per weight: where it has a weight. (One that is 0 in the trunk
    as well counts as left out: that makes no difference.)"""
    return {name: weight != 0 for name, weight in maskable(masked, names).items()}
