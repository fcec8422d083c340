"""The hypernetwork of dynamic tokenization (arXiv 2411.18553): from the tokens that spell a piece to its embeddings.

    u = mean over k of Norm(Transformer(e_1 .. e_k));  input = mean(e) + W_in u,  output = e_1 + W_out u,  bias = w u

e are the frozen trunk's own token embeddings; tokens keep them. The heads start at zero: ours, not zett's.
Letters: B texts, T pieces of a text, U pieces beside the trunk's V tokens, K tokens of a piece, D width.
"""
from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from models.backbones.masked import block_config, blocks
from models.backbones.rows import layer_work
from models.backbones.stand_in import stirred


class EmbeddingHypernetwork(nn.Module, PyTorchModelHubMixin):
    """For the embeddings of `trunk` (a causal model's name) at one revision."""

    def __init__(self, trunk: str = "text-ar-1", trunk_revision: str = "", hidden_size: int = 256,
                 num_attention_heads: int = 4, intermediate_size: int = 384, num_hidden_layers: int = 2):
        super().__init__()
        self.trunk, self.trunk_revision = trunk, trunk_revision
        config = block_config(hidden_size, num_attention_heads, intermediate_size, max_position_embeddings=64)
        self.layers, self.norm = blocks(config, num_hidden_layers), LlamaRMSNorm(hidden_size)
        self.turn = LlamaRotaryEmbedding(config)
        self.input_head, self.output_head = (nn.Linear(hidden_size, hidden_size, bias=False) for _ in range(2))
        self.bias_head = nn.Linear(hidden_size, 1)
        for weight in (self.input_head.weight, self.output_head.weight, *self.bias_head.parameters()):
            nn.init.zeros_(weight)

    @classmethod
    def beside(cls, base, name: str = "", revision: str = "") -> EmbeddingHypernetwork:
        c = base.config
        return cls(name, revision, c.hidden_size, c.num_attention_heads, c.hidden_size * 3 // 2)

    def forward(self, tokens: Tensor, there: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Input [U, D], output [U, D] and bias [U] of its score, from the tokens' [U, K, D]; bool [U, K] are there."""
        hidden, turned = tokens, self.turn(tokens, torch.arange(tokens.shape[1], device=tokens.device)[None])
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=turned, attention_mask=there[:, None, None])
        said = mean(self.norm(hidden), there)
        inputs, outputs = mean(tokens, there) + self.input_head(said), tokens[:, 0] + self.output_head(said)
        return inputs, outputs, self.bias_head(said)[:, 0]

    def work(self, spelled: Sequence[Sequence[int]]) -> int:
        """Multiply-adds for these pieces, all padded to the longest."""
        width, longest = self.norm.weight.numel(), max(map(len, spelled), default=0)
        layers = len(self.layers) * layer_work(self.layers[0], longest, longest)
        return len(spelled) * (layers + width * (2 * width + 1))


def mean(values: Tensor, there: Tensor) -> Tensor:
    """Mean [U, D] over the tokens that are there, of [U, K, D]."""
    weights = there[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1)


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """int64 [rows, longest], -1 behind the shorter ones."""
    rows = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(rows, True, -1) if rows else torch.full((0, 1), -1)


def invented(source: str, hypernetwork, table: Tensor, spelled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of pieces spelled as tokens [U, K] of the trunk's table [V, D]. The rule to beat: their mean, in and out."""
    there, tokens = spelled >= 0, table[spelled.clamp_min(0)]
    if source == "hypernetwork" and len(tokens):  # a short text may have no pieces
        return hypernetwork(tokens, there)
    return (plain := mean(tokens, there)), plain, plain.new_zeros(len(plain))


class LargerVocabulary(nn.Module):
    """The trunk with U pieces from number V on. They stand at consecutive places: a merged text really is shorter."""

    def __init__(self, trunk, made: tuple[Tensor, Tensor, Tensor]):
        super().__init__()
        self.trunk, self.config, self.device = trunk, trunk.config, trunk.device
        table = trunk.get_input_embeddings().weight
        inputs, self.outputs, self.bias = (part.to(table.dtype) for part in made)
        self.rows = torch.cat([table, inputs])

    def forward(self, numbers: Tensor, past_key_values=None, use_cache: bool = False, logits_to_keep: int = 0):
        hidden = self.trunk.model(inputs_embeds=self.rows[numbers.clamp_min(0)], past_key_values=past_key_values,
                                  use_cache=use_cache).last_hidden_state[:, -logits_to_keep:]
        more = hidden @ self.outputs.to(hidden.dtype).T + self.bias.to(hidden.dtype)
        return SimpleNamespace(logits=torch.cat([self.trunk.lm_head(hidden), more], -1))


def larger(trunk, pieces, source: str, hypernetwork) -> LargerVocabulary:
    """The trunk with every piece of a batch, or what has them already."""
    if isinstance(trunk, LargerVocabulary):
        return trunk
    spelled = padded(pieces.spelled[pieces.base :]).to(trunk.device)
    return LargerVocabulary(trunk, invented(source, hypernetwork, trunk.get_input_embeddings().weight, spelled))


@torch.inference_mode()
def read(trunk, texts: Sequence[Sequence[int]], pieces, source: str, hypernetwork=None) -> Tensor:
    """Logits [B, T, V + U] of every piece of a merged batch; each text begins behind the token that ends one."""
    numbers = padded([[trunk.config.eos_token_id, *text] for text in texts]).to(trunk.device)
    return larger(trunk, pieces, source, hypernetwork)(numbers[:, :-1]).logits.float()


STAND_INS = {"text-dynamic-1": lambda bundle: stirred(EmbeddingHypernetwork.beside(bundle("text-ar-1").model))}
