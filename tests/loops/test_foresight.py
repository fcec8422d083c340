"""Words several places ahead: ranks, and what is said of a word whatever stands between."""

import pytest
import torch

from models.loops.sample.foresight import foreseen, rank, read_on
from tests.traps import caught

IDS = torch.tensor([[0, *range(30, 41)]])
pytestmark = pytest.mark.usefixtures("one_thread")


def test_ranks_count_from_one():
    """Mutant: ranks from 0."""
    logits, targets = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0]]), torch.tensor([2, 1])
    caught(lambda ranks: ranks(logits, targets).tolist() == [2, 1], rank, lambda *given: rank(*given) - 1)


class Toy:
    """A stream of three words: the first is 0 or nearly as often 1; mostly 2 follows 0, and 1 follows 1."""

    table = {(): [0.5, 0.45, 0.05], (0,): [0.1, 0.1, 0.8], (1,): [0.0, 1.0, 0.0], (2,): [0.0, 1.0, 0.0]}

    def __init__(self, told=((),)):
        self.told, self.logits = told, torch.tensor([self.table[one] for one in told]).clamp_min(1e-9).log()

    def select(self, rows):
        return Toy(tuple(self.told[int(row)] for row in rows))

    def push(self, ids):
        self.__init__(tuple((*one, int(id)) for one, id in zip(self.told, ids, strict=True)))


def test_a_word_ahead_is_the_mean_over_what_may_stand_between(tiny):
    """Mutant: behind the one likeliest path, where another word comes second."""
    def mean(paths) -> bool:
        _, second = foreseen(Toy(), 2, paths)
        return torch.allclose(second[0], torch.tensor([0.05, 0.55, 0.4]), atol=1e-4)

    caught(mean, 3, 1)
    model, (said,) = tiny.bundle("tale-ar-2").model, read_on(tiny.bundle("tale-ar-2").model, IDS[0].tolist(), [7], 2)
    first = model(IDS[:, :8]).logits[0, -1].argmax()  # a text that is read on is asked in the same way
    second = model(torch.cat([IDS[:, :8], first.view(1, 1)], 1)).logits[0, -1].softmax(-1)
    assert torch.allclose(said, second, atol=1e-4)
