"""Which blocks of a long text a layer reads while it is fine-tuned, as LeMo (arXiv 2501.09767) says.

At every layer anew, and for attention and MLP apart:

    S_ij   = (1/H) sum_h max(Q_i^h . K_j^h, 0)      raw scores; the sum over heads of the positive ones
    B_mn   = max of S_ij over i in block m, j in block n
    score  = sum_m B_mn                              what block n is to all blocks; of the MLP: its activations
    kept   = score > T_l                             T_l: a multiple of the mean of the layer's scores, its own

What is not kept is not read here, as query, key or MLP input; it rides the residual stream and is asked again at the
next layer. Its activations need no room until the backward pass. The first block always stays (it is the sink of
attention).

Letters: N tokens, M blocks of b, R rows read, H heads, W head width, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.rows import fused, project

PARTS, LOSS = ("attention", "mlp"), (-1, "loss")
AT_ONCE = 16  # blocks of queries, so that no N x N scores are ever made


class Visit(NamedTuple):
    """A part of a layer about to read: number and part, the layer, its input [1, N, D], angles of all places."""

    index: int
    part: str
    layer: nn.Module
    x: Tensor
    angles: tuple[Tensor, Tensor]

    @property
    def normed(self) -> Tensor:
        return (self.layer.input_layernorm if self.part == PARTS[0] else self.layer.post_attention_layernorm)(self.x)

    def said(self, rows: Tensor) -> Tensor:
        """What the part says of some rows, which see none but themselves, at their own places: [1, R, D]."""
        normed = self._replace(x=self.x if len(rows) == self.x.shape[1] else self.x.index_select(1, rows)).normed
        if self.part == "mlp":
            return self.layer.mlp(normed)
        attention = self.layer.self_attn
        q, k, v = project(attention, normed, tuple(table[:, rows] for table in self.angles))
        return attention.o_proj(fused(q, k, v, attention.scaling, causal=True).transpose(1, 2).flatten(2))


Chooses = Callable[[Visit], Tensor | None]  # -> rows [R], or None for all


def everything(visit: Visit) -> None:
    """The usual fine-tune: every token is read everywhere."""


def carried(visit: Visit, rows: Tensor) -> Tensor:
    """The input with what the part says of the rows added to them; everything else goes on as it came."""
    return visit.x.index_add(1, rows, visit.said(rows).to(visit.x.dtype))


def read(model: nn.Module, ids: Tensor, choose: Chooses, enter: Callable[[int, str], None] = lambda *_: None) -> Tensor:
    """Last states [1, N, D] of a causal language model that reads ids [N] as `choose` says, layer by layer. enter: told
    which part comes next."""
    body, every = model.model, torch.arange(len(ids), device=ids.device)
    x = body.embed_tokens(ids[None])
    angles = body.rotary_emb(x, every[None])
    for index, layer in enumerate(body.layers):
        for part in PARTS:
            visit = Visit(index, part, layer, x, angles)
            rows = choose(visit._replace(x=x.detach()))
            enter(index, part)
            x = x + visit.said(every) if rows is None else carried(visit, rows)
    enter(*LOSS)
    return body.norm(x)


def nats(model: nn.Module, ids: Tensor, choose: Chooses = everything) -> Tensor:
    """Mean loss of one text [N + 1]: every position has one, whether its blocks were read or not."""
    return F.cross_entropy(model.lm_head(read(model, ids[:-1], choose)[0]).float(), ids[1:])


@torch.no_grad()
def visits(model: nn.Module, ids: Tensor) -> list[Visit]:
    """Of a text that is read whole."""
    found: list[Visit] = []
    read(model, ids, found.append)
    return found


def positive_blocks(q: Tensor, k: Tensor, size: int) -> Tensor:
    """B [M, M] of queries [1, H, N, W] and keys [1, G, N, W] after their rotary positions."""
    q, k = q[0].float(), k[0].float().repeat_interleave(q.shape[1] // k.shape[1], 0)
    found = []
    for some in q.split(size * AT_ONCE, 1):
        scores = (some @ k.transpose(1, 2)).relu().mean(0)  # [r, N], not below 0: padding changes no maximum
        found.append(F.max_pool2d(scores[None], size, ceil_mode=True)[0])
    return torch.cat(found)


def oracle(visit: Visit, size: int) -> Tensor:
    """B [M, M] of a layer's attention, or of its MLP [1, M] the most that a token of the block makes its neurons say;
    from the layer's own numbers, so as dear as the layer itself."""
    if visit.part == "attention":
        return positive_blocks(*project(visit.layer.self_attn, visit.normed, visit.angles)[:2], size)
    mlp, normed = visit.layer.mlp, visit.normed
    active = (mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed)).float().relu().mean(-1)  # [1, N]
    return F.max_pool1d(active, size, ceil_mode=True)


class BlocksKept(NamedTuple):
    """Which blocks are read: bool [M], their scores over the mean [M], and the threshold."""

    kept: Tensor
    scores: Tensor
    threshold: float


def above(blocks: Tensor, threshold: float) -> BlocksKept:
    """Of blocks [M, M] or [1, M] those whose sum over queries is above a multiple of the mean; the first one always."""
    scores = blocks.sum(0)
    scores = scores / scores.mean()
    kept = scores > threshold
    kept[0] = True
    return BlocksKept(kept, scores, threshold)


def at_random(like: Tensor, dice: torch.Generator) -> Tensor:
    """As many blocks as in `like` bool [M], the first one among them."""
    kept, others = torch.zeros_like(like), torch.randperm(len(like) - 1, generator=dice) + 1
    kept[0] = True
    kept[others[: int(like.sum()) - 1].to(like.device)] = True
    return kept
