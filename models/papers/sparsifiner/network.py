"""Sparsifiner's network (arXiv 2303.13755): per layer a small predictor of who will look at whom, before q k^T exists.

With q, k [B, H, N, d], shared by the heads of a layer, c = d / 2 and n = int(N / 6):

    q' = Wq q, k' = Wk k                       # [B, H, N, c]
    B = softmax(scale q' (k'^T W_down))        # [B, H, N - 1, n]: keys compressed along the TOKEN axis, no row for cls
    A^ = B W_up^T                              # [B, H, N - 1, N]: every row is a mixture of n learned maps

At inference B keeps its largest coefficients and the maps are |W_up| without entries <= 0.02. A query keeps the b keys
with the largest A^; the class token keeps all. Nothing flows back through that choice: predictors learn from the dense
attention alone (`reconstruction`). W_down and W_up are tied to N, so a predictor serves one number of tokens.

The trunk is transformers' ViT and stays so: `states` walks its layers and hands every layer its pairs, either to the
library's attention under a mask (which saves no time) or to `gathered`, which computes the kept pairs only. Other kinds
of masks are other scores. scale: num_heads ** -0.5 as in the released code, where one would expect c ** -0.5.

Letters: B photos, H heads, N = L + 1 tokens, class token first, d head width, b kept keys, n maps.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.kept_pairs import finished, heads_of, masked
from models.backbones.stand_in import stirred

Score = Callable[[int, Tensor, Tensor], Tensor]  # (layer, q, k) -> [B or 1, H or 1, N - 1, N], larger is kept first
Keys = Callable[..., Tensor]  # (layer, q, k, alive) -> the keys [B, H, N - 1, b] that each patch looks at
TOP, THRESHOLD = 4, 0.02  # coefficients and map entries that inference keeps; the paper keeps 8 of 32 coefficients


class Connectivity(nn.Module):
    """The predictor of one layer."""

    def __init__(self, tokens: int, width: int, maps: int, scale: float):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(width, width // 2), nn.Linear(width, width // 2)
        self.down, self.up = (nn.Parameter(nn.init.trunc_normal_(torch.empty(tokens, maps), std=0.02))
                              for _ in range(2))
        self.scale = scale

    def coefficients(self, q: Tensor, k: Tensor) -> Tensor:
        """B [B, H, N - 1, n]: how much of each map every patch's row is made of."""
        if k.shape[2] != len(self.down):
            raise ValueError(f"this predictor is tied to {len(self.down)} tokens, not {k.shape[2]}: train another one")
        compressed = self.k_proj(k).transpose(-1, -2) @ self.down  # [B, H, c, n]
        return (self.q_proj(q[:, :, 1:]) @ compressed * self.scale).softmax(-1)

    def dense(self, q: Tensor, k: Tensor) -> Tensor:
        """A^ as it is trained: all coefficients, signed maps."""
        return self.coefficients(q, k) @ self.up.T

    def maps(self, threshold: float = THRESHOLD) -> Tensor:
        """The maps [n, N] of inference: no signs, nothing small."""
        size = self.up.T.abs()
        return size.masked_fill(size <= threshold, 0.0)

    def forward(self, q: Tensor, k: Tensor, top: int = TOP, threshold: float = THRESHOLD) -> Tensor:
        """A^ [B, H, N - 1, N] of inference."""
        return strongest(self.coefficients(q, k), top) @ self.maps(threshold)


