"""Attention statistics against an fp64 truth, on every path, on ugly shapes; and the small mistakes that would pass."""

import math
from types import SimpleNamespace

import pytest
import torch

import kernels
from kernels import blocked, masks, native, reference
from kernels.dispatch import attention_path
from tests.kernels.conftest import COMPILED

PATHS = ("cpu-eager", "cpu-blocked", "identities", *COMPILED)
FIELDS = ("out", "lse", "entropy", "peak", "received")
# B, H, Hkv, N, M, D
SHAPES = {
    "one-token": (1, 2, 2, 1, 1, 8),
    "one-head-255": (1, 1, 1, 255, 255, 16),
    "grouped-123": (2, 6, 2, 123, 123, 8),
    "cache-5-of-507": (1, 4, 1, 5, 507, 16),
    "more-queries-than-keys": (1, 2, 2, 37, 20, 8),
}
MASKS = ("none", "padding", "any", "per-head", "one-key", "nothing", "additive")


def inputs(shape, dtype=torch.float32, seed=0):
    batch, heads, key_heads, queries, keys, width = shape
    make = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, queries, width, generator=make) * 2
    k, v = (torch.randn(batch, key_heads, keys, width, generator=make) for _ in range(2))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def mask_of(kind, shape):
    batch, heads, _, queries, keys, _ = shape
    make = torch.Generator().manual_seed(1)
    some = torch.rand(batch, 1, queries, keys, generator=make) > 0.4
    return {
        "none": None,
        "padding": some[:, :, :1].expand(-1, -1, queries, -1),  # transformers expands it over queries
        "any": some,
        "per-head": torch.rand(1, heads, queries, keys, generator=make) > 0.4,
        "one-key": (torch.arange(keys) == keys // 2).view(1, 1, 1, keys),
        "nothing": torch.zeros(1, 1, 1, keys, dtype=torch.bool),
        "additive": torch.where(some, torch.randn(some.shape, generator=make), torch.finfo(torch.float32).min),
    }[kind]


def truth(q, k, v, **options):
    return reference.attention_stats(q.double(), k.double(), v.double(), **options)


def gap(found, expected):
    """Largest error relative to 1 + |truth|; infinities must agree."""
    found, expected = found.double(), expected.double()
    assert torch.equal(found.isinf(), expected.isinf()) and not found.isnan().any()
    found, expected = found.nan_to_num(neginf=0), expected.nan_to_num(neginf=0)
    return ((found - expected).abs() / (1 + expected.abs())).max().item()


@pytest.fixture(autouse=True)
def rows(library, monkeypatch):
    monkeypatch.setattr(native, "_rows", library)


@pytest.fixture
def without(monkeypatch):
    """As if there were no compiler."""
    monkeypatch.setattr(native, "_rows", None)


@pytest.mark.parametrize("name", SHAPES)
def test_every_path_is_true_on_ugly_shapes_and_masks(name):
    q, k, v = inputs(SHAPES[name])
    for number, kind in enumerate(MASKS):
        for causal in (False, True):
            chosen = [0, -1] if (number + causal) % 2 else None
            options = {"causal": causal, "mask": mask_of(kind, SHAPES[name]), "received_from": chosen, "scale": 0.3}
            expected = truth(q, k, v, **options)
            for path in PATHS:
                with kernels.override(path):
                    found = kernels.attention_stats(q, k, v, **options)
                assert found.path == path
                worst = {field: gap(getattr(found, field), getattr(expected, field)) for field in FIELDS}
                assert max(worst.values()) < 2e-5, (path, kind, causal, worst)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@pytest.mark.parametrize("path", PATHS)
def test_low_precision_is_no_worse_than_low_precision_attention(path, dtype):
    q, k, v = inputs((1, 2, 1, 123, 255, 16), dtype)
    expected = truth(q, k, v, causal=True)
    with kernels.override(path):
        found = kernels.attention_stats(q, k, v, causal=True)
    assert found.out.dtype == dtype and found.lse.dtype == torch.float32
    scores = (q * q.shape[-1] ** -0.5) @ k.repeat_interleave(2, 1).transpose(-1, -2)  # in low precision, as eager does
    scores = scores.masked_fill(~(torch.arange(255) <= torch.arange(123)[:, None] + 132), -math.inf)
    plain = scores.softmax(-1) @ v.repeat_interleave(2, 1)
    assert gap(found.out, expected.out) <= gap(plain, expected.out) + 1e-5
    assert gap(found.lse, expected.lse) <= gap(scores.logsumexp(-1), expected.lse) + 1e-5


def test_several_blocks_jobs_and_threads_agree_with_one(monkeypatch, two_threads):
    monkeypatch.setattr(blocked, "BLOCK", 4096)
    for shape in ((1, 1, 1, 507, 507, 8), (2, 6, 2, 130, 130, 8)):  # one head: its queries are divided
        q, k, v = inputs(shape)
        for options in ({}, {"causal": True}, {"mask": mask_of("any", shape), "received_from": torch.tensor([3, 100])}):
            expected = truth(q, k, v, **options)
            for compiled in {False, native.ready()}:
                found = blocked.attention_stats(q, k, v, compiled=compiled, **options)
                again = blocked.attention_stats(q, k, v, compiled=compiled, **options)
                assert max(gap(getattr(found, f), getattr(expected, f)) for f in FIELDS) < 2e-5
                assert all(torch.equal(getattr(found, f), getattr(again, f)) for f in FIELDS)  # threads keep the order


def test_large_bool_masks_are_converted_block_by_block(monkeypatch):
    monkeypatch.setattr(blocked, "WHOLE_BIAS", 8)
    q, k, v = inputs((1, 2, 2, 123, 123, 8))
    mask = mask_of("any", (1, 2, 2, 123, 123, 8))
    for compiled in {False, native.ready()}:
        found = blocked.attention_stats(q, k, v, mask=mask, compiled=compiled)
        assert gap(found.received, truth(q, k, v, mask=mask).received) < 2e-5


@pytest.mark.skipif(not COMPILED, reason="no C compiler here")
def test_the_compiled_kernel_serves_every_length_but_not_doubles_or_gradients():
    long, short = inputs((1, 1, 1, 300, 300, 8)), inputs((1, 1, 1, 19, 19, 8))
    assert kernels.attention_stats(*long).path == kernels.attention_stats(*short).path == "cpu-compiled"
    assert kernels.attention_stats(*inputs((1, 1, 1, 300, 300, 8), torch.float64)).path == "cpu-blocked"
    assert kernels.attention_stats(long[0].requires_grad_(), *long[1:]).path == "reference"


@pytest.mark.parametrize("compiled", (False, *map(bool, COMPILED)))
def test_what_is_not_a_number_stays_visible(compiled):
    """Mutant: comparisons that are false for NaN, so that it counts as "attends to nothing"."""
    q, k, v = inputs((1, 1, 1, 40, 40, 8))
    q[0, 0, 7, 3] = float("nan")
    found = blocked.attention_stats(q, k, v, compiled=compiled)
    assert found.out[0, 0, 7].isnan().all() and found.entropy[0, 0].isnan().tolist() == [r == 7 for r in range(40)]


def test_a_kernel_that_cannot_be_compiled_or_disagrees_is_named(monkeypatch, library, without):
    """Mutants: taking the library untested, trying again at every call, failing the visitor's run."""
    said, calls = [], []

    def refuse():
        calls.append(1)
        raise LookupError("no C compiler")

    monkeypatch.setattr(native, "_tried", False)
    monkeypatch.setattr(native, "library", refuse)
    native.prepare(said.append)
    native.prepare(said.append)
    assert said == ["The CPU kernel could not be compiled (no C compiler), so torch's operations serve."]
    assert len(calls) == 1
    monkeypatch.setattr(native, "_tried", False)
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(native, "load", lambda path: SimpleNamespace(
        **dict.fromkeys(native.ARGUMENTS, lambda *arguments: None)))  # kernels that do nothing
    native.prepare(said.append)
    assert "disagrees" in said[1] and not native.ready()


@pytest.mark.skipif(not COMPILED, reason="no C compiler here")
def test_the_library_is_compiled_once_whole_and_only_into_a_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = native.library()
    made = path.stat().st_mtime_ns
    assert native.library() == path and path.stat().st_mtime_ns == made and len(list(path.parent.iterdir())) == 1
    monkeypatch.setattr(native, "FLAGS", (("-no-such-flag",), ("-O1",)))
    other = native.library()
    assert other != path and native.agrees(native.load(other))  # another command is another library; flags are tried
    monkeypatch.setattr(native.os, "getuid", lambda: path.stat().st_uid + 1)
    assert tmp_path not in native.own_folder().parents


def test_dispatch_is_by_shape_and_by_gradients(without):
    long, short = inputs((1, 1, 1, 300, 300, 8)), inputs((1, 1, 1, 197, 197, 8))
    assert kernels.attention_stats(*long).path == "cpu-blocked"
    assert kernels.attention_stats(*short).path == "cpu-eager"
    wanting = long[0].clone().requires_grad_()
    found = kernels.attention_stats(wanting, *long[1:])
    assert found.path == "reference" and found.out.requires_grad
    with torch.no_grad():
        assert attention_path(wanting, *long[1:], None) == "cpu-blocked"
    with pytest.raises(ValueError, match="cpu-blocked"), kernels.override("warp-drive"):
        pass


def test_inference_mode_and_other_threads_can_call_it(two_threads, without):
    q, k, v = inputs((1, 4, 4, 300, 300, 8))
    with torch.inference_mode():
        inside = kernels.attention_stats(q, k, v)
    outside = kernels.attention_stats(q, k, v)
    assert torch.equal(inside.received, outside.received) and not outside.received.is_inference()
    threads = torch.get_num_threads()
    assert blocked.attention_stats(q, k, v).path == "cpu-blocked" and torch.get_num_threads() == threads


@pytest.mark.parametrize("causal", (False, True))
def test_rows_are_the_rows_of_the_map_and_no_map_is_made(causal):
    shape = (2, 4, 2, 123, 200, 8)
    q, k, _ = inputs(shape)
    mask = mask_of("any", shape)
    scores = reference.score(q, k, None, causal, mask)
    whole = reference.probabilities(scores)[0]
    rows = kernels.attention_rows(q, k, [5, -1, 5], causal=causal, mask=mask)
    assert rows.shape == (2, 4, 3, 200)
    torch.testing.assert_close(rows, whole[:, :, [5, 122, 5]])
    with pytest.raises(ValueError, match="0 .. 122"):
        kernels.attention_rows(q, k, [123])


@pytest.mark.parametrize("change, word", [
    (lambda q, k, v: (q[0], k, v), "B, H, N, D"),
    (lambda q, k, v: (q[:, :3], k, v), "multiple"),
    (lambda q, k, v: (q, k, v[:, :, 1:]), "keys of k"),
])
def test_shapes_that_do_not_fit_are_refused_with_a_sentence(change, word):
    with pytest.raises(ValueError, match=word):
        kernels.attention_stats(*change(*inputs((1, 4, 2, 5, 5, 8))))
    with pytest.raises(ValueError, match="four dimensions"):
        kernels.attention_stats(*inputs((1, 4, 2, 5, 5, 8)), mask=torch.ones(5, 5, dtype=torch.bool))


# Mutants: each is a plausible mistake, and the assertion above it must refuse it.

def mutant_causal_from_the_start(q, k, v):
    """Aligns the first query with the first key: right for prompts, wrong for decoding with a cache."""
    seen = torch.arange(k.shape[2]) <= torch.arange(q.shape[2])[:, None]
    return reference.attention_stats(q, k, v, mask=seen[None, None])


def mutant_uniform_when_masked(q, k, v, mask):
    """Adds finfo.min instead of -inf, so a fully masked row attends to everything."""
    low = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    probs = (reference.score(q, k, None, False, None) + low).softmax(-1)
    return probs @ v


def mutant_zero_times_inf(q, k, v):
    """-inf in the score table times probability 0."""
    scores = reference.score(q, k, None, True, None)
    probs, lse = reference.probabilities(scores)
    return lse - (probs * scores).sum(-1)


def mutant_received_unnormalised(q, k, v):
    """Sums exponentials over queries without dividing each by its row's mass."""
    scores = reference.score(q, k, None, False, None)
    return (scores - scores.amax(-1, keepdim=True)).exp().sum(2)


def mutant_heads_interleaved(q, k, v):
    """Gives query head h the key head h modulo Hkv instead of h // group."""
    group = q.shape[1] // k.shape[1]
    return reference.attention_stats(q, k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1))


def test_mutants_are_refused():
    shape = (2, 6, 2, 5, 30, 8)
    q, k, v = inputs(shape)
    assert gap(mutant_causal_from_the_start(q, k, v).out, truth(q, k, v, causal=True).out) > 2e-5
    mask = mask_of("any", shape).clone()
    mask[:, :, 0] = False
    assert gap(mutant_uniform_when_masked(q, k, v.repeat(1, 3, 1, 1), mask), truth(q, k, v, mask=mask).out) > 2e-5
    with pytest.raises(AssertionError):
        gap(mutant_zero_times_inf(q, k, v), truth(q, k, v, causal=True).entropy)
    assert gap(mutant_received_unnormalised(q, k, v), truth(q, k, v).received) > 2e-5
    assert gap(mutant_heads_interleaved(q, k, v).out, truth(q, k, v).out) > 2e-5
    low = torch.full((1, 1, 1, 4), torch.finfo(torch.float16).min, dtype=torch.float16)
    assert masks.clean(low, torch.float32).isinf().all()  # fp16's "minus a lot" is no fp32 "minus a lot"
