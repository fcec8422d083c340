"""A bidirectional transformer over discrete tokens, some of which are masked, with an optional condition prefix.

The blocks are transformers' Llama decoder layers with the causal mask off, so the library's attention hook sees every
attention call here as it sees any model's. Used for masked pictures (codes of a tokenizer) and masked text.
"""
import math

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from models.backbones.rows import layer_work, picked

NULL = 0  # the condition word that says nothing; a condition of NULLs alone is the unconditional model


class MaskedTransformer(nn.Module, PyTorchModelHubMixin):
    """Predicts every token of a sequence from the ones that are not masked.

    vocab_size V: tokens that can be predicted. mask_token_id: id of [MASK]; V itself by default (one more embedding
    row, never predicted). positions: "1d" (text) or "2d" (row-major grid). grid: (rows, columns) of the full picture.
    cond_vocab_size: condition words including NULL = 0; cond_length C: number of prefix slots (0 = no condition).

    Sequence: C prefix tokens, then N tokens. Rotary positions: prefix tokens stand at the origin (no rotation) and are
    told apart by a learned slot embedding, so scores among them do not depend on a grid; token i stands at i + 1 in
    "1d"; in "2d" the first half of every head's frequencies turns with row + 1, the other half with column + 1.
    `absolute` adds a learned row and column embedding (2-D) for what depends on the place in the picture.
    """

    causal = False  # whether the library's attention looks at what comes before only

    def __init__(self, vocab_size: int, hidden_size: int = 256, num_hidden_layers: int = 8,
                 num_attention_heads: int = 4, num_key_value_heads: int | None = None,
                 intermediate_size: int | None = None, positions: str = "2d", grid: tuple[int, int] = (16, 16),
                 absolute: bool = False, mask_token_id: int | None = None, cond_vocab_size: int = 0,
                 cond_length: int = 0, tie_word_embeddings: bool = True, rope_theta: float = 10000.0,
                 rms_norm_eps: float = 1e-5):
        super().__init__()
        if positions not in ("1d", "2d"):
            raise ValueError(f'positions is "{positions}": choose "1d" or "2d"')
        head = hidden_size // num_attention_heads
        if hidden_size % num_attention_heads or head % (4 if positions == "2d" else 2):
            raise ValueError("hidden_size / num_attention_heads must be a multiple of 4 (2-D) or 2 (1-D)")
        self.vocab_size, self.positions, self.grid = vocab_size, positions, tuple(grid)
        self.mask_token_id = vocab_size if mask_token_id is None else mask_token_id
        self.cond_length, self.rope_theta, self.head_dim = cond_length, rope_theta, head
        self.config = block_config(
            hidden_size, num_attention_heads, intermediate_size or 64 * round(hidden_size * 8 / 3 / 64), rms_norm_eps,
            num_key_value_heads=num_key_value_heads or num_attention_heads, vocab_size=vocab_size,
            num_hidden_layers=num_hidden_layers)
        self.embed_tokens = nn.Embedding(max(vocab_size, self.mask_token_id + 1), hidden_size)
        if cond_length:
            self.embed_cond = nn.Embedding(cond_vocab_size, hidden_size)
            self.embed_slots = nn.Embedding(cond_length, hidden_size)
        if absolute:
            self.embed_rows = nn.Embedding(self.grid[0], hidden_size)
            self.embed_columns = nn.Embedding(self.grid[1], hidden_size)
        self.layers = blocks(self.config, num_hidden_layers, self.causal)
        self.norm = LlamaRMSNorm(hidden_size, eps=rms_norm_eps)
        self.lm_head = None if tie_word_embeddings else nn.Linear(hidden_size, vocab_size, bias=False)
        self.apply(_initialise)

    def embed(self, ids, cond=None, grid=None):
        """Input of the first layer and the rotary tables.

        ids [B, N]; cond [B, C] condition words, None = the null condition; grid (rows, columns) of these N tokens,
        by default the full picture's, or a square. Returns hidden [B, C + N, D] and (cos, sin), each [1, C + N, D/H].
        """
        hidden = self.embed_tokens(ids)  # [B, N, D]
        rows, columns = self._places(ids.shape[1], grid, ids.device)
        if hasattr(self, "embed_rows"):
            hidden = hidden + self.embed_rows(rows) + self.embed_columns(columns)
        if self.cond_length:
            cond = self._condition(ids, cond)
            slots = torch.arange(self.cond_length, device=ids.device)
            hidden = torch.cat([self.embed_cond(cond) + self.embed_slots(slots), hidden], 1)
        elif cond is not None:
            raise ValueError("this network was built without a condition: pass cond=None")
        return hidden, self._rotary(rows, columns)

    def forward(self, ids, cond=None, grid=None):
        """Logits of all N tokens, masked or not: [B, N, V]. Arguments as in `embed`."""
        return self.head(self.look(ids, cond, grid)[:, self.cond_length :])

    def look(self, ids, cond=None, grid=None, there=None):
        """Last states [B, C + N, D] of one pass over all tokens; other arguments as in `embed`.

        there: bool [B, N], false for padding behind a text, which nobody may see.
        """
        hidden, position_embeddings = self.embed(ids, cond, grid)
        seen = None if there is None else nn.functional.pad(there, (self.cond_length, 0), value=True)[:, None, None]
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=seen, position_embeddings=position_embeddings)
        return hidden

    def read(self, looked, positions):
        """Logits [B, P, V] at tokens [B, P] of the N, from last states [B, C + N, D]."""
        return self.head(picked(looked, positions + self.cond_length))

    def with_null(self, cond):
        """The condition [B, C], then the one that says nothing: [2B, C]."""
        return torch.cat([cond, torch.full_like(cond, NULL)])

    def spent(self, tokens, read_out, layers=None):
        """Rows and multiply-adds of one sample's pass over all its tokens, condition included: projections and MLP,
        attention, head at `read_out` tokens. layers: how many of this shape are run, by default all."""
        layers = len(self.layers) if layers is None else layers
        head = read_out * self.vocab_size * self.config.hidden_size
        return layers * tokens, layers * layer_work(self.layers[0], tokens, tokens) + head

    def head(self, hidden):
        """Final norm and output projection: [B, M, D] -> [B, M, V]."""
        hidden = self.norm(hidden)
        if self.lm_head is not None:
            return self.lm_head(hidden)
        return nn.functional.linear(hidden, self.embed_tokens.weight[: self.vocab_size])

    def _condition(self, ids, cond):
        if cond is None:
            return torch.full((len(ids), self.cond_length), NULL, device=ids.device)
        if cond.shape != (len(ids), self.cond_length):
            raise ValueError(f"cond has shape {tuple(cond.shape)}: it must be {(len(ids), self.cond_length)}")
        return cond

    def _places(self, n, grid, device):
        """Row and column of each of n tokens; in 1-D the row is the index and the column is 0."""
        index = torch.arange(n, device=device)
        if self.positions == "1d":
            return index, torch.zeros_like(index)
        side = math.isqrt(n)
        grid = grid or (self.grid if self.grid[0] * self.grid[1] == n else (side, side))
        if grid[0] * grid[1] != n:
            raise ValueError(f"{n} tokens do not fill a grid of {grid[0]} x {grid[1]}")
        return index // grid[1], index % grid[1]

    def _rotary(self, rows, columns):
        """cos and sin [1, C + N, head_dim] in the layout of transformers' apply_rotary_pos_emb (two equal halves)."""
        dtype = self.embed_tokens.weight.dtype
        if self.positions == "2d":
            return rotary(rows + 1, columns + 1, self.cond_length, self.head_dim, self.rope_theta, dtype)
        pairs = self.head_dim // 2
        return _waves((rows + 1)[:, None] * _frequencies(pairs, self.rope_theta, rows.device), self.cond_length, dtype)


