"""Multiblock masks: four target blocks and a context that has none of their patches."""

import numpy as np
import torch

from models.loops.mask.multiblock import KEPT, Multiblock, drawn, multiblock
from tests.traps import caught


def with_the_targets(count, dice):  # the context block as it was drawn
    blocks, seen = drawn(count, (3, 4), (8, 8), 8, dice)
    return Multiblock(torch.from_numpy(np.argsort(dice.random(seen.shape), 1)[:, :KEPT]), torch.from_numpy(blocks))


def test_a_context_has_no_target_patch_and_blocks_are_rectangles():
    def apart(draw):
        for context, blocks in zip(*draw(40, np.random.default_rng(1))):
            assert len(set(context.tolist())) == KEPT and blocks.shape[0] == 4
            assert not set(context.tolist()) & set(blocks.ravel().tolist())
            for block in blocks:
                assert len(set((block // 8).tolist())) * len(set((block % 8).tolist())) == len(block) in (9, 12, 16)
    caught(apart, multiblock, with_the_targets)


def test_every_photo_has_places_of_its_own_and_the_same_dice_the_same_places():
    made, again = (multiblock(20, np.random.default_rng(4)) for _ in range(2))
    assert len(made.context.unique(dim=0)) > 15 and all(map(torch.equal, made, again))
