"""LeMo's predictors: which blocks a layer would find informative, guessed from its input alone.

Two features of every token, Q and K, each by three small matrices with ReLU between, mean over a block; a block of
queries with a block of keys is their product, and what a block is to all others the sum over queries. A third such
chain guesses how active the MLP will be. Learned beside a frozen model from its own scores (elimination.py).

Letters as there.
"""

from __future__ import annotations

import copy

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.stand_in import stirred
from models.papers.lemo.elimination import PARTS, Kept, above, at_random, oracle, rows_of


def chain(width: int, inner: int, outer: int) -> nn.Sequential:
    first, second = nn.Linear(width, inner), nn.Linear(inner, inner)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(inner, outer))


class BlockPredictors(nn.Module, PyTorchModelHubMixin):
    """Of every layer of `trunk`; times [L, 2]: the thresholds of attention and MLP, over the mean of the scores."""

    def __init__(self, trunk: str = "text-ar-1", trunk_revision: str = "", layers: int = 6, hidden_size: int = 256,
                 inner: int = 32, outer: int = 16):
        super().__init__()
        self.trunk, self.trunk_revision = trunk, trunk_revision
        self.queries, self.keys, self.active = (
            nn.ModuleList(chain(hidden_size, inner, size) for _ in range(layers)) for size in (outer, outer, 1))
        self.times = nn.Parameter(torch.ones(layers, len(PARTS)), requires_grad=False)

    @classmethod
    def beside(cls, trunk, name: str = "", revision: str = "") -> BlockPredictors:
        return cls(name, revision, trunk.config.num_hidden_layers, trunk.config.hidden_size)

    def pairs(self, index: int, normed: Tensor, size: int) -> Tensor:
        """B [M, M] as guessed from the normed input [1, N, D] of a layer's attention, in units of its mean."""
        q, k = (blockwise(part[index](normed), size) for part in (self.queries, self.keys))
        return q @ k.T

    def activity(self, index: int, normed: Tensor, size: int) -> Tensor:
        """[M], of the normed input of a layer's MLP."""
        return blockwise(self.active[index](normed), size)[:, 0]

    def scores(self, layer: nn.Module, index: int, part: str, x: Tensor, size: int) -> Tensor:
        """Guessed scores [M] of the blocks of a layer's input [1, N, D]."""
        if part == "mlp":
            return self.activity(index, layer.post_attention_layernorm(x), size).float()
        return self.pairs(index, layer.input_layernorm(x), size).float().sum(0)

    def keeps(self, layer: nn.Module, index: int, part: str, x: Tensor, angles, *, size: int, times: float = 1.0,
              exact: bool = False) -> Kept:
        """Which blocks a layer's attention or MLP reads. exact: by the layer's own scores instead of the guess."""
        with torch.no_grad():
            scores = oracle(layer, part, x, angles, size) if exact else self.scores(layer, index, part, x, size)
            return above(scores, times * float(self.times[index, PARTS.index(part)]))


class BlockChooser:
    """LeMo's choice of rows, made anew at every layer. exact: by the layer's own scores; dice: as many blocks at random
    instead; parts: those that choose, others read everything. found: what was kept, by (layer, part)."""

    def __init__(self, predictors: BlockPredictors, model: nn.Module, size: int, *, times: float = 1.0,
                 exact: bool = False, dice: torch.Generator | None = None, parts: tuple[str, ...] = PARTS):
        self.predictors, self.layers, self.size = predictors, model.model.layers, size
        self.dice, self.parts = dice, parts
        self.how = {"size": size, "times": times, "exact": exact}
        self.found: dict[tuple[int, str], Kept] = {}

    def __call__(self, index: int, part: str, x: Tensor, angles) -> Tensor | None:
        if part not in self.parts:
            return None
        kept = self.predictors.keeps(self.layers[index], index, part, x, angles, **self.how)
        if self.dice is not None:
            kept = kept._replace(kept=at_random(kept.kept, self.dice))
        self.found[index, part] = kept
        return rows_of(kept.kept, self.size, x.shape[1])


def blockwise(features: Tensor, size: int) -> Tensor:
    """Means [M, C] over blocks of features [1, N, C]; the last block may be shorter."""
    return F.avg_pool1d(features[0].T[None], size, ceil_mode=True)[0].T


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

def tuned(bundle):
    """text-ar-1's stand-in as a fine-tune of it."""
    trunk = bundle("text-ar-1")
    return copy.deepcopy(trunk.model), trunk.tokenizer


STAND_INS = {"text-lemo-blocks-1": lambda bundle: stirred(BlockPredictors.beside(bundle("text-ar-1").model), "weight"),
             **dict.fromkeys(("text-lora-lemo-1", "text-lora-full-1", "text-lora-random-1"), tuned)}
