"""The traps catch what they are for, and let through what is right."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.traps import (
    caught,
    learns,
    moved,
    moving,
    multiply_adds,
    only_these_move,
    reaches,
    shifted,
    work_is_counted,
)


def sorts(f):
    assert f([3, 1, 2]) == [1, 2, 3]


def test_a_mutant_that_passes_is_named():
    caught(sorts, sorted, lambda values: values, reversed)
    with pytest.raises(pytest.fail.Exception, match="sorts lets mutant 2 pass: sorted"):
        caught(sorts, sorted, list, sorted)
    with pytest.raises(AssertionError):
        caught(sorts, list, reversed)
    with pytest.raises(AssertionError, match="without a mutant"):
        caught(sorts, sorted)
    with pytest.raises(ZeroDivisionError):  # a crash is no refusal
        caught(sorts, sorted, lambda values: 1 / 0)


def test_checks_may_answer_and_take_several_things():
    caught(lambda a, b: a == b, (1, 1), (1, 2), (3, 4))
    caught(lambda a: torch.tensor(a > 0), 1, 0)
    with pytest.raises(pytest.fail.Exception):
        caught(lambda a, b: a == b, (1, 1), (2, 2))


def causal(x, allowed=None):
    """Sums [B, S, D] over what each position may see."""
    allowed = torch.ones(x.shape[1], x.shape[1]).tril() if allowed is None else allowed
    return torch.einsum("ij,bjd->bid", allowed, x)


def test_what_moves_is_what_hears():
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    assert moved(causal, x, 4).tolist() == [False] * 4 + [True] * 2
    assert np.array_equal(reaches(causal, x), np.tri(6, dtype=bool))
    everybody = reaches(lambda x: causal(x, torch.ones(6, 6)), x)
    assert everybody.all() and not np.array_equal(everybody, np.tri(6))
    with pytest.raises(AssertionError, match="not a number"):
        moved(lambda x: x / 0 * 0, x, 0)


def test_ids_are_exchanged_for_others():
    table, ids = torch.randn(5, 2, generator=torch.Generator().manual_seed(1)), torch.tensor([[4, 0, 3]])
    assert moved(lambda ids: table[ids], ids, slice(0, 2), size=5).tolist() == [True, True, False]
    assert ids.tolist() == [[4, 0, 3]], "the inputs stay as they were"


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.head, self.spare = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2)


def test_weights_that_move_are_found():
    torch.manual_seed(0)
    net, x = Two(), torch.randn(5, 3)

    def frozen(net):
        return net.head(net.trunk(x).detach()).sum()

    def whole(net):
        return net.head(net.trunk(x)).pow(2).sum()

    caught(lambda loss: only_these_move(net, loss, ("head",)), frozen, whole, lambda net: net.spare.weight.sum())
    only_these_move(net, whole, ("head", "trunk"))
    with pytest.raises(AssertionError, match="must move: spare"):
        only_these_move(net, whole, ("head", "trunk", "spare"))
    assert moving(net, frozen) == {"head.weight", "head.bias"} and net.head.weight.grad is None


def test_a_loss_that_does_not_fall_is_seen():
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    caught(lambda loss: learns(Two(), loss, rate=0.1), lambda net: net.head(net.trunk(x)).pow(2).mean(),
           lambda net: net.head(net.trunk(x)).pow(2).mean() * 0 + 1)


def test_a_shift_is_off_by_as_much():
    targets = torch.arange(6)[None]
    caught(lambda f: torch.equal(f(targets)[0, 1:], targets[0, 1:]), torch.clone, shifted(torch.clone),
           shifted(torch.clone, -1))
    assert shifted(torch.clone, 2)(targets).tolist() == [[4, 5, 0, 1, 2, 3]]


def test_work_is_counted_where_it_happens():
    net, x, q = nn.Linear(4, 5, bias=False), torch.randn(3, 4), torch.randn(1, 2, 7, 8)
    assert multiply_adds(lambda: net(x)) == 60
    assert multiply_adds(lambda: F.conv2d(torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3))) == 3 * 2 * 9 * 9
    both = 2 * 2 * 7 * 7 * 8  # two products of two heads
    assert multiply_adds(lambda: F.scaled_dot_product_attention(q, q, q)) == both
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    masked = multiply_adds(lambda: F.scaled_dot_product_attention(q, q, q, attn_mask=mask))
    assert masked == both, "a masked dense product saves nothing"
    caught(lambda declared: work_is_counted(lambda: net(x), declared), 60, 30, 120)
