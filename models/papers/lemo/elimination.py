"""Which blocks of a long text a layer reads while it is fine-tuned, as LeMo (arXiv 2501.09767) says.

At every layer anew, and for attention and MLP apart:

    S_ij   = (1/H) sum_h max(Q_i^h . K_j^h, 0)      raw scores; the sum over heads of the positive ones
    B_mn   = max of S_ij over i in block m, j in block n
    score  = sum_m B_mn                              what block n is to all blocks; of the MLP: its activations
    kept   = score > T_l                             T_l: a multiple of the mean of the layer's scores, its own

What is not kept is not read here, as query, key or MLP input; it rides the residual stream and is asked again at the
next layer. Its activations need no room until the backward pass. The first block always stays (it is the sink of
attention).

Letters: N tokens, M blocks of b, R rows read, H heads, W head width, D width, F neurons of the MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.rows import fused, project

PARTS, LOSS = ("attention", "mlp"), (-1, "loss")
AT_ONCE = 16  # blocks of queries, so that no N x N scores are ever made
Angles = tuple[Tensor, Tensor]


class Kept(NamedTuple):
    """Which blocks of a layer's input are read: kept bool [M] by their scores [M] and the threshold."""

    kept: Tensor
    scores: Tensor
    threshold: float


Chooses = Callable[[int, str, Tensor, Angles], Tensor | None]  # layer, part, its input [1, N, D], angles -> rows [R]


def positive_blocks(q: Tensor, k: Tensor, size: int) -> Tensor:
    """B [M, M] of queries [1, H, N, W] and keys [1, G, N, W] after their rotary positions."""
    q, k = q[0].float(), k[0].float().repeat_interleave(q.shape[1] // k.shape[1], 0)
    found = []
    for some in q.split(size * AT_ONCE, 1):
        scores = (some @ k.transpose(1, 2)).relu().mean(0)  # [r, N], not below 0: padding changes no maximum
        found.append(F.max_pool2d(scores[None], size, ceil_mode=True)[0])
    return torch.cat(found)


def active_blocks(mlp: nn.Module, normed: Tensor, size: int) -> Tensor:
    """[M]: the most that a token of the block makes the MLP's neurons say, of normed inputs [1, N, D]."""
    says = (mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed)).float().relu().mean(-1)  # [1, N]
    return F.max_pool1d(says, size, ceil_mode=True)[0]


def oracle(layer: nn.Module, part: str, x: Tensor, angles: Angles, size: int) -> Tensor:
    """Scores [M] from the layer's own numbers: as dear as the layer itself."""
    if part == "mlp":
        return active_blocks(layer.mlp, layer.post_attention_layernorm(x), size)
    return positive_blocks(*project(layer.self_attn, layer.input_layernorm(x), angles)[:2], size).sum(0)


def above(scores: Tensor, times: float) -> Kept:
    """The blocks above their layer's threshold, which is `times` the mean of its scores; the first one always."""
    threshold = times * float(scores.mean())
    kept = scores > threshold
    kept[0] = True
    return Kept(kept, scores, threshold)


def at_random(like: Tensor, dice: torch.Generator) -> Tensor:
    """As many blocks as in `like` bool [M], the first one among them."""
    kept, others = torch.zeros_like(like), torch.randperm(len(like) - 1, generator=dice) + 1
    kept[0] = True
    kept[others[: int(like.sum()) - 1].to(like.device)] = True
    return kept


def rows_of(kept: Tensor, size: int, count: int) -> Tensor:
    """The tokens [R] of the blocks that are kept."""
    return kept.repeat_interleave(size)[:count].nonzero()[:, 0]


def attend(layer: nn.Module, angles: Angles, x: Tensor, rows: Tensor) -> Tensor:
    """The layer's attention among the rows alone, at their own places: [1, R, D]."""
    turned = tuple(table[:, rows] for table in angles)
    q, k, v = project(layer.self_attn, layer.input_layernorm(x), turned)
    mixed = fused(q, k, v, layer.self_attn.scaling, causal=True)
    return layer.self_attn.o_proj(mixed.transpose(1, 2).flatten(2))


def think(layer: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
    """The layer's MLP of the rows."""
    return layer.mlp(layer.post_attention_layernorm(x))


def carried(x: Tensor, rows: Tensor, part: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """x [1, N, D] with what `part` says of the rows added to them; everything else goes on as it came."""
    if len(rows) == x.shape[1]:
        return x + part(x, rows)
    said = part(x.index_select(1, rows), rows)
    return x.index_add(1, rows, said.to(x.dtype))


def read(model: nn.Module, ids: Tensor, choose: Chooses, enter: Callable[[int, str], None] = lambda *_: None) -> Tensor:
    """Last states [1, N, D] of a causal language model that reads ids [N] as `choose` says, layer by layer. enter: told
    which part comes next."""
    body = model.model
    x = body.embed_tokens(ids[None])
    every = torch.arange(len(ids), device=ids.device)
    angles = body.rotary_emb(x, every[None])
    for index, layer in enumerate(body.layers):
        for part, run in zip(PARTS, (partial(attend, layer, angles), partial(think, layer)), strict=True):
            rows = choose(index, part, x.detach(), angles)
            enter(index, part)
            x = carried(x, every if rows is None else rows, run)
    enter(*LOSS)
    return body.norm(x)


def everything(index: int, part: str, x: Tensor, angles: Angles) -> None:
    """The usual fine-tune: every token is read everywhere."""


def nats(model: nn.Module, ids: Tensor, choose: Chooses = everything) -> Tensor:
    """Mean loss of one text [N + 1]: every position has one, whether its blocks were read or not."""
    logits = model.lm_head(read(model, ids[:-1], choose)[0])
    return F.cross_entropy(logits.float(), ids[1:])


def recalled(wanted: Tensor, guess: Tensor) -> float:
    """Of the wanted blocks bool [M], the share among as many best guesses [M]."""
    return float(wanted[guess.topk(int(wanted.sum())).indices].float().mean())
