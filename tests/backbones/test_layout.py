"""Blocks behind one text: who may see whom, row by row, with the mistakes that an ordinary mask would make."""

import torch

from models.backbones.layout import CallLayout, blocks, reals
from tests.traps import caught


def triangle(self, past=0):
    """Mutant: whatever stands earlier is seen, blocks too, as in an ordinary causal mask."""
    rows = self.position <= self.position[:, None]
    return torch.cat([torch.ones(len(rows), past, dtype=torch.bool), rows], 1)


def one_block(self, past=0):
    """Mutant: every row of a block sees every earlier one, of other blocks too."""
    real = self.block == 0
    rows = (real & (self.position <= self.anchor[:, None])) | (~real & (self.anchor <= 9))
    return torch.cat([torch.arange(past) <= self.anchor[:, None], rows], 1)


def no_anchor(self, past=0):
    """Mutant: blocks see the text up to their own position: the very tokens that stand there."""
    rows = (self.block[:, None] == self.block) & (self.position <= self.position[:, None])
    return torch.cat([torch.arange(past) <= self.position[:, None], rows], 1)


def test_a_block_sees_the_text_before_it_and_itself():
    """By hand: six tokens, two of them in the cache already, blocks of two and three behind tokens 3 and 4."""
    rows = reals(2, 4) + blocks([3, 4], [2, 3])
    wanted = ["11 1000 00 000", "11 1100 00 000", "11 1110 00 000", "11 1111 00 000",
              "11 1100 10 000", "11 1100 11 000", "11 1110 00 100", "11 1110 00 110", "11 1110 00 111"]
    wanted = torch.tensor([[digit == "1" for digit in row.replace(" ", "")] for row in wanted])
    caught(lambda visible: torch.equal(visible(rows, 2), wanted), CallLayout.visible, triangle, one_block, no_anchor)


def test_rows_stand_where_the_text_would_go_on():
    rows = reals(3, 2) + blocks([4, 3], [2, 1])
    assert rows.position.tolist() == [3, 4, 5, 6, 4] and rows.mask.tolist() == [0, 0, 1, 2, 1]
    assert rows.anchor.tolist() == [3, 4, 4, 4, 3] and rows.block.tolist() == [0, 0, 1, 1, 2]
    assert [len(part) for part in rows.parts] == [5] * 4 and blocks([], []).visible(3).shape == (0, 3)
