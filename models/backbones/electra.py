"""transformers' own ELECTRA networks asked at selected places, and what a pass costs.

Letters: B texts, n tokens, k selected places, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor
from transformers import ElectraConfig, ElectraForMaskedLM

from models.backbones import masked_lm


def proposals(model: ElectraForMaskedLM, hidden: Tensor, places: Tensor) -> Tensor:
    """Logits [B, k, V] at the selected places alone; the other positions never reach the vocabulary. A masked language
    model of another kind answers at all of them, and these are taken."""
    if not isinstance(model, ElectraForMaskedLM):
        return masked_lm.proposals(model, hidden, places)
    states = model.electra(hidden).last_hidden_state
    states = states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
    return model.generator_lm_head(model.generator_predictions(states))


def macs(config: ElectraConfig, n: int, k: int = 0) -> int:
    """Multiply-adds of one pass over n tokens that asks k places for words; k = 0: a verdict on every token."""
    c = config
    if getattr(c, "embedding_size", None) is None or c.model_type != "electra":
        inner = getattr(c, "intermediate_size", None) or c.hidden_dim
        block = n * (4 * c.hidden_size**2 + 2 * c.hidden_size * inner) + 2 * n * n * c.hidden_size
        return c.num_hidden_layers * block + k * (c.hidden_size**2 + c.hidden_size * c.vocab_size)
    block = n * (4 * c.hidden_size**2 + 2 * c.hidden_size * c.intermediate_size) + 2 * n * n * c.hidden_size
    into = n * c.embedding_size * c.hidden_size if c.embedding_size != c.hidden_size else 0
    words = k * (c.hidden_size * c.embedding_size + c.embedding_size * c.vocab_size)
    return into + c.num_hidden_layers * block + (words if k else n * (c.hidden_size**2 + c.hidden_size))
