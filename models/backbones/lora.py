"""Low-rank changes of linear layers (LoRA, arXiv 2106.09685): y = W x + (alpha / r) B A x, W frozen, B zero first."""
from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

from models.backbones.around import around

LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # all linear layers of a block


class LowRank(nn.Module):
    """(alpha / r) B A; zero until trained."""

    def __init__(self, inner: int, outer: int, rank: int, alpha: float):
        super().__init__()
        self.down, self.up = nn.Linear(inner, rank, bias=False), nn.Linear(rank, outer, bias=False)
        self.scale = alpha / rank
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(self.down(x))

    def matrix(self) -> Tensor:
        """[outer, inner], what it adds to a layer's weight."""
        return self.scale * self.up.weight @ self.down.weight


class Gate:
    """Where low-rank changes act in the current call: g [1, T, 1] over its rows, or None where they do not at all."""

    rows: Tensor | None = None


class Changed(nn.Module):
    """A frozen linear layer and its low-rank change; with a gate, which several may share, only where that is open."""

    def __init__(self, plain: nn.Linear, change: LowRank, gate: Gate | None = None):
        super().__init__()
        self.plain, self.change, self.gate = plain.requires_grad_(False), change, gate

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.plain(x) + self.change(x)
        return self.plain(x) if self.gate.rows is None else self.plain(x) + self.gate.rows * self.change(x)


def changes(width: int, inside: int, keys: int, layers: int, rank: int, alpha: float) -> nn.ModuleList:
    """Untrained low-rank changes of all linear layers of a Llama, which may be kept and shipped without it: its width,
    the MLP's, that of keys and values, and how many layers it has."""
    shapes = {"q_proj": (width, width), "k_proj": (width, keys), "v_proj": (width, keys), "o_proj": (width, width),
              "gate_proj": (width, inside), "up_proj": (width, inside), "down_proj": (inside, width)}
    return nn.ModuleList(nn.ModuleDict({name: LowRank(*shapes[name], rank, alpha) for name in LLAMA})
                         for _ in range(layers))


def sizes(config) -> tuple[int, int, int]:
    """A Llama's width, the MLP's, and that of keys and values, as `changes` wants them."""
    return (config.hidden_size, config.intermediate_size,
            config.hidden_size // config.num_attention_heads * config.num_key_value_heads)


def changed(body: nn.Module, found: Sequence[nn.ModuleDict], gate: Gate | None = None) -> nn.Module:
    """A Llama's body with changes in place: modules of its own around the same weights. No number is copied, and the
    body itself, which other visitors run at the same moment, is not touched."""
    made = around(body)
    for layer, own in zip(made.layers, found, strict=True):
        for home, name, part in linears(layer):
            setattr(home, name, Changed(part, own[name], gate))
    return made


def adapt(model: nn.Module, rank: int, alpha: float, names: Collection[str] = LLAMA) -> nn.Module:
    """Freezes a model and gives its linear layers of these names something to learn, in place."""
    for home, name, part in linears(model.requires_grad_(False), names):
        change = LowRank(part.in_features, part.out_features, rank, alpha).to(part.weight.device, part.weight.dtype)
        setattr(home, name, Changed(part, change))
    return model


def linears(model: nn.Module, names: Collection[str] = LLAMA) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Its linear layers of these names, each with the module that holds it."""
    found = [(home, name, part) for home, name, part in _children(model) if name in names and type(part) is nn.Linear]
    if not found:
        raise ValueError(f"there is no linear layer called {', '.join(names)}")
    return found


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Adds what was learned to the weights and takes the additions out again, in place: an ordinary model."""
    for home, name, part in list(_children(model)):
        if isinstance(part, Changed):
            part.plain.weight += part.change.matrix()
            setattr(home, name, part.plain)
    return model.requires_grad_(True)


def _children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for home in list(model.modules()):
        for name, part in list(home.named_children()):
            yield home, name, part