class ConnectivityPredictors(nn.Module, PyTorchModelHubMixin):
    """The predictors of all layers of `trunk`, whose shape must be this one. scale: "heads" (released) or "width"."""

    def __init__(self, trunk: str = "photo-vit-1", trunk_revision: str = "", tokens: int = 65, head_width: int = 64,
                 heads: int = 3, layers: int = 6, maps: int = 10, scale: str = "heads"):
        super().__init__()
        if scale not in ("heads", "width"):
            raise ValueError(f'scale is "{scale}": choose "heads" or "width"')
        self.trunk, self.trunk_revision = trunk, trunk_revision
        factor = (heads if scale == "heads" else head_width // 2) ** -0.5
        self.layers = nn.ModuleList(Connectivity(tokens, head_width, maps, factor) for _ in range(layers))

    @classmethod
    def beside(cls, model: nn.Module, trunk: str = "", revision: str = "") -> ConnectivityPredictors:
        """Untrained predictors for a ViTForImageClassification: n = int(N / 6)."""
        config = model.config
        tokens = model.vit.embeddings.patch_embeddings.num_patches + 1
        return cls(trunk, revision, tokens, config.hidden_size // config.num_attention_heads,
                   config.num_attention_heads, config.num_hidden_layers, max(2, tokens // 6))

    def learned(self, top: int = TOP, threshold: float = THRESHOLD) -> Score:
        """The paper's score."""
        return lambda layer, q, k: self.layers[layer](q, k, top, threshold)

    def reconstruction(self, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        """0.01 times the sum of squares between A^ and the dense attention of every (q, k), mean over layers."""
        return sum(0.01 * (own.dense(q, k).float() - probabilities(q, k)[:, :, 1:].float()).pow(2).sum()
                   for own, (q, k) in zip(self.layers, seen, strict=True)) / len(self.layers)


def strongest(coefficients: Tensor, top: int) -> Tensor:
    """All but the `top` largest of every row set to zero."""
    kept = coefficients.topk(min(top, coefficients.shape[-1]), -1)
    return torch.zeros_like(coefficients).scatter_(-1, kept.indices, kept.values)


def probabilities(q: Tensor, k: Tensor) -> Tensor:
    """Dense attention [B, H, N, N]: what the predictor is there to avoid."""
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)


# Other scores, for comparison

def oracle(layer: int, q: Tensor, k: Tensor) -> Tensor:
    """The true attention: an upper bound that computes first what it then leaves out."""
    return probabilities(q[:, :, 1:], k)


def window(layer: int, q: Tensor, k: Tensor) -> Tensor:
    """The class token and the nearest patches, whatever the photo."""
    side = int((k.shape[2] - 1) ** 0.5)
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).to(q)  # [L, 2]
    return F.pad(-torch.cdist(places, places), (1, 0), value=1.0)[None, None]


def dice(generator: torch.Generator) -> Score:
    """Keys at random, for every query, head and layer anew."""
    def score(layer: int, q: Tensor, k: Tensor) -> Tensor:
        return torch.rand(*q.shape[:2], q.shape[2] - 1, k.shape[2], generator=generator).to(q)
    return score


KINDS = ("learned", "oracle", "window", "random")


def score_of(kind: str, predictors: ConnectivityPredictors, generator: torch.Generator, top: int = TOP,
             threshold: float = THRESHOLD) -> Score:
    """The score of a kind of mask by its name."""
    return {"learned": predictors.learned(top, threshold), "oracle": oracle, "window": window,
            "random": dice(generator)}[kind]


# Which pairs are computed, and how

def budget(keep: float, tokens: int) -> int:
    """b = ceil(keep N), at least one key."""
    return max(1, min(tokens, math.ceil(round(keep * tokens, 9))))


def chosen(score: Score, keep: float) -> Keys:
    """The b keys [B, H, N - 1, b] of every patch that the score puts first, without gradient. alive bool [B, N]."""
    def keys(layer: int, q: Tensor, k: Tensor, alive: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            scores, count = score(layer, q, k).expand(*q.shape[:2], -1, -1), budget(keep, k.shape[2])
            if alive is not None:
                scores = scores.masked_fill(~alive[:, None, None], float("-inf"))
                count = min(count, int(alive[0].sum()))
            return scores.topk(count, -1, sorted=False).indices
    return keys


def gathered(attention: nn.Module, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None, alive: Tensor | None = None):
    """The same numbers from the kept pairs alone: b keys and values are fetched for every patch; cls stays dense."""
    if keys is None:
        return masked(attention, q, k, v, None, alive)
    scores = q[:, :, :1] @ k.transpose(-1, -2) * attention.scaling  # [B, H, 1, N]
    first = (scores if alive is None else scores.masked_fill(~alive[:, None, None], float("-inf"))).softmax(-1) @ v
    begin = torch.arange(q.shape[0] * q.shape[1], device=q.device).view(*q.shape[:2], 1, 1) * k.shape[2]
    flat = (keys + begin).flatten()
    near, values = (part.flatten(0, 2)[flat].view(-1, keys.shape[-1], part.shape[-1]) for part in (k, v))
    asked = q[:, :, 1:].flatten(0, 2)[:, None]  # [B H L, 1, d]
    weights = torch.bmm(asked, near.transpose(1, 2)).mul(attention.scaling).softmax(-1)  # [B H L, 1, b]
    rest = torch.bmm(weights, values).view(*q.shape[:2], -1, v.shape[-1])
    return torch.cat([first, rest], 2).transpose(1, 2)


def survivors(q: Tensor, k: Tensor, alive: Tensor | None, count: int) -> Tensor:
    """Bool [B, N]: the class token and the `count` patches it looks at most, mean over heads; the dead stay dead."""
    scores = q[:, :, :1] @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # [B, H, 1, N]
    if alive is not None:
        scores = scores.masked_fill(~alive[:, None, None], float("-inf"))
    best = scores.softmax(-1).mean(1)[:, 0, 1:].topk(count, -1).indices + 1
    return torch.zeros(len(q), k.shape[2], dtype=torch.bool, device=q.device).scatter_(1, best, True).index_fill_(
        1, torch.zeros(1, dtype=torch.long, device=q.device), True)


def cuts(layers: int, patches: int, tokens: float) -> dict[int, int]:
    """Layer -> patches that stay behind it: shares base, base^2, base^3 at a quarter, half and three quarters."""
    return {} if tokens >= 1 else {layers * i // 4: math.ceil(round(patches * tokens**i, 9)) for i in (1, 2, 3)}


def states(model: nn.Module, pixels: Tensor, keys: Keys | None = None, mix=masked, tokens: float = 1.0) -> list[Tensor]:
    """Hidden states [B, N, D] after every layer of a ViTForImageClassification.

    keys: see `chosen`; None: dense. tokens: base share of patches that stay; those that leave become zero, and nobody
    looks at them any more.
    """
    hidden, alive, found = model.vit.embeddings(pixels), None, []
    leaving = cuts(len(model.vit.layers), hidden.shape[1] - 1, tokens)
    for number, layer in enumerate(model.vit.layers):
        q, k, v = heads_of(layer, hidden)
        mixed = mix(layer.attention, q, k, v, keys(number, q, k, alive) if keys else None, alive)  # [B, N, H, d]
        hidden = finished(layer, hidden, mixed)
        if number in leaving:
            alive = survivors(q, k, alive, leaving[number])
        found.append(hidden := hidden if alive is None else hidden.masked_fill(~alive[..., None], 0.0))
    return found


def logits(model: nn.Module, pixels: Tensor, keys: Keys | None = None, tokens: float = 1.0) -> Tensor:
    """The classifier's answer [B, C]."""
    return model.classifier(model.vit.layernorm(states(model, pixels, keys, tokens=tokens)[-1][:, 0]))


def dense_heads(model: nn.Module, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """q and k of every layer, tokens flowing densely."""
    found = []

    def listen(attention, q, k, v, keys, alive):
        found.append((q, k))
        return masked(attention, q, k, v, None)

    states(model, pixels, mix=listen)
    return found


def kept_mass(q: Tensor, k: Tensor, keys: Tensor) -> Tensor:
    """Dense attention of patches that some keys [B, H, N - 1, b] hold: [B], mean over patches and heads."""
    return probabilities(q, k)[:, :, 1:].float().gather(-1, keys).sum(-1).mean((1, 2))


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {"photo-sparsifiner-predictor-1": lambda bundle: stirred(ConnectivityPredictors.beside(
    bundle("photo-vit-1").model), "q_proj.weight", "k_proj.weight", "down", "up")}
