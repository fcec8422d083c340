"""Many continuations of one text in a single causal call: who stands where, and who may see whom.

A row sees the real tokens up to its anchor, and a row of a block also sees itself and the earlier rows of its own
block. A real token's anchor is itself, so it sees what it always saw and never a block; a block's anchor is the real
token it stands behind. Blocks hold masks (multi-token prediction) or several questions about one picture.

Letters: T rows of one call, P real tokens that lie in the cache already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CallLayout:
    """Rows of one call, each int64 [T]: position in the text (from 0), block (0: a real token), anchor (the last real
    position seen), mask (its number in the block from 1, 0 for a real token)."""

    position: Tensor
    block: Tensor
    anchor: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.position)

    def __add__(self, other: CallLayout) -> CallLayout:
        """Both in one call; the other's blocks must have numbers of their own."""
        return CallLayout(*(torch.cat([a, b]) for a, b in zip(self.parts, other.parts)))

    @property
    def parts(self) -> tuple[Tensor, ...]:
        return self.position, self.block, self.anchor, self.mask

    def visible(self, past: int = 0) -> Tensor:
        """Which keys each row may see, bool [T, P + T]: the P = `past` real tokens of the cache, then these rows."""
        real, own = self.block == 0, self.block[:, None] == self.block
        before = self.position <= self.anchor[:, None]
        earlier = self.position <= self.position[:, None]
        rows = (real & before) | (~real & own & earlier)
        return torch.cat([torch.arange(past) <= self.anchor[:, None], rows], 1)


def reals(first: int, count: int) -> CallLayout:
    """`count` real tokens from position `first` on."""
    position = torch.arange(first, first + count)
    nothing = torch.zeros(count, dtype=torch.long)
    return CallLayout(position, nothing, position, nothing)


def blocks(anchors: Sequence[int], sizes: Sequence[int]) -> CallLayout:
    """A block of rows 1 .. size behind each anchor; row i stands at anchor + i, where the text would go on."""
    mask = torch.cat([torch.arange(1, size + 1) for size in sizes] or [torch.zeros(0, dtype=torch.long)])
    size = torch.tensor(list(sizes), dtype=torch.long)
    anchor = torch.tensor(list(anchors), dtype=torch.long).repeat_interleave(size)
    return CallLayout(anchor + mask, torch.arange(1, len(size) + 1).repeat_interleave(size), anchor, mask)
