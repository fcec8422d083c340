"""Block diffusion: who sees whom in training and in writing, and that every size is learned."""
import numpy as np
import pytest
import torch

from models.backbones.block_diffusion import LONGEST, SIZES, BlockDiffusionLM, BlockStream, side_by_side
from models.backbones.stand_in import stirred
from models.worlds.tales.headings import LENGTH, WORLD, fits, headed, heading
from models.worlds.world import END, MASK, drawn
from tests.traps import caught
from training.trunks.tale_blocks import lesson

pytestmark = pytest.mark.usefixtures("one_thread")
BLOCKS = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2]])


def net() -> BlockDiffusionLM:
    return stirred(BlockDiffusionLM(60, 32, 2, 2, 64)).eval()


def test_a_noisy_block_sees_itself_and_the_clean_blocks_before_it():
    """Mutants: its own clean block, which is the answer; noisy blocks before it; causal inside a block."""
    def wanted(seen) -> bool:
        noisy, clean = seen[0, :8].split(8, 1)
        same, before = BLOCKS[0][:, None] == BLOCKS[0], BLOCKS[0][:, None] > BLOCKS[0]
        return torch.equal(noisy, same) and torch.equal(clean, before) and torch.equal(
            seen[0, 8:], torch.cat([torch.zeros(8, 8, dtype=torch.bool), same | before], 1))
    right = side_by_side(BLOCKS)
    answer, old, causal = right.clone(), right.clone(), right.clone()
    answer[0, :8, 8:] |= BLOCKS[0][:, None] == BLOCKS[0]
    old[0, :8, :8] |= BLOCKS[0][:, None] > BLOCKS[0]
    causal[0, :8, :8] &= torch.ones(8, 8).tril().bool()
    caught(wanted, right, answer, old, causal)


@torch.no_grad()
def test_writing_with_a_cache_says_what_training_said():
    """Texts that stand at different places, in blocks of different sizes; mutant: a block that was never read."""
    model, dice = net(), torch.Generator().manual_seed(0)
    clean = torch.randint(4, 60, (2, 32), generator=dice)
    cuts, noisy, blocks = ([5, 4, 1], [3, 16, 2]), clean.clone(), torch.zeros(2, 32, dtype=torch.long)
    for row, sizes in enumerate(cuts):
        for number, end in enumerate(np.cumsum(sizes), 1):
            blocks[row, end:] = number
        noisy[row, end : end + 4 : 2], blocks[row, end + 4 :] = MASK, 4
    told = model(noisy, clean, blocks)

    def same(first: int) -> bool:
        stream = BlockStream(model, 2, 32)
        for part in range(first, 3):
            starts = [sum(sizes[:part]) for sizes in cuts]
            stream.look([0, 1], [clean[row, at : at + cuts[row][part]].tolist() for row, at in enumerate(starts)])
        ends = [sum(sizes) for sizes in cuts]
        logits, _ = stream.inside([0, 1], torch.stack([noisy[row, at : at + 4] for row, at in enumerate(ends)]))
        return all(torch.allclose(logits[row], told[row, at : at + 4], atol=1e-4) for row, at in enumerate(ends))
    caught(same, 0, 1)


@torch.no_grad()
def test_masks_ahead_change_nothing_that_stands():
    model, ids = net(), torch.tensor([[END, 7, 8, 9]])
    stream, bare = BlockStream(model, 1, 40), BlockStream(model, 1, 40)
    ahead = stream.look([0], ids.tolist())
    alone = bare._read(torch.tensor([0]), ids, torch.arange(4)[None], torch.ones(1, 4, 4, dtype=torch.bool))
    assert torch.allclose(ahead.state, alone[:, -1], atol=1e-5)
    assert ahead.logits.shape == (1, LONGEST, 60) and bool(ahead.logits[..., MASK].isneginf().all())
    assert int(ahead.room[0]) == 36 and stream.ids[0, :5].tolist() == [END, 7, 8, 9, MASK]


def test_every_size_is_learned_alone_and_mixed_and_the_heading_is_told():
    """Mutant: one size, at which the policy's others would be strangers."""
    rng, tok = np.random.default_rng(0), WORLD.tokenizer()
    stories = [headed(drawn(WORLD, rng), rng) for _ in range(60)]

    def sizes(size: int) -> bool:
        batch = lesson(stories, tok, np.random.default_rng(1), size)
        found = [torch.unique_consecutive(row[row > 0], return_counts=True)[1].tolist()[:-2] for row in batch["blocks"]]
        return set(sum(found, [])) >= set(SIZES) and any(len(set(one)) > 2 for one in found)
    caught(sizes, 0, 4)
    batch = lesson(stories, tok, np.random.default_rng(1))
    assert not bool(batch["masked"][batch["blocks"] == 0].any()), "what is given is never masked"
    share = (batch["weight"] * batch["masked"]).sum() / (batch["weight"] > 0).sum()
    assert float(share) == pytest.approx(1, abs=0.01), "each block's words count with their number"
    assert (heading(), heading("sad"), heading("", "sea")) == ("A tale.", "A sad tale.", "A tale of the sea.")


def test_short_stories_fit_and_are_right_by_their_own_labels():
    rng, tok = np.random.default_rng(3), WORLD.tokenizer()
    for doc in (drawn(WORLD, rng) for _ in range(20)):
        mood, topic = doc.truth["mood"], doc.truth["topics"][0]
        assert len(tok.encode(doc.text).ids) + 2 <= LENGTH and fits(doc.pieces[1], mood, topic)
        assert doc.pieces[0] == heading(mood, topic) and not fits(doc.pieces[1], "sad" if mood != "sad" else "happy")
