"""Everything that needs a GPU: `pytest tests/kernels -m cuda`. Compiled kernels, bf16 products, CUDA graphs."""

import math

import pytest
import torch
from torch.nn.functional import linear

import kernels
from kernels import Sampler, dispatch, graphs, reference, revealing
from kernels.sampling import warp
from tests.kernels.test_attention import FIELDS, gap, inputs, mask_of, truth
from tests.kernels.test_vocabulary import DRAWS, SAMPLERS, chi_square, close, head, spread_logits

pytestmark = [
    pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
DEVICE = torch.device("cuda", 0)
TYPES = (torch.float32, torch.float16, torch.bfloat16)
ATTENTION = {
    "one-token": ((1, 2, 2, 1, 1, 64), "none", False, None),
    "causal-507": ((1, 4, 2, 507, 507, 64), "none", True, None),
    "wide-255": ((2, 2, 1, 255, 255, 128), "padding", True, [0, -1]),
    "cache": ((1, 4, 1, 5, 507, 40), "any", True, None),
    "one-key": ((1, 2, 2, 123, 123, 64), "one-key", False, [3]),
    "nothing": ((1, 1, 1, 123, 123, 64), "nothing", False, None),
    "additive": ((1, 2, 1, 123, 255, 64), "additive", True, None),
}


def there(*tensors):
    return tuple(x if x is None else x.to(DEVICE) for x in tensors)


@pytest.mark.parametrize("dtype", TYPES)
def test_every_kernel_passes_its_self_test(dtype):
    for kernel in ("attention", "vocabulary"):
        assert dispatch.trusted(kernel, DEVICE, dtype), dispatch.notes()
    assert dispatch.trusted("unmasking", DEVICE, torch.float32), dispatch.notes()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_no_worse_than_plain_attention(name, dtype):
    shape, kind, causal, chosen = ATTENTION[name]
    q, k, v = there(*inputs(shape, dtype))
    mask, = there(mask_of(kind, shape))
    options = {"causal": causal, "mask": mask, "received_from": chosen, "scale": 0.2}
    expected = truth(q, k, v, **options)
    found = kernels.attention_stats(q, k, v, **options)
    assert found.path == "cuda-triton" and found.out.dtype == dtype
    group = q.shape[1] // k.shape[1]
    scores = reference.score(q, k, 0.2, causal, mask).to(dtype)  # rounded as eager's are
    plain = reference.probabilities(scores.float())[0].to(dtype) @ v.repeat_interleave(group, 1)
    assert gap(found.out, expected.out) <= gap(plain, expected.out) + (1e-5 if dtype == torch.float32 else 2e-3)
    worst = {field: gap(getattr(found, field), getattr(expected, field)) for field in FIELDS[1:]}
    assert max(worst.values()) < (2e-5 if dtype == torch.float32 else 1e-3), worst


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows, columns", [(1, 255), (1, 50257), (5, 507), (64, 4099), (257, 6000)])
def test_vocabulary_is_no_worse_than_the_table(rows, columns, dtype):
    hidden, weight, bias, chosen = head(rows, columns, 72, dtype)
    hidden, weight, bias, chosen = there(hidden / 8, weight, bias, chosen)
    exact = reference.vocab_stats(linear(hidden.double(), weight.double(), bias.double()), chosen=chosen)
    logits = linear(hidden, weight, bias)
    plain = reference.vocab_stats(logits, chosen=chosen)
    made = kernels.head_stats(hidden, weight, bias=bias, chosen=chosen)
    read = kernels.vocab_stats(logits, chosen=chosen)
    assert made.path == read.path == "cuda-triton"
    close(read, plain, 1e-5)
    assert torch.equal(read.top_logp, read.top_logp.sort(-1, descending=True).values)
    for name in ("lse", "entropy", "chosen_logp", "top_logp"):
        own = (getattr(plain, name) - getattr(exact, name)).abs().max()
        assert (getattr(made, name) - getattr(exact, name)).abs().max() <= own * 1.001 + 2e-5, name


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_follow_the_warped_distribution(name):
    sampler, make = SAMPLERS[name], torch.Generator(DEVICE).manual_seed(1)
    logits = spread_logits(300)
    logits[7] = -math.inf
    expected, rows = warp(logits, sampler).softmax(-1), logits.to(DEVICE).expand(20_000, -1)
    read = [kernels.vocab_stats(rows, top_k=1, sampler=sampler, generator=make) for _ in range(DRAWS // 20_000)]
    assert read[0].path == "cuda-triton"
    assert abs(chi_square(torch.cat([x.sample for x in read]).cpu(), expected)) < 5
    nothing = torch.zeros(20_000, 16, device=DEVICE)
    made = kernels.head_stats(nothing, nothing[:300], bias=logits.to(DEVICE), top_k=1, sampler=sampler, generator=make)
    assert abs(chi_square(made.sample.cpu(), expected)) < 5


@pytest.mark.parametrize("order", revealing.ORDERS)
def test_a_step_of_unmasking_never_waits_and_is_the_plain_one(order):
    logits, ids = there(torch.randn(3, 77, 130), torch.full((3, 77), 40))
    settings = {"n_reveal": torch.tensor([0, 5, 99], device=DEVICE), "order": order, "gumbel_temperature": 0.5}
    steps = []
    for path in ("cuda-triton", "reference"):
        make = torch.Generator(DEVICE).manual_seed(3)
        with kernels.override(path):
            steps.append(kernels.unmask_step(logits, ids, 40, generator=make, **settings))
    assert steps[0].path == "cuda-triton" and steps[0].revealed.sum(1).tolist() == [0, 5, 77]
    assert torch.equal(steps[0].revealed, steps[1].revealed) and torch.equal(steps[0].ids, steps[1].ids)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for sampler in (None, Sampler(0.7), Sampler(top_p=0.9, top_k=9)):
            kernels.unmask_step(logits, ids, 40, n_reveal=3, order=order, sampler=sampler, generator=make)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("sampler", [None, Sampler(0.8), Sampler(top_p=0.9)])
def test_recorded_loops_are_the_loops(sampler):
    make = torch.Generator(DEVICE).manual_seed(3)
    one_hot, table = torch.eye(13, device=DEVICE), torch.sin(torch.arange(13 * 12.0, device=DEVICE)).view(13, 12)

    def logits(ids):
        return one_hot[ids].cumsum(1) @ table

    loops = (
        (graphs.unmasking(logits, 12, kernels.schedule(10, 4), sampler=sampler, generator=make),
         (torch.full((2, 10), 12, device=DEVICE),)),
        (graphs.decoding(lambda ids, at: table[ids] * (1 + at[:, None] % 3), 6, sampler=sampler, generator=make),
         (torch.tensor([3, 7], device=DEVICE), torch.tensor([0, 2], device=DEVICE))),
    )
    for loop, given in loops:
        replayed = graphs.captured(loop, generator=make)
        make.manual_seed(5)
        found = [replayed(*given) for _ in range(3)]
        assert replayed.path == "cuda-graph", dispatch.notes()
        make.manual_seed(5)
        for one, two in zip(found, [loop(*given) for _ in range(3)]):
            for a, b in zip(leaves(one), leaves(two), strict=True):
                torch.testing.assert_close(a, b)


def leaves(results):
    """All tensors in nested results."""
    if isinstance(results, torch.Tensor):
        return [results]
    return [x for part in results for x in leaves(part)] if isinstance(results, (tuple, list)) else []


def test_a_loop_that_waits_runs_plainly_and_the_next_one_is_recorded():
    x = torch.ones(4, device=DEVICE)
    waiting = graphs.captured(lambda x: x * x.sum().item())
    assert waiting(x).tolist() == [4] * 4 and waiting.path == "plain"
    good = graphs.captured(lambda x: x * x.sum())
    assert good(x).tolist() == [4] * 4 and good.path == "cuda-graph"
