"""Vocabulary statistics in Triton's interpreter: few tiles, ugly sizes, ties, forbidden tokens, and exact draws."""

import math

import pytest
import torch
from torch.nn.functional import linear

import kernels
from kernels import Sampler, reference, tiles
from kernels.sampling import inverse_cdf, warp
from tests.kernels.test_graphs import Watch
from tests.kernels.test_vocabulary import chi_square, close, head

pytest.importorskip("triton")
from kernels import triton_vocabulary as on_cuda  # noqa: E402
from kernels.triton_tiles import interpreted  # noqa: E402


@pytest.fixture(autouse=True)
def interpreter():
    if not interpreted():
        pytest.skip("needs TRITON_INTERPRET=1 before triton is imported")
    with kernels.override("cuda-triton"):
        yield


@pytest.fixture
def narrow(monkeypatch):
    """Tables in tiles of 128 columns instead of 4096."""
    monkeypatch.setattr(on_cuda, "TABLE_COLUMNS", 128)


@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 255), (3, 507), (2, 128)])
def test_interpreted_kernels_are_true(rows, columns, narrow):
    hidden, weight, bias, chosen = head(rows, columns, width=24)
    logits = linear(hidden, weight, bias)
    expected = reference.vocab_stats(logits.double(), top_k=5, chosen=chosen)
    for found in (kernels.vocab_stats(logits, top_k=5, chosen=chosen),
                  kernels.head_stats(hidden, weight, bias=bias, top_k=5, chosen=chosen)):
        assert found.path == "cuda-triton"
        close(found, expected)
        assert torch.equal(found.top_ids, expected.top_ids)


def test_half_precision_and_no_bias_and_strange_layouts():
    hidden, weight, _, chosen = head(17, 130, dtype=torch.float16)
    exact = reference.vocab_stats(linear(hidden.double(), weight.double()), chosen=chosen)
    plain = reference.vocab_stats(linear(hidden, weight), chosen=chosen)
    for made in (weight, weight.T.contiguous().T):
        found = kernels.head_stats(hidden, made, chosen=chosen)
        for name in ("lse", "entropy", "chosen_logp"):
            own = (getattr(plain, name) - getattr(exact, name)).abs().max()
            assert (getattr(found, name) - getattr(exact, name)).abs().max() <= own + 1e-5, name
    logits = torch.randn(40, 6)[::2].T  # neither rows nor columns lie side by side
    close(kernels.vocab_stats(logits, top_k=2, chosen=chosen[:6] % 20),
          reference.vocab_stats(logits, top_k=2, chosen=chosen[:6] % 20))


def test_forbidden_tokens_whole_forbidden_tiles_and_ties(narrow):
    logits = torch.randn(2, 300)
    logits[:, 3:270] = -math.inf
    chosen = torch.tensor([4, 280])
    close(kernels.vocab_stats(logits, chosen=chosen), reference.vocab_stats(logits, chosen=chosen))
    nothing = kernels.vocab_stats(torch.full((1, 200), -math.inf))
    assert nothing.lse == -math.inf and nothing.entropy == 0
    tied = torch.zeros(1, 300)
    tied[0, [5, 200, 250]] = 2.0
    found = kernels.vocab_stats(tied, top_k=8)
    assert set(found.top_ids[0, :3].tolist()) == {5, 200, 250} and len(set(found.top_ids[0].tolist())) == 8
    empty = kernels.vocab_stats(torch.zeros(0, 20), sampler=Sampler())
    assert empty.sample.shape == (0,) and empty.top_ids.shape == (0, 8)


LOGITS = torch.randn(40, generator=torch.Generator().manual_seed(5)) * 2.5
LOGITS[7] = -math.inf
SAMPLERS = {"plain": Sampler(), "cold": Sampler(0.6), "filtered": Sampler(1.3, top_k=6, top_p=0.8)}
DRAWS = 8192


@pytest.fixture
def tall(monkeypatch):
    """Many rows and few columns in a tile, and filtered heads streamed: many draws in few programs."""
    monkeypatch.setattr(on_cuda, "block_of", lambda rows, dtype: (1024, 16, 16))
    monkeypatch.setattr(on_cuda, "WHOLE", 0)


