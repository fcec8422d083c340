"""Selecting, hiding and replacing words: the traps that every judge of planted words shares."""

import pytest
import torch

from models.loops.mask.planting import corrupt, hide, sample, select
from tests.traps import caught

MASK, NEVER, V = 1, (0, 1, 2), 40


def batch(seed: int = 0, count: int = 4):
    """Texts [6, 20] with special tokens at both ends, what the writer sees, and the selected places [6, 4]."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, V, (6, 20), generator=generator)
    ids[:, 0], ids[:, -1] = 0, 2
    places = select(ids, ids < 3, count, generator)
    return ids, hide(ids, places, MASK, generator), places


def test_lucky_draws_are_labelled_original():
    """A draw that hits the original is labelled original, so there are fewer labels than selected places."""
    ids, _, places = batch()
    written = ids.gather(1, places).clone()
    written[:, 0] = 3 + (written[:, 0] - 2) % (V - 3)  # one place differs, the others are lucky

    def marks_what_differs(rule):
        fake, replaced = rule(ids, places, written)
        assert replaced.sum(1).tolist() == [1] * len(ids) and (fake != ids).sum(1).tolist() == [1] * len(ids)

    caught(marks_what_differs, corrupt, lambda ids, places, written: (
        corrupt(ids, places, written)[0], torch.zeros_like(ids).scatter(1, places, 1).bool()))


def test_no_mask_reaches_the_judge():
    """What the judge reads has no mask token and is the original outside the selected places, although this writer
    likes to write the mask. Mutants: the writer's own input; nothing is forbidden to the writer."""
    ids, hidden, places = batch()
    logits = torch.zeros(*places.shape, V)
    logits[..., MASK] = 9.0
    outside = torch.ones_like(ids, dtype=torch.bool).scatter(1, places, False)

    def free_of_masks(read, never):
        seen = read(ids, places, sample(logits, 1.0, never, torch.Generator().manual_seed(1)))[0]
        assert not (seen == MASK).any() and torch.equal(seen[outside], ids[outside])

    caught(free_of_masks, (corrupt, NEVER), (lambda *_: (hidden,), NEVER), (corrupt, ()))


def test_the_writer_is_sampled_not_asked_for_its_best():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])

    def draws_from_the_distribution(rule):
        for temperature in (0.5, 1.0, 2.0):
            drawn = rule(logits.expand(20_000, -1), temperature, (), torch.Generator().manual_seed(2))
            share = torch.bincount(drawn, minlength=4) / len(drawn)
            torch.testing.assert_close(share, (logits / temperature).softmax(0), atol=0.015, rtol=0)

    caught(draws_from_the_distribution, sample, lambda logits, *_: logits.argmax(-1),
           lambda logits, t, *rest: sample(logits, 1.0, *rest))


def test_special_tokens_are_never_selected():
    def picks_ordinary_tokens(rule):
        for seed in range(20):
            ids, _, _ = batch(seed)
            places = rule(ids, ids < 3, 5, torch.Generator().manual_seed(seed))
            assert all(len(set(row)) == 5 for row in places.tolist()) and (ids.gather(1, places) >= 3).all()

    caught(picks_ordinary_tokens, select, lambda ids, special, *rest: select(ids, torch.zeros_like(special), *rest))


def test_some_selected_words_stay_to_be_seen():
    ids = torch.randint(3, V, (200, 50), generator=torch.Generator().manual_seed(0))
    places = torch.arange(50).expand(200, -1)
    seen = hide(ids, places, MASK, torch.Generator().manual_seed(1))
    assert (seen == MASK).float().mean() == pytest.approx(0.85, abs=0.02)
    assert torch.equal(seen[seen != MASK], ids[seen != MASK])
