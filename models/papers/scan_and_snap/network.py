"""One layer of attention and a linear decoder in the paper's two tables, and their training by plain SGD.

Z[m, l], here `logits`, is how much the query word m looks at word l; Y, here `decoder`, turns what was seen into the
next word. There is nothing else: no W_Q, W_K, W_V, no positions, no temperature. Equal words of a context have equal
attention, so a context is held as counts of words, which is exact.

Letters: B texts, M words of the vocabulary, L length of a text, its last word, the query, included.
"""
from __future__ import annotations

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from models.worlds.topics import FactSet

BATCH, MOMENTUM = 128, 0.9


class PairwiseTransformer(nn.Module, PyTorchModelHubMixin):
    """Both tables begin at zero: attention is even, and every word is as likely to be next."""

    def __init__(self, vocab_size: int = 128):
        super().__init__()
        self.decoder = nn.Parameter(torch.zeros(vocab_size, vocab_size))  # Y
        self.logits = nn.Parameter(torch.zeros(vocab_size, vocab_size))  # Z

    def attend(self, counts: Tensor, query: Tensor) -> Tensor:
        """Attention [B, M] that each word of a context gets, all its places together. counts [B, M]: how often it
        stands there, or its chance; the query's own place is not among them. query [B]."""
        z = self.logits[query]
        weights = counts * (z - z.amax(1, keepdim=True)).exp()
        return weights / weights.sum(1, keepdim=True)

    def forward(self, counts: Tensor, query: Tensor) -> Tensor:
        """Logits [B, M] of the next word: Y f / |f|, whose norm stands for LayerNorm."""
        return F.linear(F.normalize(self.attend(counts, query)), self.decoder)

    def beginning(self, size: int) -> PairwiseTransformer:
        """The first `size` words as a network of its own, which may be trained."""
        made = PairwiseTransformer(size)
        with torch.no_grad():
            made.decoder.copy_(self.decoder[:size, :size])
            made.logits.copy_(self.logits[:size, :size])
        return made.to(self.decoder.device).requires_grad_(True)


class SnapTraining:
    """A network that learns a set of facts, a fresh batch every step. frozen: the decoder stays as it is."""

    def __init__(self, net: PairwiseTransformer, world: FactSet, *, length: int, rate: float, ratio: float,
                 dice: torch.Generator, frozen: bool = False):
        self.net, self.length, self.dice = net, length, dice
        self.place = net.decoder.device
        self.chance = torch.from_numpy(world.chance).float()  # [F, M]
        self.query, self.next = torch.from_numpy(world.query), torch.from_numpy(world.next)
        sums = world.chance.cumsum(1)
        self.ladder = (sums / sums[:, -1:] + np.arange(len(sums))[:, None]).ravel()  # fact f from f to f + 1
        net.decoder.requires_grad_(not frozen)
        groups = [{"params": [net.logits], "lr": rate}, {"params": [net.decoder], "lr": ratio * rate}]
        self.optimiser = torch.optim.SGD(groups[:1 if frozen else 2], momentum=MOMENTUM)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Counts [B, M] of L - 1 words drawn independently, queries [B] and next words [B]."""
        size = self.chance.shape[1]
        fact = torch.randint(len(self.query), (BATCH,), generator=self.dice)
        at = fact[:, None] + torch.rand(BATCH, self.length - 1, generator=self.dice, dtype=torch.float64)
        # in NumPy: torch's threads would wait for each other longer than they work
        drawn = np.searchsorted(self.ladder, at.numpy(), side="right") - size * fact[:, None].numpy()
        cells = drawn + size * np.arange(BATCH)[:, None]
        counts = torch.from_numpy(np.bincount(cells.ravel(), minlength=BATCH * size).reshape(BATCH, size)).float()
        return counts.to(self.place), self.query[fact].to(self.place), self.next[fact].to(self.place)

    @property
    def macs(self) -> int:
        """Multiply-adds of a step: the decoder forward, back to its weights and, from them, to attention."""
        words = self.chance.shape[1]
        return (1 if not self.net.decoder.requires_grad else 2) * BATCH * words**2 + BATCH * words**2

    @torch.enable_grad()
    def step(self) -> float:
        """One step of SGD; the loss before it, in nats."""
        counts, query, target = self.batch()
        loss = F.cross_entropy(self.net(counts, query), target)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def attention(self) -> Tensor:
        """c [F, M]: the attention that each word gets before each fact, expected over contexts, from Z itself."""
        return self.net.attend(self.chance.to(self.place), self.query.to(self.place)).cpu()


def roughened(net: PairwiseTransformer, dice: torch.Generator, size: float = 0.01, decoder: bool = True) -> None:
    """A small random start instead of zeros."""
    with torch.no_grad():
        for table in (net.logits, net.decoder)[:2 if decoder else 1]:
            table.add_(size * torch.randn(table.shape, generator=dice).to(table.device))


STAND_INS = {"facts-scan-1": lambda bundle: PairwiseTransformer()}
