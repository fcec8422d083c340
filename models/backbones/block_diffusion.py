"""A masked diffusion over blocks of words that come one after the other (arXiv 2503.09573).

    p(x) = prod_b p(x_b | x_<b)     each factor a masked diffusion inside block b, whose length may be any

A token looks at its own block and at all blocks before it. In training a noisy and a clean copy stand side by side: a
noisy block looks at itself and at the clean blocks before it, so that all blocks of a text are learned in one pass. In
writing, the keys and values of finished blocks are kept (`BlockStream`).
Letters: B texts, R of them in a pass, N tokens, W tokens of a window, D width, V words.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones.rows import layer_work
from models.trace import Cost
from models.worlds.world import MASK, PAD

SIZES = (1, 2, 4, 8, 16)
LONGEST = SIZES[-1]


class BlockDiffusionLM(nn.Module, PyTorchModelHubMixin):
    """The layers of a causal language model under the names that they have there, so that a difference can be shipped.
    """

    def __init__(self, vocab_size: int, hidden_size: int = 192, num_hidden_layers: int = 6,
                 num_attention_heads: int = 4, intermediate_size: int = 512):
        super().__init__()
        from models.backbones.masked import MaskedTransformer  # transformers takes its time

        self.model = MaskedTransformer(vocab_size, hidden_size, num_hidden_layers, num_attention_heads, None,
                                       intermediate_size, positions="1d", mask_token_id=MASK)

    def forward(self, noisy: Tensor, clean: Tensor, blocks: Tensor) -> Tensor:
        """Logits [B, N, V] of a noisy copy [B, N] whose clean one stands beside it; blocks [B, N]: the number of the
        block that each token belongs to."""
        count = noisy.shape[1]
        hidden, (cos, sin) = self.model.embed(torch.cat([noisy, clean], 1))
        turned = cos[:, :count].repeat(1, 2, 1), sin[:, :count].repeat(1, 2, 1)  # both copies stand in the same places
        seen = side_by_side(blocks)[:, None]
        for layer in self.model.layers:
            hidden = layer(hidden, attention_mask=seen, position_embeddings=turned)
        return self.head(hidden[:, :count])

    def head(self, hidden: Tensor) -> Tensor:
        """Logits without the mask, which is no word."""
        logits = self.model.head(hidden)
        return logits.index_fill(-1, torch.tensor(MASK, device=logits.device), float("-inf"))


def side_by_side(blocks: Tensor) -> Tensor:
    """Who sees whom [B, 2N, 2N], the noisy copy first: a noisy block itself and the clean ones before it, a clean one
    itself and those before it."""
    mine, theirs = blocks[:, :, None], blocks[:, None]
    return torch.cat([torch.cat([mine == theirs, mine > theirs], 2),
                      torch.cat([torch.zeros_like(mine == theirs), mine >= theirs], 2)], 1)


class Ahead(NamedTuple):
    """What is known before a block begins: the state [R, D] of the last word that stands, the logits [R, 16, V] of as
    many masks behind it, how many words there is room for [R], and the pass's cost for one text."""

    state: Tensor
    logits: Tensor
    room: Tensor
    cost: Cost


