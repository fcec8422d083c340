"""The hypernetwork of dynamic tokenization (arXiv 2411.18553): from the tokens that spell a piece to its embeddings.

    u = Norm(Transformer(e_1 .. e_k)), mean over k       [D]
    input = mean(e) + W_in u,  output = e_1 + W_out u,  bias = w u

e are the frozen trunk's own token embeddings. The heads start at zero: an untrained hypernetwork puts the mean of the
tokens in and scores a piece as its first token, so all that it does better is learned. (The paper's, of zett, has no
such start; it is trained for longer.) Pieces of one token keep the trunk's embedding.

Letters: B texts, T pieces of a text, U merged pieces of the batch, K tokens of a piece, D width, V words of the trunk.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from models.backbones.masked import block_config, blocks
from models.backbones.stand_in import stirred
from models.papers.dynamic_tokenization.merging import Pieces

SOURCES = ("hypernetwork", "mean", "sum", "last")


class Invented(NamedTuple):
    """Embeddings of U pieces: input [U, D], output [U, D] and bias [U] of the score."""

    inputs: Tensor
    outputs: Tensor
    bias: Tensor


class EmbeddingHypernetwork(nn.Module, PyTorchModelHubMixin):
    """For the embeddings of `trunk` (a causal model's name) at one revision."""

    def __init__(self, trunk: str = "text-ar-1", trunk_revision: str = "", hidden_size: int = 256,
                 num_attention_heads: int = 4, intermediate_size: int = 384, num_hidden_layers: int = 2):
        super().__init__()
        self.trunk, self.trunk_revision = trunk, trunk_revision
        config = block_config(hidden_size, num_attention_heads, intermediate_size, max_position_embeddings=64)
        self.layers, self.turn = blocks(config, num_hidden_layers), LlamaRotaryEmbedding(config)
        self.norm = LlamaRMSNorm(hidden_size)
        self.input_head, self.output_head = (nn.Linear(hidden_size, hidden_size, bias=False) for _ in range(2))
        self.bias_head = nn.Linear(hidden_size, 1)
        for weight in (self.input_head.weight, self.output_head.weight, *self.bias_head.parameters()):
            nn.init.zeros_(weight)

    @classmethod
    def beside(cls, base, name: str = "", revision: str = "") -> EmbeddingHypernetwork:
        c = base.config
        return cls(name, revision, c.hidden_size, c.num_attention_heads, c.hidden_size * 3 // 2)

    def forward(self, spelled: Tensor, there: Tensor) -> Invented:
        """From embeddings [U, K, D] of the tokens, of which bool [U, K] are there."""
        places, hidden = torch.arange(spelled.shape[1], device=spelled.device)[None], spelled
        turned = self.turn(hidden, places)
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=turned, attention_mask=there[:, None, None])
        said = mean(self.norm(hidden), there)
        return Invented(mean(spelled, there) + self.input_head(said), spelled[:, 0] + self.output_head(said),
                        self.bias_head(said)[:, 0])


def mean(values: Tensor, there: Tensor) -> Tensor:
    """Mean [U, D] over the tokens that are there, of [U, K, D]."""
    weights = there[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1)


def padded(rows: Sequence[Sequence[int]], empty: int) -> Tensor:
    """int64 [rows, longest], `empty` behind the shorter ones."""
    made = np.full((len(rows), max(map(len, rows), default=1)), empty, np.int64)
    for at, row in enumerate(rows):
        made[at, : len(row)] = row
    return torch.from_numpy(made)


def gathered(texts: Sequence[Sequence[int]], pieces: Pieces) -> tuple[Tensor, Tensor]:
    """A merged batch as numbers [B, T] in the vocabulary of the trunk and its own U merged pieces, -1 behind the end;
    and the tokens [U, K] of those pieces, -1 behind the end."""
    own = sorted({piece for text in texts for piece in text if piece >= pieces.base})
    number = {piece: pieces.base + at for at, piece in enumerate(own)}
    rows = [[number.get(piece, piece) for piece in text] for text in texts]
    return padded(rows, -1), padded([pieces.spelled[piece] for piece in own], -1)


def invented(source: str, hypernetwork: EmbeddingHypernetwork | None, table: Tensor, spelled: Tensor) -> Invented:
    """Embeddings of pieces spelled as tokens [U, K], from the trunk's table [V, D]: by the hypernetwork, or by the
    plain rules that it has to beat (each for both input and output)."""
    there = spelled >= 0
    tokens = table[spelled.clamp_min(0)]
    if source == "hypernetwork":
        return hypernetwork(tokens, there)
    plain = {"mean": lambda: mean(tokens, there), "sum": lambda: (tokens * there[..., None]).sum(1),
             "last": lambda: tokens[torch.arange(len(tokens)), there.sum(1) - 1]}[source]()
    return Invented(plain, plain, plain.new_zeros(len(plain)))


def states(trunk, numbers: Tensor, made: Invented) -> Tensor:
    """The trunk's last states [B, T, D] of a merged batch [B, T]. Pieces stand at consecutive places: a merged text is
    shorter for the trunk, too."""
    table = trunk.get_input_embeddings().weight
    rows = torch.cat([table, made.inputs.to(table.dtype)])
    return trunk.model(inputs_embeds=rows[numbers.clamp_min(0)], use_cache=False).last_hidden_state


def scores(trunk, hidden: Tensor, made: Invented) -> Tensor:
    """Logits [..., V + U] of what comes next: a token of the trunk's, or a piece of this batch."""
    return torch.cat([trunk.lm_head(hidden), hidden @ made.outputs.to(hidden.dtype).T + made.bias.to(hidden.dtype)], -1)


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {"text-dynamic-1": lambda bundle: stirred(EmbeddingHypernetwork.beside(bundle("text-ar-1").model))}
