"""Vocabulary statistics against the whole table, and draws against exact probabilities (chi-square)."""

import math

import pytest
import torch
from torch.nn.functional import linear

import kernels
from kernels import Sampler, native, reference, tiles, vocabulary
from kernels import logits as logits_module
from kernels.sampling import inverse_cdf, kept_ranks, warp
from tests.kernels.conftest import COMPILED

SAMPLERS = {
    "plain": Sampler(),
    "cold": Sampler(temperature=0.6),
    "top-k": Sampler(temperature=1.4, top_k=12),
    "top-p": Sampler(top_p=0.8),
    "wide top-p": Sampler(temperature=3.0, top_p=0.97),  # holds more tokens than the candidates do
    "min-p": Sampler(min_p=0.05),
    "all": Sampler(temperature=0.8, top_k=30, top_p=0.9, min_p=0.02),
}
DRAWS = 200_000


@pytest.fixture(autouse=True, params=("cpu-tiled", *COMPILED))
def path(request, library, monkeypatch):
    """Once in torch operations, once in C."""
    monkeypatch.setattr(native, "_rows", None if request.param == "cpu-tiled" else library)
    return request.param


def close(found, expected, tolerance=3e-6):
    for name in ("lse", "entropy", "top_logp", "chosen_logp"):
        one, two = getattr(found, name).double(), getattr(expected, name).double()
        assert one.shape == two.shape and not one.isnan().any(), name
        both = one.isinf() & two.isinf()
        assert ((one - two).abs() / (1 + two.abs())).masked_fill(both, 0).max() < tolerance, name


def head(rows, columns, width=16, dtype=torch.float32):
    make = torch.Generator().manual_seed(rows * columns)
    hidden = torch.randn(rows, width, generator=make).to(dtype)
    weight, bias = torch.randn(columns, width, generator=make).to(dtype), torch.randn(columns, generator=make).to(dtype)
    return hidden, weight, bias, torch.randint(0, columns, (rows,), generator=make)


@pytest.mark.parametrize("whole", [0, 1 << 20])
@pytest.mark.parametrize("rows, columns", [(1, 1), (3, 50), (1, 4096), (7, 9001), (300, 2500), (700, 130), (2, 1024)])
def test_streamed_is_the_whole_table(rows, columns, whole, path, monkeypatch):
    monkeypatch.setattr(vocabulary, "WHOLE", whole)
    hidden, weight, bias, chosen = head(rows, columns)
    logits = linear(hidden, weight, bias)
    expected = reference.vocab_stats(logits.double(), chosen=chosen)
    for found in (kernels.head_stats(hidden, weight, bias=bias, chosen=chosen),
                  kernels.vocab_stats(logits, chosen=chosen)):
        assert found.path == path
        close(found, expected)
        assert torch.equal(found.top_ids, expected.top_ids)


@pytest.mark.parametrize("rows, columns", [(3, 50), (300, 1000), (40, 5000)])
def test_bands_and_tiles_on_threads_agree_with_one_thread(rows, columns, two_threads, monkeypatch):
    monkeypatch.setattr(vocabulary, "WHOLE", 0)
    hidden, weight, bias, chosen = head(rows, columns)
    make = [torch.Generator().manual_seed(1) for _ in range(2)]
    options = {"bias": bias, "chosen": chosen, "sampler": Sampler(1.2)}
    found = kernels.head_stats(hidden, weight, generator=make[0], **options)
    torch.set_num_threads(1)
    alone = kernels.head_stats(hidden, weight, generator=make[1], **options)
    close(found, alone)
    assert torch.equal(found.top_ids, alone.top_ids) and torch.equal(found.sample, alone.sample)


@pytest.mark.skipif(not COMPILED, reason="no C compiler here")
@pytest.mark.parametrize("width, found, temperature", [(1, 1, 1.0), (17, 20, 0.1), (100, 8, 2.0), (5000, 65, 0.7),
                                                       (40_000, 8, 1.0), (40_000, 128, 1.0)])