class BlockStream:
    """Where some texts stand: keys and values of their finished blocks, which no later pass moves. Texts may stand at
    different places."""

    def __init__(self, model: BlockDiffusionLM, count: int, length: int):
        layers, first = model.model.layers, model.model.layers[0].self_attn
        device = first.q_proj.weight.device
        shape = (2, len(layers), count, first.config.num_key_value_heads, length, first.head_dim)
        self.model, self.length = model, length
        self.kept = torch.zeros(shape, device=device)  # keys and values
        self.ids = torch.full((count, length), MASK, device=device)  # what stands, masks behind it
        self.known = torch.zeros(count, dtype=torch.long, device=device)
        self.turned = tuple(table[0] for table in model.model.embed(torch.zeros(1, length, dtype=torch.long,
                                                                                device=device))[1])

    @torch.inference_mode()
    def look(self, rows: Sequence[int], blocks: Sequence[Sequence[int]]) -> Ahead:
        """Reads one finished block of each text into the cache and, in the same pass, what 16 masks behind it say: no
        finished word sees them."""
        rows, wide = torch.tensor(rows, device=self.known.device), max(map(len, blocks))
        ids = torch.full((len(blocks), wide + LONGEST), PAD, device=rows.device)
        ids[:, wide:] = MASK
        for row, block in zip(ids, blocks, strict=True):
            row[: len(block)] = torch.tensor(block)
        long = torch.tensor(list(map(len, blocks)), device=rows.device)[:, None]
        offset = torch.arange(wide + LONGEST, device=rows.device)
        masks = offset >= wide
        places = self.known[rows][:, None] + torch.where(masks, offset - wide + long, offset)
        there = (places < self.length) & (masks | (offset < long))  # [R, W]
        seen = there[:, None] & (masks[:, None] | ~masks)  # masks see all, a finished word no mask
        hidden = self._read(rows, ids, places.clamp_max(self.length - 1), seen, wide, there)
        row, word = there[:, :wide].nonzero(as_tuple=True)
        self.ids[rows[row], places[row, word]] = ids[row, word]
        self.known[rows] += long[:, 0]
        last = hidden[torch.arange(len(rows), device=rows.device), long[:, 0] - 1]
        return Ahead(last, self.model.head(hidden[:, wide:]).float(), self.length - self.known[rows],
                     self._cost(wide + LONGEST, int(self.known[rows].max()), LONGEST))

    @torch.inference_mode()
    def inside(self, rows: Sequence[int], ids: Tensor) -> tuple[Tensor, Cost]:
        """Logits [R, L, V] of a block [R, L] some of whose words are masked, behind the finished ones."""
        rows = torch.tensor(rows, device=self.known.device)
        places = self.known[rows][:, None] + torch.arange(ids.shape[1], device=rows.device)
        seen = torch.ones(len(rows), 1, ids.shape[1], dtype=torch.bool, device=rows.device)
        hidden = self._read(rows, ids.to(rows.device), places, seen.expand(-1, ids.shape[1], -1))
        return self.model.head(hidden).float(), self._cost(ids.shape[1], int(self.known[rows].max()), ids.shape[1])

    def _read(self, rows, ids, places, seen, keep: int = 0, there: Tensor | None = None) -> Tensor:
        """Last states [R, W] of a window whose words see the cache and, of one another, `seen` [R, W, W]; the first
        `keep` of them that are `there` go into the cache."""
        past = torch.arange(self.length, device=rows.device) < self.known[rows][:, None, None]  # [R, 1, N]
        seen = seen | torch.eye(ids.shape[1], dtype=torch.bool, device=rows.device)  # padding must see something
        seen = torch.cat([past.expand(-1, ids.shape[1], -1), seen], 2)[:, None]
        hidden, turned = self.model.model.embed_tokens(ids), tuple(table[places] for table in self.turned)
        window = _Window(self.kept[:, :, rows])
        for layer in self.model.model.layers:
            hidden = layer(hidden, attention_mask=seen, past_key_values=window, position_embeddings=turned)
        if keep:
            row, word = there[:, :keep].nonzero(as_tuple=True)
            for at, pair in enumerate(window.new):
                self.kept[:, at, rows[row], :, places[row, word]] = torch.stack(pair)[:, row, :, word]
        return hidden

    def _cost(self, window: int, known: int, read_out: int) -> Cost:
        net = self.model.model
        work = len(net.layers) * layer_work(net.layers[0], window, known + window)
        return Cost(1, window * len(net.layers), work + read_out * net.vocab_size * net.config.hidden_size)


class _Window:
    """Stands where transformers' layers expect a cache: what is kept, with the window's own behind it."""

    def __init__(self, kept: Tensor):
        self.kept, self.new = kept, []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_):
        self.new.append((keys, values))
        return tuple(torch.cat([old, now], 2) for old, now in zip(self.kept[:, layer], (keys, values)))
