"""A Triton kernel runs only where its self-test passed on that device and type; refusals leave a sentence."""

import sys
from types import SimpleNamespace

import pytest
import torch

from kernels import dispatch

CPU, HALF = torch.device("cpu"), torch.float16


@pytest.fixture
def kernel(monkeypatch):
    """Puts a made-up kernels.triton_<name> in place whose self-test is what a test wants; counts how often it runs."""
    monkeypatch.setattr(dispatch, "VERDICTS", {})
    monkeypatch.setattr(dispatch, "NOTES", {})
    runs = []

    def put(name, verdict):
        def agrees(device, dtype):
            runs.append((name, dtype))
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

        monkeypatch.setitem(sys.modules, f"kernels.triton_{name}", SimpleNamespace(agrees=agrees))
        return runs

    return put


@pytest.mark.parametrize("name", ["attention", "vocabulary", "unmasking"])
def test_each_kernel_is_tried_once_per_type(name, kernel):
    runs = kernel(name, True)
    assert all(dispatch.trusted(name, CPU, dtype) for dtype in (HALF, torch.float32, HALF))
    assert runs == [(name, HALF), (name, torch.float32)] and dispatch.notes() == []
    assert not dispatch.trusted(name, CPU, torch.float64) and len(runs) == 2  # fp64 is the reference's


def test_a_refused_kernel_is_never_tried_again_and_the_reason_is_kept(kernel):
    runs = kernel("attention", False)
    kernel("vocabulary", RuntimeError("ptxas fatal"))
    for _ in range(2):
        assert not dispatch.trusted("attention", CPU, HALF) and not dispatch.trusted("vocabulary", CPU, HALF)
    assert len(runs) == 2
    assert dispatch.notes() == [
        "The Triton attention kernel disagrees with the reference on cpu in float16, so the plain computation serves.",
        "The Triton vocabulary kernel did not run (RuntimeError) on cpu in float16, so the plain computation serves.",
    ]


def test_without_triton_the_plain_code_serves_and_says_so(kernel, monkeypatch):
    monkeypatch.setitem(sys.modules, "kernels.triton_attention", None)  # importing it now fails
    assert not dispatch.trusted("attention", CPU, HALF)
    assert dispatch.notes() == ["Triton is not installed, so the plain computation serves on the GPU."]


@pytest.mark.parametrize("agreed", [True, False])
def test_paths_on_a_gpu_follow_the_verdict(agreed, kernel):
    """Stand-ins that say they are on a GPU: which path is chosen is decided before anything runs."""
    for name in ("attention", "vocabulary", "unmasking"):
        kernel(name, agreed)

    def on_gpu(*shape, dtype=torch.bfloat16):
        return SimpleNamespace(device=torch.device("cuda", 0), dtype=dtype, shape=shape, requires_grad=False)

    q = on_gpu(1, 2, 9, 64)
    assert dispatch.attention_path(q, q, q, None) == ("cuda-triton" if agreed else "identities")
    assert dispatch.vocabulary_path(on_gpu(5, 9)) == ("cuda-triton" if agreed else "reference")
    assert dispatch.unmasking_path(on_gpu(5, 9, dtype=torch.long)) == ("cuda-triton" if agreed else "reference")
    wide = on_gpu(1, 2, 9, 512)
    assert dispatch.attention_path(wide, wide, wide, None) == "identities"  # tiles would not fit on the chip
    assert dispatch.vocabulary_path(on_gpu(5, 9, dtype=torch.float64)) == "reference"
