"""Row-wise evaluation: one Llama-layout layer on chosen tokens only, against keys and values addressed by identity.

The layer's own submodules are used (norms, projections, MLP), so nothing is learned or defined twice; it works for the
layers of transformers' LlamaForCausalLM and of MaskedTransformer. A token's identity is its original place in the
sequence: rotary angles and the causal order come from it, however many tokens are left out.

Letters: B batch, R rows computed, M tokens attended to, N capacity, H query heads, G key heads, D model width, W head
width. All index tensors are int64 on the CPU, sorted ascending, the same for the whole batch.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

import kernels
from models.backbones.silence import quiet

CHUNK = 256  # query rows per explicit mask, so that no N x N mask is ever made


class RowsOut(NamedTuple):
    """What one layer gave for R rows. `last` and `stats` are None unless asked for, `query` where the library's own
    forward ran (models/backbones/stacks.py)."""

    hidden: Tensor  # [B, R, D], the layer's output
    query: Tensor | None  # [B, H, R, W], after rotary positions
    last: Tensor | None  # [B, H, M], the last row's attention over attend_to
    stats: kernels.AttentionStats | None


@dataclass
class RowStore:
    """Keys and values of N tokens at L layers, row by row, and what was spent on them.

    known [L, N]: which rows are filled. computed [L, N]: how often each (layer, token) was computed. macs:
    multiply-adds so far: projections and MLP per row, 2 H W per query-key pair that may attend (keys in a causal
    query's future are not counted).
    """

    keys: list[Tensor]  # per layer [B, G, N, W]
    values: list[Tensor]
    known: Tensor  # bool [L, N]
    computed: Tensor  # int32 [L, N]
    macs: int = 0
    linear: tuple[int, ...] = ()  # multiply-adds of one row's projections and MLP, per layer
    query_width: int = 0  # H W

    @classmethod
    def empty(cls, layers: nn.ModuleList, capacity: int, batch: int = 1) -> RowStore:
        """An empty store for these layers, on their device and in their dtype."""
        first = layers[0].self_attn
        width = first.head_dim
        heads, groups = (part.weight.shape[0] // width for part in (first.q_proj, first.k_proj))
        return cls.shaped(layers, capacity, heads, groups, width, batch)

    @classmethod
    def shaped(cls, layers: nn.ModuleList, capacity: int, heads: int, groups: int, width: int,
               batch: int = 1) -> RowStore:
        """An empty store for layers of any family, with so many query heads H, key heads G, each W wide."""
        weight = next(layers.parameters())
        keys, values = ([weight.new_empty(batch, groups, capacity, width) for _ in layers] for _ in range(2))
        flags = torch.zeros(len(layers), capacity)
        return cls(keys, values, flags.bool(), flags.int(), 0, tuple(map(linear_work, layers)), heads * width)

    def write(self, layer: int, rows: Tensor, k: Tensor, v: Tensor) -> None:
        """Puts k, v [B, G, R, W] over the rows of a layer."""
        if (run := one_run(rows)) is not None:
            self.keys[layer][:, :, run], self.values[layer][:, :, run] = k, v
        else:
            where = rows.to(k.device)
            self.keys[layer].index_copy_(2, where, k)
            self.values[layer].index_copy_(2, where, v)
        self.known[layer, rows] = True
        self.computed[layer, rows] += 1

    def narrow(self, batch: int) -> None:
        """Only the first samples go on."""
        if len(self.keys[0]) > batch:
            self.keys, self.values = ([table[:batch] for table in tables] for tables in (self.keys, self.values))

    def read(self, layer: int, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, M, W] of these tokens; ValueError if one of them was never computed."""
        if not bool(self.known[layer, ids].all()):
            raise ValueError(f"layer {layer} is asked to attend to a token it never computed")
        keys, values = self.keys[layer], self.values[layer]
        if (run := one_run(ids)) is not None:
            return keys[:, :, run], values[:, :, run]  # a view, no copy
        where = ids.to(keys.device)
        return keys.index_select(2, where), values.index_select(2, where)

    def cost(self, layer: int, rows: int, pairs: int) -> int:
        """Multiply-adds of computing so many rows of a layer with so many query-key pairs, for the whole batch."""
        return self.keys[layer].shape[0] * (rows * self.linear[layer] + 2 * pairs * self.query_width)

    @property
    def rows(self) -> int:
        """(layer, token) computations so far."""
        return int(self.computed.sum())

    @property
    def bytes(self) -> int:
        """Bytes of the keys and values that are filled."""
        batch, heads, _, width = self.keys[0].shape
        return int(self.known.sum()) * 2 * batch * heads * width * self.keys[0].element_size()

    def copy(self) -> RowStore:
        """A second store with the same contents; writing to one leaves the other."""
        return RowStore([k.clone() for k in self.keys], [v.clone() for v in self.values], self.known.clone(),
                        self.computed.clone(), self.macs, self.linear, self.query_width)


def layer_rows(layer: nn.Module, hidden: Tensor, rows: Tensor, cos_sin: tuple[Tensor, Tensor], store: RowStore,
               index: int, *, attend_to: Tensor, causal: bool = True, want_last: bool = False,
               want_stats: bool = False) -> RowsOut:
    """One decoder layer on R tokens only.

    hidden [B, R, D]: input of the given rows. cos_sin: each [1 or B, R, W], the angles of these rows' ORIGINAL
    positions. The rows' keys and values are computed and written over their store rows; their queries attend to the
    tokens `attend_to` (which must hold the rows if they are to see themselves), with `causal` only to those at or
    before their own position. With rows = attend_to = all tokens this is the library's forward.
    want_last: also the exact attention of the last row. want_stats: run kernels.attention_stats instead of the fused
    attention and return its statistics.
    Raises ValueError when an attended token has no keys and values.
    """
    normed = layer.input_layernorm(hidden)
    q, k, v = project(layer.self_attn, normed, cos_sin)
    store.write(index, rows, k, v)
    same = len(rows) == len(attend_to) and torch.equal(rows, attend_to)
    keys, values = (k, v) if same else store.read(index, attend_to)
    mixed, stats = attention(q, keys, values, rows, attend_to, layer.self_attn.scaling, causal, want_stats)
    last = last_row(q, keys, rows, attend_to, layer.self_attn.scaling, causal) if want_last else None
    mixed = quiet(layer.self_attn, mixed.transpose(1, 2))  # [B, R, H, W]
    hidden = hidden + layer.self_attn.o_proj(mixed.flatten(2))  # [B, R, D]
    hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    pairs = visible(rows, attend_to) if causal else len(rows) * len(attend_to)
    store.macs += store.cost(index, len(rows), pairs)
    return RowsOut(hidden, q, last, stats)


def project(attention: nn.Module, normed: Tensor, cos_sin: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, H, R, W] and keys [B, G, R, W] after rotary positions, values [B, G, R, W]."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    def heads(linear: nn.Linear) -> Tensor:
        return linear(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

    q, k = heads(attention.q_proj), heads(attention.k_proj)
    if hasattr(attention, "q_norm"):  # Qwen 3
        q, k = attention.q_norm(q), attention.k_norm(k)
    q, k = apply_rotary_pos_emb(q, k, *cos_sin)
    return q, k, heads(attention.v_proj)


def attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, attend_to: Tensor, scale: float, causal: bool,
              want_stats: bool) -> tuple[Tensor, kernels.AttentionStats | None]:
    """Attention output [B, H, R, W] of the rows over attend_to, and statistics if wanted."""
    aligned = causal and is_tail(rows, attend_to)  # then "causal" needs no mask, the ends line up
    if want_stats:
        mask = None if aligned or not causal else allowed(rows, attend_to)[None, None].to(q.device)
        stats = kernels.attention_stats(q, k, v, scale=scale, causal=aligned, mask=mask)
        return stats.out, stats
    if not causal or len(rows) == 1 and aligned or aligned and len(rows) == len(attend_to):
        return fused(q, k, v, scale, causal=causal and len(rows) > 1), None
    chunks = [fused(q[:, :, at : at + CHUNK], k, v, scale, mask=allowed(rows[at : at + CHUNK], attend_to).to(q.device))
              for at in range(0, len(rows), CHUNK)]
    return torch.cat(chunks, 2), None


def fused(q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool = False, mask: Tensor | None = None) -> Tensor:
    """torch's fused attention with grouped key heads."""
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale,
                                                      enable_gqa=q.shape[1] != k.shape[1])


