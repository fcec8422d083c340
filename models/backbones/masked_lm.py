"""transformers' own masked language models, asked in the two ways that our loops ask: at chosen places, and as a
backbone that fills in a text.

Letters: B texts, n tokens, k selected places, N tokens of the canvas, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

AT_ONCE = 8  # texts in one pass: their logits of every place are many


def proposals(model, hidden: Tensor, places: Tensor) -> Tensor:
    """Logits [B, k, V] at the selected places [B, k] of any masked language model."""
    found = [model(some).logits.gather(1, at[..., None].expand(-1, -1, model.config.vocab_size))
             for some, at in zip(hidden.split(AT_ONCE), places.expand(len(hidden), -1).split(AT_ONCE))]
    return torch.cat(found)


def work(model, tokens: int) -> int:
    """Multiply-adds of one pass over so many tokens: every matrix of the network once per token, and attention."""
    matrices = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    return tokens * matrices + 2 * tokens**2 * model.config.hidden_size * model.config.num_hidden_layers


class MaskedBackbone:
    """A masked language model as models/loops/unmask asks its networks; the canvas holds what its tokenizer puts around
    a text. What was looked at is the logits themselves."""

    cond_length = 0

    def __init__(self, model, tokenizer):
        self.model, self.mask_token_id, self.embed_tokens = model, tokenizer.mask_token_id, model.get_input_embeddings()

    def look(self, ids: Tensor, cond=None) -> Tensor:
        """Logits [B, N, V] of one pass over all tokens."""
        return self.model(ids).logits

    def read(self, looked: Tensor, positions: Tensor) -> Tensor:
        """Logits [B, P, V] at tokens [B, P] of the canvas."""
        return looked.gather(1, positions[..., None].expand(-1, -1, looked.shape[2]))

    def spent(self, tokens: int, read_out: int, layers: int | None = None) -> tuple[int, int]:
        """Rows and multiply-adds of one sample's pass over all its tokens."""
        return tokens * self.model.config.num_hidden_layers, work(self.model, tokens)