def test_places_inside_a_tile_follow_its_probabilities(tall):
    torch.manual_seed(3)
    source = on_cuda.Projection(torch.zeros(DRAWS, 1), torch.zeros(40, 1), LOGITS)
    drawn = on_cuda.sweep(source, 1, 0.6, torch.rand(3, DRAWS, dtype=torch.float64)).drawn
    for tile, part in enumerate((LOGITS / 0.6).split(16)):
        assert abs(chi_square(drawn[tile] - 16 * tile, part.softmax(-1))) < 5, tile


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_follow_the_warped_distribution(name, tall):
    sampler, make = SAMPLERS[name], torch.Generator().manual_seed(1)
    found = kernels.head_stats(torch.zeros(DRAWS, 1), torch.zeros(40, 1), bias=LOGITS, top_k=1, sampler=sampler,
                               generator=make)
    assert found.path == "cuda-triton"
    assert abs(chi_square(found.sample, warp(LOGITS, sampler).softmax(-1))) < 5


def test_places_are_those_of_the_running_sum_and_never_forbidden():
    hidden, weight, bias, _ = head(3, 70)
    bias[:20] = -math.inf
    source = on_cuda.Projection(hidden, weight, bias)
    source.width = 32
    inside = torch.tensor([[0.0, 0.999, 0.5]], dtype=torch.float64).expand(3, -1).contiguous()
    drawn = on_cuda.sweep(source, 1, 1.0, inside).drawn
    probs = linear(hidden, weight, bias).softmax(-1)
    for tile, part in enumerate(probs.split(32, 1)):
        assert torch.equal(drawn[tile], 32 * tile + inverse_cdf(part, inside[tile]))
    last = on_cuda.sweep(source, 1, 1.0, torch.ones(3, 3, dtype=torch.float64)).drawn  # rounding may reach 1
    assert drawn[0].min() >= 20 and (probs.gather(1, last.T) > 0).all()


def test_greedy_and_same_seed_and_filtered_heads(monkeypatch):
    hidden, weight, bias, _ = head(3, 90)
    best = linear(hidden, weight, bias).argmax(-1)
    for sampler in (Sampler(0), Sampler(top_k=1), Sampler(top_p=1e-6)):
        assert torch.equal(kernels.head_stats(hidden, weight, bias=bias, sampler=sampler).sample, best)
    monkeypatch.setattr(on_cuda, "WHOLE", 0)  # now the filtered head streams, too
    one, two = (kernels.head_stats(hidden, weight, sampler=Sampler(top_k=4), generator=torch.Generator().manual_seed(2))
                for _ in range(2))
    assert torch.equal(one.sample, two.sample)
    assert (one.top_ids[:, :4] == one.sample[:, None]).any(1).all()


# Mutants of the tile pass in plain Python: what `agrees` and the tests above must refuse.

def mutant_no_guard(part, u):
    """Inverts the running sum without asking for mass: u = 0 gives the first column even where it is forbidden."""
    return int((part.softmax(-1).cumsum(0) >= u).nonzero()[0])


def mutant_tempered_place(part, u, temperature):
    """Draws inside the tile at temperature 1 and picks the tile at the sampler's."""
    return torch.multinomial(part.softmax(-1), u, replacement=True)


def test_mutants_are_refused():
    part = LOGITS[:16].clone()
    part[0] = -math.inf
    assert part[mutant_no_guard(part, 0.0)] == -math.inf
    torch.manual_seed(0)
    assert abs(chi_square(mutant_tempered_place(part, 4000, 0.6), (part / 0.6).softmax(-1))) > 5


@pytest.mark.parametrize("change", [
    {"mass": lambda x: x * 1.01}, {"energy": lambda x: x * 0}, {"drawn": lambda x: x + 1}, {"best": lambda x: x + 0.1},
])
def test_the_self_test_refuses_a_broken_pass(change, monkeypatch):
    cpu, whole = torch.device("cpu"), on_cuda.sweep
    (name, alter), = change.items()

    def broken(*arguments):
        sums = whole(*arguments)
        return sums._replace(**{name: alter(getattr(sums, name))})

    monkeypatch.setattr(on_cuda, "sweep", broken)
    assert not on_cuda.agrees(cpu, torch.float32)


@pytest.mark.parametrize("sampler", [None, Sampler(0), Sampler(0.7), Sampler(top_p=0.9, top_k=3)])
def test_nothing_after_the_pass_waits_for_the_device(sampler):
    logits = torch.randn(4, 30)
    source, chosen = on_cuda.Table(logits), torch.tensor([1, 2, 3, 4])
    sums = on_cuda.sweep(source, 3, 1.0, torch.rand(1, 4, dtype=torch.float64))
    with Watch():
        found = tiles.tiled(source, lambda *_: sums, torch.Size([4]), top_k=3, chosen=chosen, sampler=sampler,
                            generator=None)
    assert torch.equal(found.top_ids, logits.topk(3).indices)
    assert source.asks is False and on_cuda.Projection(logits, logits, None).asks  # where it may, it looks