def test_a_strip_in_c_is_the_strip_in_torch(width, found, temperature, library, monkeypatch):
    """Mutants: lanes beyond the width read, the tail's padding counted, NaN taken for the smallest number."""
    make = torch.Generator().manual_seed(width)
    logits = 9 * torch.randn(6, width + 5, generator=make)[:, 2 : width + 2]
    logits[1, ::2], logits[2], logits[3, -1] = float("-inf"), float("-inf"), 300
    place = torch.rand(6, generator=make, dtype=torch.float64)
    ours, theirs = [], []
    for use, into in ((library, ours), (None, theirs)):
        monkeypatch.setattr(native, "_rows", use)
        into += [part.clone() for part in tiles.measure_strip(logits, found, temperature, place)]
    for mine, its in zip(ours[:4] + [ours[5]], theirs[:4] + [theirs[5]]):
        torch.testing.assert_close(mine, its, rtol=2e-5, atol=1e-30)
    assert torch.equal(ours[4][[0, 1, 3, 4, 5]], theirs[4][[0, 1, 3, 4, 5]])  # row 2 has nothing to draw
    finite = ours[5].isfinite()
    assert torch.equal(logits.gather(1, ours[6])[finite], ours[5][finite])
    monkeypatch.setattr(native, "_rows", library)
    logits[4, width // 2] = float("nan")
    assert tiles.measure_strip(logits, found, temperature, None)[1].isnan().tolist() == [False] * 4 + [True, False]


def test_leading_shape_and_gradients_and_override():
    hidden, weight, _, chosen = head(6, 300)
    found = kernels.head_stats(hidden.view(2, 3, 16), weight, chosen=chosen.view(2, 3), top_k=4, sampler=Sampler())
    assert found.lse.shape == found.chosen_logp.shape == found.sample.shape == (2, 3)
    assert found.top_ids.shape == (2, 3, 4)
    wanting = kernels.vocab_stats(linear(hidden, weight).requires_grad_())
    assert wanting.path == "reference" and wanting.entropy.requires_grad
    with kernels.override("reference"):
        assert kernels.head_stats(hidden, weight).path == "reference"


def test_low_precision_is_no_worse_than_the_low_precision_table():
    hidden, weight, _, chosen = head(5, 6000, dtype=torch.bfloat16)
    exact = reference.vocab_stats(linear(hidden.double(), weight.double()), chosen=chosen)
    plain = reference.vocab_stats(linear(hidden, weight), chosen=chosen)
    found = kernels.head_stats(hidden, weight, chosen=chosen)
    for name in ("lse", "entropy", "chosen_logp"):
        own = (getattr(plain, name) - getattr(exact, name)).abs().max()
        assert (getattr(found, name) - getattr(exact, name)).abs().max() <= own * 1.001 + 1e-5, name


def test_forbidden_tokens_and_whole_forbidden_tiles():
    logits = torch.randn(2, 6000)
    logits[:, 3:5000] = -math.inf
    chosen = torch.tensor([4, 5001])
    close(kernels.vocab_stats(logits, chosen=chosen), reference.vocab_stats(logits, chosen=chosen))
    assert kernels.vocab_stats(logits, chosen=chosen).chosen_logp[0] == -math.inf
    nothing = kernels.vocab_stats(torch.full((1, 5000), -math.inf))
    assert nothing.lse == -math.inf and nothing.entropy == 0


def test_largest_finds_ties_and_short_tiles():
    logits = torch.zeros(3, 1024)
    logits[1, 700:705] = 2.0
    best, ids = tiles.largest(logits, 8)
    assert torch.equal(best, logits.topk(8).values) and all(len(set(row.tolist())) == 8 for row in ids)
    assert set(ids[1, :5].tolist()) == set(range(700, 705))
    wide = torch.randn(4, 5003)  # lanes and a tail
    wide[2, 5001] = 9.0
    assert all(torch.equal(one, two) for one, two in zip(tiles.largest(wide, 8), wide.topk(8), strict=True))
    best, _ = tiles.largest(logits[:, :5], 8)
    assert best[0].tolist() == [0.0] * 5 + [-math.inf] * 3


def chi_square(sample, probs):
    """Standardised chi-square distance; tokens with fewer than 10 expected draws count as one."""
    expected = probs.double() * len(sample)
    counts = torch.bincount(sample, minlength=len(probs)).double()
    assert counts[probs == 0].sum() == 0, "a token that was cut away was drawn"
    rare = expected < 10
    expected = torch.cat([expected[~rare], expected[rare].sum()[None].clamp_min(1e-9)])
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    used = expected > 5
    degrees = max(1, int(used.sum()) - 1)
    distance = ((counts - expected)[used] ** 2 / expected[used]).sum()
    return float((distance - degrees) / math.sqrt(2 * degrees))


@pytest.fixture
def small_tiles(monkeypatch):
    """Five tiles in a vocabulary of 300, so that 200,000 draws take a moment."""
    monkeypatch.setattr(logits_module, "TILE", 64)
    monkeypatch.setattr(vocabulary, "WHOLE", 0)


def spread_logits(columns=300):
    return torch.randn(columns, generator=torch.Generator().manual_seed(5)) * 2.5


def many_draws(logits, sampler, draws, seed=11):
    make, rows = torch.Generator().manual_seed(seed), min(draws, 5_000)
    return torch.cat([kernels.vocab_stats(logits.expand(rows, -1), top_k=1, sampler=sampler, generator=make).sample
                      for _ in range(draws // rows)])


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_follow_the_warped_distribution(name, small_tiles):
    logits, sampler = spread_logits(), SAMPLERS[name]
    draws = DRAWS // 20 if name == "wide top-p" else DRAWS  # rows beyond the candidates make their logits again
    sample = many_draws(logits, sampler, draws)
    assert abs(chi_square(sample, warp(logits, sampler).softmax(-1))) < 5


def test_draws_of_the_fused_head_and_of_plain_draw(small_tiles):
    hidden, weight, bias, _ = head(1, 300)
    make = torch.Generator().manual_seed(2)
    probs = (linear(hidden, weight, bias)[0] / 1.5).softmax(-1)
    sampler = Sampler(temperature=1.5)
    many = hidden.expand(20_000, -1)
    fused = torch.cat([kernels.head_stats(many, weight, bias=bias, top_k=1, sampler=sampler, generator=make).sample
                       for _ in range(10)])
    assert abs(chi_square(fused, probs)) < 5
    logits = spread_logits(200)
    plain = kernels.draw(logits.expand(DRAWS, -1), sampler, make)
    assert abs(chi_square(plain, warp(logits, sampler).softmax(-1))) < 5


def test_greedy_and_same_seed():
    logits = spread_logits().expand(4, -1)
    assert kernels.vocab_stats(logits, sampler=Sampler(temperature=0)).sample.tolist() == [int(logits[0].argmax())] * 4
    one, two = (kernels.vocab_stats(logits, sampler=Sampler(), generator=torch.Generator().manual_seed(3)).sample
                for _ in range(2))
    assert torch.equal(one, two)


def test_warp_is_what_transformers_warpers_do():
    from transformers.generation import logits_process as peer
    logits = torch.randn(6, 400, generator=torch.Generator().manual_seed(1)) * 3
    for sampler in SAMPLERS.values():
        scores = peer.TemperatureLogitsWarper(sampler.temperature)(None, logits)
        scores = peer.TopKLogitsWarper(sampler.top_k)(None, scores) if sampler.top_k else scores
        scores = peer.TopPLogitsWarper(sampler.top_p)(None, scores) if sampler.top_p < 1 else scores
        scores = peer.MinPLogitsWarper(sampler.min_p)(None, scores) if sampler.min_p else scores
        torch.testing.assert_close(warp(logits, sampler), scores)


def test_kept_ranks_is_warp_on_sorted_scores():
    logits = torch.randn(5, 60, generator=torch.Generator().manual_seed(9)) * 2
    for sampler in SAMPLERS.values():
        scaled = logits / sampler.temperature
        ranked, ids = scaled.sort(-1, descending=True)
        keep, complete = kept_ranks(ranked, scaled.logsumexp(-1), sampler)
        assert torch.equal(keep, warp(logits, sampler).gather(1, ids).isfinite())
        assert torch.equal(complete, ~keep[:, -1])


def test_settings_out_of_range_are_refused():
    for settings in ({"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": 2}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            Sampler(**settings)
    with pytest.raises(ValueError, match="top_k"):
        kernels.vocab_stats(torch.zeros(1, 4), top_k=0)
    with pytest.raises(ValueError, match="chosen"):
        kernels.vocab_stats(torch.zeros(1, 4), chosen=torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="last dimension"):
        kernels.head_stats(torch.zeros(1, 4), torch.zeros(5, 3))


# Mutants.

def mutant_tile_by_largest_logit(logits, rows, make):
    """First stage by each tile's maximum instead of its mass."""
    tiles = logits.view(-1, 60)
    weights = (tiles.amax(1) - logits.max()).exp().expand(rows, -1)
    tile = inverse_cdf(weights, torch.rand(rows, generator=make))
    return tile * 60 + inverse_cdf(tiles.softmax(-1)[tile], torch.rand(rows, generator=make))


def mutant_same_uniform_twice(logits, rows, make):
    """One uniform number for both stages: the place inside a tile then depends on the tile's place."""
    tiles, u = logits.view(-1, 60), torch.rand(rows, generator=make)
    tile = inverse_cdf(tiles.logsumexp(-1).softmax(-1).expand(rows, -1), u)
    return tile * 60 + inverse_cdf(tiles.softmax(-1)[tile], u)


def mutant_min_p_before_temperature(logits, sampler):
    """Cuts by min-p at temperature 1, then divides."""
    probs = logits.softmax(-1)
    return (logits / sampler.temperature).masked_fill(probs < sampler.min_p * probs.amax(), -math.inf)


def test_mutants_are_refused(small_tiles):
    logits, make = spread_logits(), torch.Generator().manual_seed(4)
    probs = logits.softmax(-1)
    assert abs(chi_square(many_draws(logits, Sampler(), 40_000), probs)) < 5
    for mutant in (mutant_tile_by_largest_logit, mutant_same_uniform_twice):
        assert abs(chi_square(mutant(logits, 40_000, make), probs)) > 5, mutant.__name__
    sampler = Sampler(temperature=2.0, min_p=0.05)
    wrong = mutant_min_p_before_temperature(logits, sampler)
    assert not torch.equal(wrong.isfinite(), warp(logits, sampler).isfinite())


def test_inverse_cdf_never_leaves_the_tokens_that_have_weight():
    weights = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]])
    edges = torch.tensor([0.0, 0.2999999, 0.3000001, 1 - 2**-53])
    found = inverse_cdf(weights.expand(4, -1), edges.double())
    assert found.tolist() == [1, 1, 3, 3]
