"""The choice of number format: raced for once per machine, overridden by whoever asks, pinned by claims."""

import json
from dataclasses import replace

import pytest

import kernels
from models import claims
from models.checkpoints import precision, store
from models.claims.harness import Claim
from models.engine.method import find


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A processor with bf16 whose gains the test sets by rows; counts the races."""
    monkeypatch.delenv("TOKENSCOPE_DTYPE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "_kept", {})
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    gains, races = {precision.READ: 3.0, precision.WRITE: 0.7}, []

    def gain(width, rows):
        races.append((width, rows))
        return gains[rows]
    monkeypatch.setattr(precision, "gain", gain)
    return gains, races


def test_a_model_that_writes_must_not_write_more_slowly(machine):
    gains, _ = machine
    assert precision.default("cpu", 256) == "bfloat16"
    assert precision.default("cpu", 256, writes=True) == "float32"
    # The mutant looks at reading alone.
    assert (gains[precision.READ] >= precision.MARGIN) != precision.bfloat16_wins(256, writes=True)


def test_a_gain_below_the_margin_is_not_worth_the_rounding(machine):
    machine[0][precision.READ] = precision.MARGIN - 0.01
    assert precision.default("cpu", 256) == "float32"


def test_the_race_is_run_once_per_machine(machine, monkeypatch, tmp_path):
    _, races = machine
    for _ in range(3):
        precision.default("cpu", 256)
    monkeypatch.setattr(precision, "_kept", {})  # another process
    precision.default("cpu", 256)
    assert races == [(256, precision.READ)]
    assert list(json.loads((tmp_path / "tokenscope" / "bfloat16.json").read_text()).values()) == [3.0]


@pytest.mark.parametrize("damage", ["not json", "[1]", ""])
def test_a_damaged_or_unwritable_cache_only_costs_a_race(damage, machine, monkeypatch, tmp_path):
    (tmp_path / "tokenscope").mkdir()
    (tmp_path / "tokenscope" / "bfloat16.json").write_text(damage)
    assert precision.default("cpu", 256) == "bfloat16"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "tokenscope" / "bfloat16.json"))  # a file: no folder inside it
    assert precision.default("cpu", 128) == "bfloat16" and precision.default("cpu", 128) == "bfloat16"
    assert len(machine[1]) == 2


def test_no_race_without_the_instructions_on_other_devices_or_for_unknown_widths(machine, monkeypatch):
    assert precision.default("cuda", 256) == "float32" and precision.default("cpu", 0) == "float32"
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert precision.default("cpu", 256) == "float32" and not machine[1]


def test_the_flag_beats_the_race_and_a_pin_beats_the_flag(machine, monkeypatch):
    monkeypatch.setenv("TOKENSCOPE_DTYPE", "float16")
    assert precision.default("cpu", 256) == "float16" and not machine[1]
    with precision.pinned("float32"):
        assert precision.default("cpu", 256) == "float32"
    assert precision.default("cpu", 256) == "float16"


def test_claims_run_in_float32_whatever_the_machine_prefers(machine, monkeypatch):
    import models.baselines.random_keep.claim as measured
    seen = []
    monkeypatch.setattr(measured, "measure", lambda lab: seen.append(precision.default("cpu", 256)) or Claim(
        "random-keep", "", "", {}, (), (), (), (), {}, {}, "mixed", ""))
    monkeypatch.setattr(store, "_read", lambda name, device, dtype: store.Bundle(name, None, dtype=dtype))
    monkeypatch.setattr(store, "_loaded", type(store._loaded)())
    claim = claims.stamped(find("random-keep"), claims.Lab())
    assert seen == ["float32"] and claim.dtype == "float32"
    assert precision.default("cpu", 256) == "bfloat16"  # what it would have been


def test_a_checkpoint_is_raced_at_its_own_width(machine, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    config = {"architectures": ["ViTForImageClassification"], "hidden_size": 192}
    (folder / "config.json").write_text(json.dumps(config))
    assert store.default_dtype(str(folder), "cpu") == "bfloat16" and machine[1] == [(192, precision.READ)]
    (folder / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"], "n_embd": 512}))
    assert store.default_dtype(str(folder), "cpu") == "float32" and (512, precision.WRITE) in machine[1]


def test_the_real_race_measures_something():
    for width in (64, 100):
        assert 0.01 < precision.gain(width, 4) < 100


def test_the_strip_says_that_a_short_format_rounds():
    from models.engine.method import run
    from tests import tiny
    from visualizers.page.nodes import strip
    tiny.use()
    trace = run("random-keep").traces["prune"]
    tiny.forget()
    short = replace(trace, provenance=replace(trace.provenance, dtype="bfloat16"))
    assert "may choose otherwise" in str(strip(short, (), {})) and "otherwise" not in str(strip(trace, (), {}))


def test_a_kernel_that_could_not_be_trusted_is_named_in_the_strip(monkeypatch):
    """The note of the dispatcher travels in the trace; mutant: a strip that leaves it out."""
    from kernels import dispatch
    from tests import samples
    from visualizers.page.nodes import strip

    monkeypatch.setattr(dispatch, "NOTES", {})
    dispatch.note("The attention kernel disagreed with its reference; plain PyTorch ran instead.")
    trace = samples.sample()
    told = replace(trace, provenance=replace(trace.provenance, note=" ".join(kernels.notes())))
    assert "disagreed with its reference" in str(strip(told, (), {}))
    assert "disagreed" not in str(strip(trace, (), {}))
