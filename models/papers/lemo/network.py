"""LeMo's predictors: which blocks a layer would find informative, guessed from its input alone.

Two features of every token, Q and K, each by three small matrices with ReLU between, mean over a block; a block of
queries with a block of keys is their product. A third such chain guesses how active the MLP will be. Learned beside a
frozen model from its own scores (elimination.py). Letters as there; C features.
"""

from __future__ import annotations

import copy

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.stand_in import stirred
from models.papers.lemo.elimination import PARTS, BlocksKept, Visit, above, at_random, oracle, visits


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

    def forward(self, visit: Visit, size: int) -> Tensor:
        """The oracle's blocks, [M, M] or [1, M], as guessed, in units of their mean."""
        normed = visit.normed
        if visit.part == "mlp":
            return blockwise(self.active[visit.index](normed), size).T
        q, k = (blockwise(chains[visit.index](normed), size) for chains in (self.queries, self.keys))
        return q @ k.T

    @torch.no_grad()
    def keeps(self, visit: Visit, size: int, times: float = 1.0, exact: bool = False) -> BlocksKept:
        """Which blocks are read. exact: by the layer's own scores instead of the guess."""
        blocks = oracle(visit, size) if exact else self(visit, size).float()
        return above(blocks, times * float(self.times[visit.index, PARTS.index(visit.part)]))


def blockwise(features: Tensor, size: int) -> Tensor:
    """Means [M, C] over blocks of features [1, N, C]; the last block may be shorter."""
    return F.avg_pool1d(features[0].T[None], size, ceil_mode=True)[0].T


class BlockChooser:
    """LeMo's choice of rows, made anew at every layer. exact: by the layer's own scores; dice: as many blocks at random
    instead; parts: those that choose, others read everything. found: what was kept, by (layer, part)."""

    def __init__(self, predictors: BlockPredictors, size: int, *, times: float = 1.0, exact: bool = False,
                 dice: torch.Generator | None = None, parts: tuple[str, ...] = PARTS):
        self.predictors, self.size, self.dice, self.parts = predictors, size, dice, parts
        self.times, self.exact = times, exact
        self.found: dict[tuple[int, str], BlocksKept] = {}

    def __call__(self, visit: Visit) -> Tensor | None:
        if visit.part not in self.parts:
            return None
        kept = self.predictors.keeps(visit, self.size, self.times, self.exact)
        if self.dice is not None:
            kept = kept._replace(kept=at_random(kept.kept, self.dice))
        self.found[visit.index, visit.part] = kept
        if bool(kept.kept.all()):
            return None
        return kept.kept.repeat_interleave(self.size)[: visit.x.shape[1]].nonzero()[:, 0]


def best_guesses(predictors: BlockPredictors, own: BlocksKept, visit: Visit, size: int) -> Tensor:
    """bool [M]: as many blocks as a layer's own scores keep, those of the best guesses."""
    guess = predictors(visit, size).float().sum(0)
    return torch.zeros_like(own.kept).index_fill(0, guess.topk(int(own.kept.sum())).indices, True)


def recall(predictors: BlockPredictors, own: BlocksKept, visit: Visit, size: int) -> float:
    """Of the blocks that a layer's own scores keep, the share among as many best guesses."""
    return float(own.kept[best_guesses(predictors, own, visit, size)].float().mean())


@torch.no_grad()
def recalls(predictors: BlockPredictors, model: nn.Module, ids: Tensor, size: int) -> tuple[float, float]:
    """Of a text: recall, and the share that the layers' own scores keep, which dice would find; over layers, parts."""
    seen = [(predictors.keeps(visit, size, exact=True), visit) for visit in visits(model, ids)]
    found = torch.tensor([[recall(predictors, own, visit, size), own.kept.float().mean()] for own, visit in seen])
    return tuple(found.mean(0).tolist())


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

def tuned(bundle):
    """text-ar-1's stand-in as a fine-tune of it."""
    trunk = bundle("text-ar-1")
    return copy.deepcopy(trunk.model), trunk.tokenizer


STAND_INS = {"text-lemo-blocks-1": lambda bundle: stirred(BlockPredictors.beside(bundle("text-ar-1").model), "weight"),
             **dict.fromkeys(("text-lora-lemo-1", "text-lora-full-1", "text-lora-random-1"), tuned)}
