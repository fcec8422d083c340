"""The kernel that chooses what is revealed, interpreted: it must choose exactly what the plain code chooses."""

import math

import pytest
import torch

import kernels
from kernels import Sampler, revealing

pytest.importorskip("triton")
from kernels import triton_unmasking as on_cuda  # noqa: E402
from kernels.triton_tiles import interpreted  # noqa: E402


@pytest.fixture(autouse=True)
def interpreter():
    if not interpreted():
        pytest.skip("needs TRITON_INTERPRET=1 before triton is imported")


def problem(batch, length, dtype=torch.float32, seed=0):
    """Scores with ties and -inf, ids of which about a third are masked by 2, proposals and their log-probabilities."""
    make = torch.Generator().manual_seed(seed)
    score = torch.randint(-3, 3, (batch, length), generator=make).to(dtype) / 3
    score[torch.rand(batch, length, generator=make) > 0.8] = -math.inf
    ids, proposal = (torch.randint(low, low + 3, (batch, length), generator=make) for low in (0, 5))
    return score, proposal, torch.rand(batch, length, generator=make).neg(), ids


@pytest.mark.parametrize("batch, length", [(1, 1), (3, 37), (1, 140)])
def test_it_is_the_plain_choice(batch, length):
    allowed = torch.rand(length, generator=torch.Generator().manual_seed(4)) > 0.3
    for number, open_to, dtype in ((0, None, torch.float32), (length // 4, allowed, torch.float64),
                                   (length + 5, allowed.expand(batch, length).contiguous(), torch.float32),
                                   (torch.arange(batch) * 3 + 1, None, torch.float32)):
        arguments = (*problem(batch, length, dtype), 2, open_to, number)
        for found, expected in zip(on_cuda.settle(*arguments), revealing.settle(*arguments), strict=True):
            assert found.dtype == expected.dtype
            torch.testing.assert_close(found, expected)


def test_not_a_number_and_zeros_of_both_signs():
    score, proposal, logp, _ = problem(1, 40)
    score[0, ::3], score[0, 1::3], score[0, 30] = 0.0, -0.0, math.nan
    ids = torch.full((1, 40), 2)
    found, expected = (one(score, proposal, logp, ids, 2, None, 7)[1] for one in (on_cuda.settle, revealing.settle))
    assert torch.equal(found, expected) and found[0, 30] and found.sum() == 7


@pytest.mark.parametrize("order", revealing.ORDERS)
def test_a_whole_step_on_both_kernels(order):
    logits, ids = torch.randn(2, 23, 30, generator=torch.Generator().manual_seed(1)), torch.full((2, 23), 30)
    ids[:, ::4] = 3
    settings = {"n_reveal": torch.tensor([2, 9]), "order": order, "gumbel_temperature": 0.5}
    steps = []
    for path in ("cuda-triton", "reference"):
        with kernels.override(path):
            steps.append(kernels.unmask_step(logits, ids, 30, generator=torch.Generator().manual_seed(2), **settings))
    assert [step.path for step in steps] == ["cuda-triton", "reference"]
    for found, expected in zip(steps[0][:5], steps[1][:5], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with kernels.override("cuda-triton"):
        drawn = kernels.unmask_step(logits, ids, 30, sampler=Sampler(0.7, top_p=0.9), **settings)
    assert drawn.revealed.sum(1).tolist() == [2, 9] and (drawn.ids[ids != 30] == 3).all()


def mutant_ties_to_the_later(score, open_now, n):
    """Counts equal scores behind a position, too."""
    ahead = (score[None] >= score[:, None]) & ~torch.eye(len(score), dtype=torch.bool)
    return open_now & ((ahead & open_now).sum(1) < n)


def mutant_closed_compete(score, open_now, n):
    """Counts closed positions as rivals."""
    return open_now & ((score[None] > score[:, None]).sum(1) < n)


def test_mutants_are_refused(monkeypatch):
    score, proposal, logp, ids = problem(1, 40)
    expected = on_cuda.settle(score, proposal, logp, ids, 2, None, 4)[1][0]
    for mutant in (mutant_ties_to_the_later, mutant_closed_compete):
        assert not torch.equal(mutant(score[0], ids[0] == 2, 4), expected), mutant.__name__
    cpu, whole = torch.device("cpu"), on_cuda.settle
    assert on_cuda.agrees(cpu, torch.float32)
    monkeypatch.setattr(on_cuda, "settle", lambda *a: whole(*a[:-2], None, a[-1]))  # forgets what is closed
    assert not on_cuda.agrees(cpu, torch.float32)
