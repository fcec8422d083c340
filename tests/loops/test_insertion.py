"""Texts that grow from inside: places move, identities stay, and nothing tells the network how much is missing."""
import numpy as np
import pytest
import torch

from models.claims.star_lab import CELLS, FORBIDDEN, begun, masked
from models.loops.unmask.insertion import NOTHING, Draft, completed, draft, finished, grown, inserted, note, placed
from models.trace import CODE
from models.worlds import stars
from models.worlds.world import END, MASK, exam
from tests import tiny as stand_ins
from tests.traps import caught

TOKENIZER = stand_ins.star_tokenizer()
NAMES = TOKENIZER.convert_ids_to_tokens
GIVEN = Draft([0, 5, 6, 7], [False, True, False, True], 2)


class Scripted:
    """A network that inserts what it is told, (slot, token) after (slot, token), and is then finished. said: what it
    was asked."""

    def __init__(self, *script):
        self.script, self.said = script, []
        self.turn = 0

    def told(self, ids, slots, there=None):
        self.said.append((ids[0].tolist(), slots[0].tolist()))
        scores = torch.zeros(*ids.shape, 20).masked_fill(~slots[..., None], float("-inf"))
        whole = self.turn >= len(self.script)
        if not whole:
            scores[(0, *self.script[self.turn])] = 9.0
        self.turn += 1
        return scores, torch.tensor([[0.0, 9.0 if whole else -9.0]])

    def spent(self, tokens, read_out, layers=None):
        return tokens, tokens


def greedy(scores):
    return divmod(int(scores.argmax()), scores.shape[1])


SCRIPT = (3, 9), (1, 10), (2, 11)  # at the end; behind 5; behind what was put there


def test_places_move_and_identities_stay():
    """Mutant: a record that knows a token by its place."""
    net = Scripted(*SCRIPT)
    puts = list(inserted(net, GIVEN, greedy, 0.5, 8))
    order, ids = placed(GIVEN, puts)
    assert [ids[one] for one in order] == [0, 5, 10, 11, 6, 7, 9] and order == [0, 1, 5, 6, 2, 3, 4]
    page = [event.step for event in grown("sample", GIVEN, puts, str) if hasattr(event, "step")]
    by_identity = lambda steps: all((a.ids[a.ids >= 0] == b.ids[a.ids >= 0]).all()  # noqa: E731
                                    for a, b in zip(steps, steps[1:]))
    by_place = [type(one)(one.label, one.state, ids=np.array(ids + [-1] * (7 - len(ids)), np.int32))
                for one, (ids, _) in zip(page, net.said)]
    caught(by_identity, page, by_place)
    assert [np.flatnonzero(one.state == CODE["new"]).tolist() for one in page] == [[5], [1], [2], []]
    assert [int((one.ids < 0).sum()) for one in page] == [2, 1, 0, 0], "not there until it is inserted"
    assert page[1].fields["order"][1] == 2 and np.isnan(page[0].fields["order"][1])


def test_one_token_comes_at_a_time_and_what_is_put_in_has_a_slot_behind_it():
    """Mutant: two tokens between one look of the network and the next."""
    net = Scripted(*SCRIPT)
    puts = list(inserted(net, GIVEN, greedy, 0.5, 8))
    caught(lambda said: [len(ids) for ids, _ in said] == [4, 5, 6, 7], net.said, net.said[::2])
    assert puts[-1].token == NOTHING
    assert net.said[-1][1] == [False, True, True, True, False, True, True], "given tokens get no slot of their own"
    assert [put.slots for put in puts] == [[1, 3], [1, 3, 4], [1, 2, 4, 5], [1, 2, 3, 5, 6]]
    for put in puts:
        assert put.shares.shape == (len(put.slots), 20) and np.isclose(put.shares.sum(), 1, atol=1e-5), "joint"


def test_a_record_says_how_likely_the_pair_was_that_was_taken():
    """Mutant: the likeliest pair, which a drawn one is not."""
    put = next(inserted(Scripted(*SCRIPT), GIVEN, lambda scores: (0, 12), 0.5, 8))
    caught(lambda chance: np.isclose(chance, put.shares[0, 12]), put.chance, put.shares.max())
    assert "the slot" in note(put) and "the slot" not in note(put._replace(end=np.nan)), "masks have none"


def test_it_ends_by_itself_or_at_the_limit_and_never_puts_in_what_is_forbidden():
    assert [put.token for put in inserted(Scripted(*SCRIPT), GIVEN, greedy, 0.5, 2)] == [9, 10, NOTHING]
    put = [one.token for one in inserted(Scripted(*SCRIPT), GIVEN, greedy, 0.5, 8, forbidden=(9, 10, 11))]
    assert len(put) == 4 and not {9, 10, 11} & set(put)
    assert [put.token for put in inserted(Scripted(), GIVEN, greedy, 0.5, 8)] == [NOTHING]
    assert [len(list(inserted(Scripted(), GIVEN, greedy, threshold, 3))) for threshold in (0.99, 1.0)] == [1, 4]


def test_page_and_batch_write_the_same(tiny):
    net = tiny.fresh("star-ilm-1").eval()
    texts = [begun(TOKENIZER, doc) for doc in exam(stars.WORLD, 4, 5)]
    texts.append(begun(TOKENIZER, exam(stars.WORLD, 4, 1)[0], "A ___ B"))
    rows = completed(net, texts, 4, forbidden=FORBIDDEN, at_once=4)
    for text, row in zip(texts, rows, strict=True):
        order, ids = placed(text, list(inserted(net, text, greedy, 0.5, 4, FORBIDDEN)))
        assert [ids[one] for one in order] == row and not set(row[text.first:]) & set(FORBIDDEN)


def test_the_network_cannot_see_how_much_is_missing(tiny):
    """Mutant: masks where something is missing, which is what a masked network is told."""
    net = tiny.fresh("star-ilm-1").eval()
    text = begun(TOKENIZER, exam(stars.WORLD, 4, 1)[0], "A ___ B")

    def blind(given) -> bool:
        return torch.equal(*(net.told(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[1]
                             for ids in map(given, (1, 4))))

    caught(blind, lambda missing: text.ids, lambda missing: masked(text, missing))
    padded = [ids + [2] * extra for extra, ids in ((0, text.ids), (6, text.ids))]
    seen = [net.told(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool), torch.tensor([ids]) != 2)[1]
            for ids in padded]
    torch.testing.assert_close(*seen)


def test_a_draft_has_gaps_where_they_are_typed():
    def encode(text):
        return TOKENIZER.encode(text, add_special_tokens=False)
    a, b = encode("A B")
    assert draft([END, 7], "", encode) == Draft([END, 7], [False, True], 2)
    assert draft([END, 7], "A", encode) == Draft([END, 7, a], [False, False, True], 2)
    assert draft([END, 7], "A ___ B", encode) == Draft([END, 7, a, b], [False, False, True, False], 2)
    assert draft([END, 7], "___ B ___", encode) == Draft([END, 7, b], [False, True, True], 2)
    assert masked(draft([END, 7], "A ___ B", encode), 3) == [END, 7, a, MASK, MASK, MASK, b, *[END] * (CELLS - 5)]
    assert masked(draft([END, 7], "", encode)).count(MASK) == CELLS
    assert float(finished(torch.tensor([[1.0, 1.0]]))) == pytest.approx(0.5)
