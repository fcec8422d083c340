"""P(next | token) as counted on a text: what a bigram subnetwork is taught, and what it is compared with.

Nothing is smoothed and nothing left out: a pair that the text has not has probability 0. After a token that the text
never goes on from, the words' own shares stand (the authors' back-off). The counts lie as two bytes per pair, its
distance from the pair before and 15 log2 of its count (within 2.4 %, up to 22 exact).

Letters: V vocabulary, M bytes, P positions.
"""
from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones import weight_masks
from models.engine.statistics import LEAST

FINE = 15  # steps of a doubling
LONG = 255  # a byte that says: 255 further, and the pair is still to come


class BigramTable(nn.Module, PyTorchModelHubMixin):
    """The pairs of a text by (token, next token), in order."""

    def __init__(self, vocab_size: int = 4096, distances: int = 0, pairs: int = 0):
        super().__init__()
        self.vocab_size = vocab_size
        self.register_buffer("distances", torch.zeros(distances, dtype=torch.uint8))
        self.register_buffer("counts", torch.zeros(pairs, dtype=torch.uint8))

    @classmethod
    def counted(cls, stream: np.ndarray, vocab_size: int) -> BigramTable:
        """The table of a stream of tokens."""
        keys, counts = np.unique(stream[:-1].astype(np.int64) * vocab_size + stream[1:], return_counts=True)
        far = np.diff(keys, prepend=0)
        distances = np.full(int((far // LONG + 1).sum()), LONG, np.uint8)
        distances[np.cumsum(far // LONG + 1) - 1] = far % LONG
        made = cls(vocab_size, len(distances), len(keys))
        made.distances = torch.from_numpy(distances)
        made.counts = torch.from_numpy(np.round(FINE * np.log2(counts)).astype(np.uint8))
        return made

    @cached_property
    def listed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where each token's pairs begin [V + 1], the next tokens and their probabilities, pair by pair."""
        sums = self.distances.long().cumsum(0)
        token, after = (lambda keys: (keys // self.vocab_size, keys % self.vocab_size))(sums[self.distances < LONG])
        counts = torch.exp2(self.counts.double() / FINE).round()
        totals = torch.zeros(self.vocab_size, dtype=counts.dtype, device=counts.device).index_add_(0, token, counts)
        starts = torch.searchsorted(token, torch.arange(self.vocab_size + 1, device=token.device))
        return starts, after, (counts / totals[token]).float()

    @cached_property
    def alone(self) -> Tensor:
        """P(next) [V] whatever comes before."""
        starts, after, _ = self.listed
        counts = torch.exp2(self.counts.double() / FINE).round()
        return torch.bincount(after, counts, self.vocab_size).div(counts.sum()).float()

    def forward(self, ids: Tensor) -> Tensor:
        """P(next | token) [P, V] of tokens [P]."""
        starts, after, shares = self.listed
        found = torch.zeros(len(ids), self.vocab_size, device=ids.device)
        for row, token in enumerate(ids.tolist()):
            first, end = int(starts[token]), int(starts[token + 1])
            if first < end:
                found[row, after[first:end]] = shares[first:end]
            else:
                found[row] = self.alone
        return found


def surprisals(logp: Tensor, ids: Tensor) -> Tensor:
    """-log p [B, N - 1] in nats of tokens ids [B, N] after the first, from logp [B, N - 1, V] of what comes next."""
    return -logp.gather(-1, ids[:, 1:, None])[..., 0]


def correlation(mine: Tensor, bigram: Tensor) -> float:
    """Pearson's r of surprisals over the pairs that the table knows, NaN for fewer than LEAST. What a network calls
    impossible counts as the worst that it calls possible."""
    seen = torch.isfinite(bigram)
    if seen.sum() < LEAST:
        return float("nan")
    mine = mine[seen].nan_to_num(posinf=float(mine[torch.isfinite(mine)].max()))
    return float(torch.corrcoef(torch.stack([mine, bigram[seen]]))[0, 1])


# ---- for tests: stand-ins in the shipped layouts; `bundle` gives other checkpoints'

def tiny(bundle):
    """text-ar-1's stand-in with a third of its weights."""
    trunk = bundle("text-ar-1")
    masks = {name: torch.rand(weight.shape) < 0.3 for name, weight in weight_masks.maskable(trunk.model).items()}
    return weight_masks.partial(trunk.model, masks), trunk.tokenizer


def tiny_table(bundle) -> BigramTable:
    tokenizer = bundle("text-ar-1").tokenizer
    ids = tokenizer("Once upon a time there was a little red hen. The hen lived near a mill. ")["input_ids"]
    return BigramTable.counted(np.array(ids * 3), len(tokenizer))


STAND_INS = {**dict.fromkeys(("text-bigram-10-1", "text-bigram-100-1"), tiny), "text-bigrams-1": tiny_table}