def last_row(q: Tensor, k: Tensor, rows: Tensor, attend_to: Tensor, scale: float, causal: bool) -> Tensor:
    """Exact attention [B, H, M] of the last of the rows."""
    mask = allowed(rows[-1:], attend_to)[None, None].to(q.device) if causal else None
    return kernels.attention_rows(q[:, :, -1:], k, torch.zeros(1, dtype=torch.long), scale=scale, mask=mask)[:, :, 0]


def one_run(ids: Tensor) -> slice | None:
    """The slice that holds exactly these identities, if they follow one another."""
    first = int(ids[0]) if len(ids) else 0
    return slice(first, first + len(ids)) if len(ids) and int(ids[-1]) - first + 1 == len(ids) else None


def allowed(rows: Tensor, attend_to: Tensor) -> Tensor:
    """Bool [R, M]: a token sees those at or before its original position."""
    return attend_to <= rows[:, None]


def is_tail(rows: Tensor, attend_to: Tensor) -> bool:
    """Whether the rows are the last tokens of attend_to."""
    return len(rows) <= len(attend_to) and torch.equal(rows, attend_to[len(attend_to) - len(rows) :])


def visible(rows: Tensor, attend_to: Tensor) -> int:
    """Number of query-key pairs that may attend under the causal order."""
    return int(torch.searchsorted(attend_to, rows, right=True).sum())


def linear_work(module: nn.Module) -> int:
    """Multiply-adds per row of the linear maps in a module."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear map
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, (nn.Linear, Conv1D)))


def layer_work(layer: nn.Module, rows: int, seen: int) -> int:
    """Multiply-adds of one layer on so many rows that look at `seen` tokens: projections and MLP, scores and mixing."""
    return rows * linear_work(layer) + 2 * rows * seen * layer.self_attn.q_proj.out_features


def picked(table: Tensor, places: Tensor) -> Tensor:
    """table [B, N, D] at places [B, R]: [B, R, D]."""
    return table.gather(1, places[..., None].expand(-1, -1, table.shape[2]))


def written(table: Tensor, places: Tensor, rows: Tensor) -> Tensor:
    """A copy of table [B, N, D] with rows [B, R, D] at places [B, R]."""
    return table.scatter(1, places[..., None].expand(-1, -1, table.shape[2]), rows.to(table.dtype))
