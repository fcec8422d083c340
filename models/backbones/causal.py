"""A causal transformer over a grid of codes in raster order, under a condition prefix.

The network is MaskedTransformer's with the causal mask on and the codes shifted by one slot: slot i stands at the place
of code i, carries code i - 1 (slot 0 a start token, the masked network's [MASK]), predicts code i. Places are those of
what is predicted, so "the code above" lies in one direction everywhere, also at the left edge.

Letters: B samples, C condition words, N codes, M slots of one call, D width, V vocabulary.
"""
import torch
from torch import Tensor
from transformers import DynamicCache

from models.backbones.masked import MaskedTransformer
from models.backbones.one_token import one_token


class CausalTransformer(MaskedTransformer):
    """Predicts each code of a picture from the condition and the codes before it."""

    causal = True

    def slots(self, ids: Tensor, cond: Tensor | None = None):
        """Inputs of the first layer for the prefix and the slots of codes 0..N-1, from ids int64 [B, N], whose last
        code is not looked at: hidden [B, C + N, D] and (cos, sin), each [1, C + N, D/H]."""
        start = ids.new_full((len(ids), 1), self.mask_token_id)
        return self.embed(torch.cat([start, ids[:, :-1]], 1), cond)

    def inputs(self, before: Tensor, first: int) -> Tensor:
        """Inputs [B, M, D] of slots first .. first + M - 1, which carry the codes `before` int64 [B, M]; as in `slots`.
        """
        hidden = self.embed_tokens(before)
        if hasattr(self, "embed_rows"):
            at = torch.arange(first, first + before.shape[1], device=before.device)
            hidden = hidden + self.embed_rows(at // self.grid[1]) + self.embed_columns(at % self.grid[1])
        return hidden

    def states(self, hidden: Tensor, angles, cache: DynamicCache | None = None) -> Tensor:
        """Last states [B, M, D], before the final norm, of M slots that follow those in the cache."""
        found = None if cache is None else one_token(self.layers, hidden, angles, cache)
        if found is not None:
            return found
        mask = causal_mask(hidden.shape[1], cache.get_seq_length() if cache else 0, hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=angles, past_key_values=cache, attention_mask=mask)
        return hidden

    def forward(self, ids: Tensor, cond: Tensor | None = None) -> Tensor:
        """Logits [B, N, V] of every code given those before it."""
        return self.head(self.states(*self.slots(ids, cond))[:, self.cond_length :])


def causal_mask(rows: int, before: int, device) -> Tensor | None:
    """Bool [1, 1, M, before + M] for M rows behind a cache; None where the library's own flag says the same.

    (Its flag counts from the upper left: several rows behind a cache would see only the cache's first rows.)
    """
    if rows == 1 or not before:
        return None
    return torch.ones(rows, before + rows, dtype=torch.bool, device=device).tril(before)[None, None]
