"""ELECTRA's two networks and its losses (arXiv 2003.10555; steps numbered as in google-research/electra).

Generator and discriminator are transformers' own ELECTRA classes; they share one embedding table (tokens, positions,
types and its norm) of the discriminator's embedding size, and each projects it to its own width. Letters: B texts, n
tokens, k selected places, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from models.backbones.electra import proposals
from models.loops.mask.planting import corrupt, sample

LAMBDA = 50.0  # weight of the discriminator's loss


class ElectraPair(nn.Module):
    """A small generator and the discriminator, tied at the embeddings."""

    def __init__(self, generator: ElectraConfig, discriminator: ElectraConfig):
        super().__init__()
        self.discriminator = ElectraForPreTraining(discriminator)
        self.generator = ElectraForMaskedLM(generator)
        self.generator.electra.embeddings = self.discriminator.electra.embeddings
        self.generator.generator_lm_head.weight = self.discriminator.electra.embeddings.word_embeddings.weight

    def losses(self, ids: Tensor, hidden: Tensor, places: Tensor, never: tuple[int, ...] = ()) -> dict[str, Tensor]:
        """Steps 3 to 8. ids, hidden [B, n]: the text and what the generator sees; places [B, k]; never: see `sample`.

        The discriminator's gradient ends at its own network and the shared table: a drawn token is a whole number.
        """
        logits = proposals(self.generator, hidden, places)  # [B, k, V]
        truth = ids.gather(1, places)
        generator = cross_entropy(logits.flatten(0, 1).float(), truth.flatten())
        written = sample(logits.detach().float(), 1.0, never)  # [B, k]
        fake, replaced = corrupt(ids, places, written)  # [B, n] each
        judged = self.discriminator(fake).logits.float()
        discriminator = binary_cross_entropy_with_logits(judged, replaced.float())
        return {"loss": generator + LAMBDA * discriminator, "generator": generator, "discriminator": discriminator,
                "replaced": replaced.float().mean()}


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

def tiny(bundle, kind: type, width: int, heads: int):
    """A stand-in of one of the library's classes, with the stories' tokenizer."""
    torch.manual_seed(0)
    words = bundle("text-ar-1").tokenizer
    config = ElectraConfig(vocab_size=len(words), embedding_size=16, hidden_size=width, num_hidden_layers=2,
                           num_attention_heads=heads, intermediate_size=64, max_position_embeddings=384,
                           initializer_range=0.2, pad_token_id=2, attn_implementation="sdpa")
    return kind(config), words


STAND_INS = {"text-electra-1": lambda bundle: tiny(bundle, ElectraForPreTraining, 32, 4),
             "text-electra-1/generator": lambda bundle: tiny(bundle, ElectraForMaskedLM, 16, 1),
             "text-mlm-1": lambda bundle: tiny(bundle, ElectraForMaskedLM, 32, 4)}
