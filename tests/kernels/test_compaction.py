"""Compaction: every token kept or accounted for exactly once, in order, with its position, cache and weight."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels

FEW = settings(max_examples=60, deadline=None, database=None, derandomize=True)


@st.composite
def problems(draw):
    """states, keep, merge_into and sizes; tokens of sample b have the one feature 100 b + index."""
    batch, length = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    bits = draw(st.lists(st.booleans(), min_size=batch * length, max_size=batch * length))
    keep = torch.tensor(bits).view(batch, length)
    target = torch.full((batch, length), -1)
    for b in range(batch):
        kept = keep[b].nonzero()[:, 0].tolist()
        for i in range(length):
            if not keep[b, i] and kept and draw(st.booleans()):
                target[b, i] = draw(st.sampled_from(kept))
    sizes = torch.tensor(draw(st.lists(st.integers(1, 4), min_size=batch * length, max_size=batch * length)))
    states = (torch.arange(batch)[:, None] * 100 + torch.arange(length)).float()[..., None]
    return states, keep, target, sizes.view(batch, length).float()


def check_accounted(result, keep):
    """The assertion that mutants must fail: kept and dropped partition the tokens, kept ones in original order."""
    for b in range(keep.shape[0]):
        kept = result.ids_keep[b][result.valid[b]].tolist()
        dropped = [i for i in result.ids_dropped[b].tolist() if i >= 0]
        assert kept == keep[b].nonzero()[:, 0].tolist()
        assert dropped == (~keep[b]).nonzero()[:, 0].tolist()
        assert result.count[b] == len(kept)


@FEW
@given(problems())
def test_kept_and_dropped_account_for_every_token_in_order(problem):
    states, keep, _, _ = problem
    positions = torch.arange(keep.shape[1]) * 10
    cache = [(states.mul(k)[:, None], states.mul(k)[:, None] + 0.5) for k in (1, 2)]  # [B, 1, N, 1]
    result = kernels.compact(states, keep, positions=positions, cache=cache)
    check_accounted(result, keep)
    for b, k in result.valid.nonzero().tolist():
        index = result.ids_keep[b, k]
        assert result.states[b, k, 0] == 100 * b + index and result.positions[b, k] == 10 * index
        for layer, (keys, values) in enumerate(result.cache, 1):
            assert keys[b, 0, k] == layer * (100 * b + index) and values[b, 0, k] == keys[b, 0, k] + 0.5
    assert (result.states[~result.valid] == 0).all() and (result.ids_keep[~result.valid] == -1).all()


@FEW
@given(problems())
def test_restoring_what_was_kept_changes_nothing(problem):
    states, keep, _, _ = problem
    result = kernels.compact(states, keep)
    assert torch.equal(result.restore(result.states, states), states)
    marked = result.restore(result.states + 0.5, states)
    assert torch.equal(marked[..., 0] != states[..., 0], keep)


@FEW
@given(problems())
def test_merging_conserves_weight_and_weighted_sum(problem):
    states, keep, target, sizes = problem
    result = kernels.compact(states, keep, merge_into=target, sizes=sizes)
    counted = keep | (target >= 0)
    torch.testing.assert_close(result.sizes.sum(1), (sizes * counted).sum(1))
    found = (result.states[..., 0] * result.sizes).sum(1)
    torch.testing.assert_close(found, (states[..., 0] * sizes * counted).sum(1))
    for b, k in result.valid.nonzero().tolist():
        members = [i for i in range(keep.shape[1]) if i == result.ids_keep[b, k] or
                   (not keep[b, i] and target[b, i] == result.ids_keep[b, k])]
        mean = (states[b, members, 0] * sizes[b, members]).sum() / sizes[b, members].sum()
        torch.testing.assert_close(result.states[b, k, 0], mean)


@FEW
@given(problems())
def test_recycling_keeps_the_mean_of_what_was_lost(problem):
    states, keep, target, sizes = problem
    result = kernels.compact(states, keep, merge_into=target, sizes=sizes, recycle=True)
    torch.testing.assert_close(result.sizes.sum(1), sizes.sum(1))  # nothing is lost
    torch.testing.assert_close((result.states[..., 0] * result.sizes).sum(1), (states[..., 0] * sizes).sum(1))
    lost = ~keep & (target < 0)
    assert torch.equal(result.count, keep.sum(1) + lost.any(1))
    for b in lost.any(1).nonzero()[:, 0].tolist():
        last = result.ids_keep[b, result.count[b] - 1]
        assert lost[b, last] and sizes[b, last] == sizes[b][lost[b]].max()


def test_top_k_scores_keep_the_largest_and_ties_go_to_the_earlier():
    scores = torch.tensor([[3.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    result = kernels.compact(torch.zeros(2, 4, 1), (scores, torch.tensor([2, 3])))
    assert result.ids_keep.tolist() == [[0, 2, -1], [0, 1, 2]] and result.count.tolist() == [2, 3]
    assert kernels.keep_top(scores, 9).all()


def test_half_precision_means_are_made_in_full_precision():
    states = torch.tensor([[[2048.0], [1.0], [1.0]]], dtype=torch.float16)
    result = kernels.compact(states, torch.tensor([[True, False, False]]), merge_into=torch.tensor([[-1, 0, 0]]))
    assert result.states.dtype == torch.float16 and result.states.item() == pytest.approx(2050 / 3, abs=0.5)


def test_what_does_not_fit_is_refused():
    states, keep = torch.zeros(1, 3, 2), torch.tensor([[True, False, True]])
    with pytest.raises(ValueError, match="keep must be bool"):
        kernels.compact(states, keep.float())
    with pytest.raises(ValueError, match="kept tokens only"):
        kernels.compact(states, keep, merge_into=torch.tensor([[-1, 1, -1]]))
    with pytest.raises(ValueError, match="below 3"):
        kernels.compact(states, keep, merge_into=torch.tensor([[-1, 3, -1]]))
    with pytest.raises(ValueError, match="recycle"):
        kernels.compact(states, keep, cache=[(states[:, None], states[:, None])], recycle=True)


# Mutants.

def mutant_by_score(states, keep, scores):
    """Gathers in order of score, not in original order."""
    ids = scores.topk(int(keep.sum()), dim=1).indices
    return replace(kernels.compact(states, keep), ids_keep=ids)


def mutant_same_count(states, keep):
    """Keeps as many tokens in every sample as the first one does."""
    ids = (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(keep[0].sum())]
    return replace(kernels.compact(states, keep), ids_keep=ids, count=torch.full((2,), ids.shape[1]))


def mutant_unweighted(states, keep, target, sizes):
    """Averages members without their sizes, as if every token still stood for one."""
    return kernels.compact(states, keep, merge_into=target)


def test_mutants_are_refused():
    states, keep = torch.zeros(1, 4, 1), torch.tensor([[True, False, True, True]])
    with pytest.raises(AssertionError):
        check_accounted(mutant_by_score(states, keep, torch.tensor([[1.0, 0.0, 3.0, 2.0]])), keep)
    uneven = torch.tensor([[True, False, False], [True, True, False]])
    with pytest.raises(AssertionError):
        check_accounted(mutant_same_count(torch.zeros(2, 3, 1), uneven), uneven)
    check_accounted(kernels.compact(torch.zeros(2, 3, 1), uneven), uneven)
    states, sizes = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[1.0, 3.0]])
    options = torch.tensor([[True, False]]), torch.tensor([[-1, 0]])
    assert kernels.compact(states, options[0], merge_into=options[1], sizes=sizes).states.item() == 0.75
    assert mutant_unweighted(states, *options, sizes).states.item() != 0.75
