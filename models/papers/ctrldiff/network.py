"""The paper's two small networks: the policy over block sizes, and classifiers of partly masked text.

Letters: B texts, N tokens, D width, L sizes, V words, K labels.
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones.block_diffusion import LONGEST, SIZES
from models.backbones.masked import MaskedTransformer
from models.worlds.tales.headings import ABOUT, MOODS
from models.worlds.world import MASK

LABELS = (*MOODS, *ABOUT)
GROUPS = (len(MOODS), len(ABOUT))  # one of the first and one of the others holds for every story


class BlockPolicy(nn.Module, PyTorchModelHubMixin):
    """pi(size | h): of the clean state of the last word that stands [B, D] and the entropies of the next 16 [B, 16]."""

    def __init__(self, width: int = 192, hidden: int = 64):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width + LONGEST, hidden), nn.Tanh(), nn.Linear(hidden, len(SIZES)))
        self.baseline = nn.Linear(width + LONGEST, 1)  # what the return is on average: for training alone

    def forward(self, state: Tensor, entropies: Tensor) -> Tensor:
        """Scores [B, L]."""
        return self.layers(self.features(state, entropies))

    def value(self, state: Tensor, entropies: Tensor) -> Tensor:
        return self.baseline(self.features(state, entropies))[:, 0]

    def features(self, state: Tensor, entropies: Tensor) -> Tensor:
        return torch.cat([self.norm(state), entropies], -1)


class StoryClassifier(nn.Module, PyTorchModelHubMixin):
    """log p(y | x_t) of mood and topic, of a text some of whose words are masked; those still to come are masked, too.
    """

    def __init__(self, vocab_size: int, hidden_size: int = 128, num_hidden_layers: int = 2,
                 num_attention_heads: int = 4, intermediate_size: int = 256):
        super().__init__()
        self.encoder = MaskedTransformer(vocab_size, hidden_size, num_hidden_layers, num_attention_heads, None,
                                         intermediate_size, positions="1d", mask_token_id=MASK)
        self.labels_head = nn.Linear(hidden_size, len(LABELS))

    def forward(self, ids: Tensor) -> Tensor:
        """Scores [B, K], of moods and of topics."""
        return self.scores(*self.encoder.embed(ids))

    def scores(self, embedded: Tensor, turned: tuple[Tensor, Tensor]) -> Tensor:
        """The same of words as vectors [B, N, D]: what the gradient is taken by."""
        for layer in self.encoder.layers:
            embedded = layer(embedded, position_embeddings=turned)
        return self.labels_head(self.encoder.norm(embedded).mean(1))
