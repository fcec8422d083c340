"""A classifier of short stories, some of whose words are masked: mood and topic (models/worlds/tales/headings.py).

Letters: B texts, N words, D width, K labels.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.worlds.tales.headings import ABOUT, LENGTH, MOODS
from models.worlds.world import END, MASK

LABELS = (*MOODS, *ABOUT)
GROUPS = (len(MOODS), len(ABOUT))  # one of the first and one of the others holds for every story


class StoryClassifier(nn.Module, PyTorchModelHubMixin):
    """log p(y | x_t) of mood and topic, of a text some of whose words are masked; those still to come are masked, too.
    """

    def __init__(self, vocab_size: int, hidden_size: int = 128, num_hidden_layers: int = 2,
                 num_attention_heads: int = 4, intermediate_size: int = 256):
        super().__init__()
        from models.backbones.masked import MaskedTransformer  # transformers takes its time

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


def label_logp(scores: Tensor, label: int) -> Tensor:
    """log p(y | x) [B] among the labels of its group, from scores [B, K]."""
    group, at = (scores[:, : GROUPS[0]], label) if label < GROUPS[0] else (scores[:, GROUPS[0] :], label - GROUPS[0])
    wanted = torch.full((len(group),), at, device=group.device)
    return -torch.nn.functional.cross_entropy(group.float(), wanted, reduction="none")


@torch.no_grad()
def labels_of(classifier: StoryClassifier, texts: Sequence[Sequence[int]]) -> np.ndarray:
    """The likeliest mood and topic of each whole text, ids, as numbers of LABELS [K, 2]."""
    rows = torch.tensor([[*ids, *[END] * (LENGTH - len(ids))] for ids in texts])
    moods, topics = classifier(rows).split(GROUPS, 1)
    return torch.stack([moods.argmax(1), topics.argmax(1) + GROUPS[0]], 1).numpy()