def block_config(width: int, heads: int, inside: int, eps: float = 1e-5, **more) -> LlamaConfig:
    """Of Llama blocks: width, heads, width of the MLP; as many key heads unless `more` says otherwise."""
    return LlamaConfig(**{"hidden_size": width, "num_attention_heads": heads, "num_key_value_heads": heads,
                          "intermediate_size": inside, "rms_norm_eps": eps, "attn_implementation": "sdpa", **more})


def blocks(config: LlamaConfig, count: int, causal: bool = False) -> nn.ModuleList:
    """So many of them, in which everybody sees everybody unless a mask or `causal` says otherwise."""
    made = nn.ModuleList(LlamaDecoderLayer(config, i) for i in range(count))
    for layer in made:
        layer.self_attn.is_causal = causal
    return made


def rotary(rows, columns, prefix: int, head_dim: int, theta: float, dtype):
    """cos and sin [1, prefix + N, head_dim] of N tokens in a plane: half of the frequencies turn with the row [N], half
    with the column; prefix tokens are not turned."""
    f = _frequencies(head_dim // 4, theta, rows.device)
    return _waves(torch.cat([rows[:, None] * f, columns[:, None] * f], 1), prefix, dtype)


def _waves(angles, prefix: int, dtype):
    """cos and sin [1, prefix + N, 2 pairs] of angles [N, pairs]."""
    angles = torch.cat([angles.new_zeros(prefix, angles.shape[1]), angles])
    angles = torch.cat([angles, angles], 1)[None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _frequencies(count: int, theta: float, device):
    return theta ** (-torch.arange(count, device=device, dtype=torch.float32) / count)


def _initialise(module):
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
