"""The CUDA kernels in Triton's interpreter, without a GPU; bf16 products are wrong there and need a real one."""

import pytest
import torch

import kernels
from tests.kernels.test_attention import FIELDS, gap, inputs, mask_of, truth

pytest.importorskip("triton")
from kernels import triton_attention as on_cuda  # noqa: E402
from kernels.triton_tiles import interpreted  # noqa: E402

CASES = {
    "one-token": ((1, 2, 2, 1, 1, 8), "none", False, None),
    "ugly-123": ((1, 1, 1, 123, 123, 40), "none", True, None),
    "grouped-padding": ((2, 4, 2, 70, 70, 16), "padding", False, [0, -1]),
    "cache": ((1, 2, 1, 5, 150, 16), "none", True, None),
    "per-head": ((1, 2, 2, 20, 90, 16), "per-head", True, None),
    "one-key": ((1, 2, 2, 20, 90, 16), "one-key", False, [3]),
    "nothing": ((1, 1, 1, 20, 90, 16), "nothing", False, None),
    "additive": ((1, 2, 1, 33, 65, 16), "additive", True, None),
    "more-queries-than-keys": ((1, 1, 1, 80, 20, 16), "none", True, None),
}


@pytest.fixture(autouse=True)
def interpreter():
    if not interpreted():
        pytest.skip("needs TRITON_INTERPRET=1 before triton is imported")


@pytest.mark.parametrize("name", CASES)
def test_interpreted_kernels_are_true(name):
    shape, kind, causal, chosen = CASES[name]
    q, k, v = inputs(shape)
    options = {"causal": causal, "mask": mask_of(kind, shape), "received_from": chosen, "scale": 0.3}
    with kernels.override("cuda-triton"):
        found = kernels.attention_stats(q, k, v, **options)
    assert found.path == "cuda-triton"
    expected = truth(q, k, v, **options)
    worst = {field: gap(getattr(found, field), getattr(expected, field)) for field in FIELDS}
    assert max(worst.values()) < 2e-5, worst


def test_half_precision_and_the_layout_models_use():
    shape = (1, 4, 2, 37, 37, 16)
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs(shape, torch.float16))
    with kernels.override("cuda-triton"):
        found = kernels.attention_stats(q, k, v, causal=True)
    expected = truth(q, k, v, causal=True)
    assert found.out.dtype == torch.float16 and found.out.transpose(1, 2).is_contiguous()
    assert gap(found.lse, expected.lse) < 1e-5 and gap(found.entropy, expected.entropy) < 1e-5
    assert gap(found.out, expected.out) < 2e-3


def test_the_self_test_refuses_a_broken_kernel(monkeypatch):
    device = torch.device("cpu")
    assert on_cuda.agrees(device, torch.float32)
    whole = on_cuda.attention_stats
    monkeypatch.setattr(on_cuda, "attention_stats", lambda *a, **o: whole(*a, **{**o, "causal": False}))
    assert not on_cuda.agrees(device, torch.float32)


def online_entropy(scores, tile, shifted):
    """The forward's running sums in plain Python; `shifted` false is the mutant that forgets that the maximum moved."""
    top, mass, energy = torch.tensor(-1e30), torch.tensor(0.0), torch.tensor(0.0)
    for part in scores.split(tile):
        higher = torch.maximum(top, part.amax())
        p, fade = (part - higher).exp(), (top - higher).exp()
        energy = fade * (energy + (mass * (top - higher) if shifted else 0)) + (p * (part - higher)).sum()
        mass, top = fade * mass + p.sum(), higher
    return mass.log() - energy / mass


def test_the_running_energy_must_follow_the_maximum():
    scores = torch.linspace(-3, 3, 40)
    exact = torch.special.entr(scores.softmax(0)).sum()
    assert (online_entropy(scores, 8, True) - exact).abs() < 1e-5
    assert (online_entropy(scores, 8, False) - exact).abs() > 0.1
