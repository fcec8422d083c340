"""What can be read off every layer of a frozen causal network: linear probes, and small sparse autoencoders.

    states = residuals(model, ids)                   # [B, T, L + 1, D], before the first block and behind each
    lens.read(states, "mine").softmax(-1)            # [B, T, L + 1, S, C], a linear map without bias for each layer
    lens.features(states[:, :, layer], layer, run)   # [B, T, F], what a sparse autoencoder finds there

    probe:        C logits for each of S places            cross-entropy
    autoencoder:  h = relu(x W + b), x' = h W^T            |x - x'|^2 / D + 0.077 |h|_1 / F

W is tied, and each of its D rows has length 1, as in ALT-JS/OthelloSAE. States go in with mean 0 and variance 1, each
for itself: a norm over several tokens would tell one what comes later.
Letters: B texts, T tokens, L layers, D width, S places, C classes, F features, R runs of the autoencoders, N states.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm, normalize

SPARSE = 0.077


@torch.no_grad()
def residuals(model, ids: Tensor) -> Tensor:
    """States [B, T, L + 1, D] of a Llama before its first block and behind each of them, none of them normed."""
    found: list[Tensor] = []
    hooks = [part.register_forward_pre_hook(lambda module, given, named: found.append(
        given[0] if given else named["hidden_states"]), with_kwargs=True)
        for part in (*model.model.layers, model.model.norm)]
    try:
        model.model(ids.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(found, 2).float()


class LayerLens(nn.Module, PyTorchModelHubMixin):
    """readings: what each set of probes was taught. maps [R, L + 1, F, S, C]: how well every feature tells that a
    place is of a class, AUROC - 0.5, put in once they are trained."""

    def __init__(self, trunk: str = "", trunk_revision: str = "", depth: int = 6, width: int = 128,
                 readings: Sequence[str] = ("mine",), places: int = 36, classes: int = 3, features: int = 256,
                 runs: int = 3):
        super().__init__()
        self.trunk, self.trunk_revision, self.readings, self.shape = trunk, trunk_revision, readings, (places, classes)
        layers = depth + 1
        self.probes = nn.Parameter(torch.randn(len(readings), layers, width, places * classes) * width**-0.5)
        self.codes = nn.Parameter(torch.randn(runs, layers, width, features) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(runs, layers, features))
        self.register_buffer("maps", torch.zeros(runs, layers, features, places, classes))

    @classmethod
    def beside(cls, base, name: str = "", revision: str = "", **options) -> LayerLens:
        return cls(trunk=name, trunk_revision=revision, depth=base.config.num_hidden_layers,
                   width=base.config.hidden_size, **options)

    def read(self, states: Tensor, reading: str) -> Tensor:
        """Logits [..., L + 1, S, C] of states [..., L + 1, D]."""
        probes = self.probes[list(self.readings).index(reading)]
        return torch.einsum("...ld,ldk->...lk", even(states), probes).unflatten(-1, self.shape)

    def features(self, states: Tensor, layer: int, run: int = 0) -> Tensor:
        """Activations [..., F] of states [..., D] of one layer."""
        codes = normalize(self.codes[run, layer], dim=-1)
        return torch.relu(even(states) @ codes + self.bias[run, layer])

    def probe_loss(self, states: Tensor, labels: Tensor, reading: str) -> Tensor:
        """Cross-entropy of states [N, L + 1, D] and classes [N, S], mean over places, sum over layers."""
        logits = self.read(states, reading)
        wanted = labels[:, None].expand(logits.shape[:-1])
        return cross_entropy(logits.flatten(0, -2), wanted.flatten()) * logits.shape[1]

    def coder_loss(self, states: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Sum over runs and layers of states [N, L + 1, D]; what is left unexplained, and how many features speak."""
        x, codes = even(states).transpose(0, 1), normalize(self.codes, dim=-1)  # [L + 1, N, D], [R, L + 1, D, F]
        h = torch.relu(x @ codes + self.bias[:, :, None])  # [R, L + 1, N, F]
        missed = (h @ codes.mT - x).square().mean((-2, -1))  # [R, L + 1]; of variance 1
        loss = (missed + SPARSE * h.mean((-2, -1))).sum()
        return loss, {"variance left": missed.detach().mean(), "features that speak": (h.detach() > 0).float().mean()}


def even(states: Tensor) -> Tensor:
    """Every state [..., D] with mean 0 and variance 1."""
    return layer_norm(states.float(), states.shape[-1:])
