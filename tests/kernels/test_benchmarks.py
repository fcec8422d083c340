"""The protocol of the benchmarks: ratios within rounds, verdicts that can be negative, one file per benchmark."""

import json
from unittest.mock import create_autospec

import pytest
import torch

import kernels
from benchmarks import __main__ as command
from benchmarks import attention, model, prune, timing, unmask_step, vocabulary
from tests.kernels.test_graphs import device  # noqa: F401  (CPU tensors count as a GPU's)


def test_a_slow_round_does_not_move_the_ratio():
    times = {"ours": [2.0, 200.0, 2.2], "peer": [1.0, 100.0, 1.0]}
    found = timing.row("x", times, "ours", "peer", floor=2.1, target=1.5)
    assert found["ratio"] == 2.0 and found["holds"] and not found["stretch"] and found["most"] == 2.2
    mean = sum(times["ours"]) / sum(times["peer"]) * 1.05  # the mutant: totals, which the slow round decides
    assert mean != found["ratio"]


def test_verdicts_can_fail_and_unclaimed_rows_claim_nothing():
    times = {"a": [3.0], "b": [1.0]}
    assert timing.row("x", times, "a", "b", floor=2)["holds"] is False
    assert timing.row("x", times, "a", "b", floor=2, better="higher")["holds"] is True
    assert timing.row("x", times, "a", "b", floor=4, target=4, better="higher")["stretch"] is False
    assert timing.row("x", times, "a", "b")["holds"] is None


def test_works_are_interleaved_and_take_turns():
    seen = []
    works = {name: lambda name=name: seen.append(name) for name in "abc"}
    times = timing.interleave(works, 3)
    assert seen[3:] == list("bca" "cab" "abc") and all(len(rounds) == 3 for rounds in times.values())


def test_extra_memory_sees_what_was_taken():
    taken = timing.extra_memory(lambda: bytearray(64 << 20))
    if taken is None:
        pytest.skip("this system does not tell peaks")
    assert 48 < taken < 96


def test_names_are_files_and_the_json_is_complete(monkeypatch, capsys):
    assert {"attention", "vocabulary", "unmask-step", "prune", "model", "start", "click"} <= set(command.names())
    rows = [timing.row("x", {"a": [1.0], "b": [2.0]}, "a", "b", floor=1, path="cpu-eager")]
    monkeypatch.setattr(attention, "run", lambda *_: rows)
    assert command.main(["attention", "--json", "--quick"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "attention" and found["rows"][0]["holds"] and {"device", "torch"} <= set(found)
    assert command.main(["attention", "--quick"]) == 0 and "holds" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        command.main(["nothing"])
    assert stop.value.code == 2


CASES = {
    "gpt2": lambda: prune.gpt2(24, 4, 2, "cpu", torch.float32, n_embd=32, n_head=4, vocab_size=50),
    "vit": lambda: prune.vit(64, 4, 2, "cpu", torch.float32, hidden_size=32, num_attention_heads=4,
                             intermediate_size=128),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_pruning_keeps_the_right_tokens_and_its_check_sees_wrong_ones(name, monkeypatch):
    case, compact = CASES[name](), kernels.compact
    prune.check(case, 0.5, torch.float32)
    out, short = prune.pruned(case, 0.25)
    assert out.shape[1] == short.ids_keep.shape[1] == round(0.25 * case.embed().shape[1])
    assert bool((short.ids_keep[:, case.stays] == (case.embed().shape[1] - 1 if case.causal else 0)).all())
    # The mutant keeps the tokens that nobody looks at.
    monkeypatch.setattr(kernels, "compact", lambda states, keep: compact(states, (-keep[0], keep[1])))
    with pytest.raises(AssertionError):
        prune.check(case, 0.5, torch.float32)


def test_the_ideal_of_pruning_counts_projections_and_visible_pairs():
    for name, pairs in (("vit", 17 * 17), ("gpt2", 24 * 25 // 2)):
        case, tokens = CASES[name](), {"vit": 17, "gpt2": 24}[name]
        full = 4 * (tokens * 12 * 32 * 32 + 2 * pairs * 32)
        assert prune.multiply_adds(case, tokens, tokens) == full
        few = tokens // 4
        linear = 1 / (0.25 + 0.75 * few / tokens)  # one layer of four sees all; pairs shrink with the square
        assert linear < full / prune.multiply_adds(case, tokens, few) < 4


def test_a_row_may_count_in_units():
    times = {"full": [4.0], "pruned": [2.0]}
    assert timing.row("x", times, "full", "pruned", floor=0.85, better="higher", per=2.5)["holds"] is False
    assert timing.row("x", times, "full", "pruned", floor=0.85, better="higher", per=2.0)["ratio"] == 1.0


def gpu_case(length, width, dtype=torch.bfloat16):
    return attention.AttentionShape(length, width, False, dtype, "cuda")


def test_a_gpu_is_asked_for_both_widths_and_the_longest_length():
    cases, here = attention.cases("cuda", False), attention.cases("cpu", False)
    assert {(c.length, c.width) for c in cases if c.length >= 4096} == {(4096, 64), (4096, 128), (32768, 128)}
    assert {c.causal for c in cases if c.length == 32768} == {True, False}
    assert max(c.length for c in here) == 4096 and {c.width for c in here} == {64}
    bounds = {width: attention.against_sdpa(gpu_case(2048, width)) for width in (64, 128)}
    assert bounds == {64: {"floor": 2.2, "target": 2.2}, 128: {"floor": 1.7, "target": 1.7}}
    assert attention.against_sdpa(gpu_case(512, 64)) == {}
    times = {"ours": [1.0], "maps": [7.9]}
    assert [attention.against_maps(gpu_case(n, 128), times, "p")["holds"] for n in (2048, 4096, 32768)] == [
        None, False, False]


def fake_peer(error):
    def run_out(*_):
        raise error
    return run_out


def test_a_peer_out_of_memory_is_a_row_and_any_other_error_is_one(monkeypatch, capsys):
    case = attention.AttentionShape(48, 64, True, torch.float32, "cpu")
    sdpa, maps = attention.compared(case, 1)
    assert sdpa["ratio"] > 0 and maps["ratio"] > 0 and maps["path"] in ("cpu-eager", "cpu-compiled")
    monkeypatch.setattr(attention, "eager_with_maps", fake_peer(torch.OutOfMemoryError("tried to allocate 128 GiB")))
    _, row = attention.compared(case, 1)
    assert row["peer"] == "out of memory" and row["ratio"] is None and row["holds"] is None and row["ours_ms"] > 0
    monkeypatch.setattr(attention, "LONGEST", 48)
    rows = attention.compared(case, 1)
    assert rows[1]["holds"] is True and rows[0]["ratio"] > 0  # ours ran
    monkeypatch.setattr(attention, "run", lambda *_: rows)
    assert command.main(["attention", "--quick"]) == 0 and "out of memory" in capsys.readouterr().out
    assert command.main(["attention", "--json", "--quick"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][1].keys() >= {"ratio", "floor", "target", "holds", "stretch"}
    monkeypatch.setattr(attention, "eager_with_maps", fake_peer(RuntimeError("a wrong shape")))
    with pytest.raises(RuntimeError, match="wrong shape"):  # the mutant calls every failure a lack of memory
        attention.compared(case, 1)


@pytest.mark.parametrize("field", ["entropy", "peak", "received"])
def test_long_rows_are_checked_without_maps(field):
    q, k, v = attention.AttentionShape(40, 64, True, torch.float32, "cpu").inputs()
    found = kernels.attention_stats(q, k, v, causal=True)
    attention.check_some(found, q, k, True, 1e-4)
    wrong = found._replace(**{field: getattr(found, field) * 1.01})
    with pytest.raises(AssertionError):
        attention.check_some(wrong, q, k, True, 1e-4)


@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_the_weight_is_read_at_a_share_of_the_faster_reader():
    copy_wins = {"copy": [2.0], "matmul": [9.0], "replayed": [1.25], "called": [4.0]}
    claim = {"floor": 0.85, "target": 0.85}
    replayed, called = vocabulary.shares("x", copy_wins, 3e9, "cuda-graph", "cuda-triton", claim)
    assert replayed["ratio"] == 0.8 and replayed["holds"] is False and replayed["read_gb_per_s"] == 3000
    assert called["ratio"] == 0.25 and called["holds"] is None and replayed["path"] == "cuda-graph, cuda-triton"
    assert copy_wins["copy"][0] / copy_wins["replayed"][0] > 1  # the mutant forgets that a copy also writes
    product_wins = copy_wins | {"matmul": [0.9]}
    assert vocabulary.shares("x", product_wins, 3e9, "", "", claim)[0]["ratio"] == 0.72
    rows = vocabulary.reading(300, 16, torch.float32, "cpu", 2, True)
    assert [row["path"] for row in rows] == ["cuda-graph, cpu-tiled", "cpu-tiled"] and rows[0]["holds"] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("device")
@torch.no_grad()
def test_the_recorded_loop_is_measured_and_its_check_sees_another(dtype):
    network, ids = unmask_step.backbone(64, 1, 12, 20, "cpu", dtype), torch.full((2, 12), 20)
    rows = unmask_step.loops("x", network, ids, "cpu", 1, True)
    assert rows[0]["path"] == "cuda-graph, cpu-tiled" and rows[0]["floor"] == 3 and rows[1]["floor"] is None
    assert len(unmask_step.compared("x", network, ids, "cpu", 1, False)) == 3
    counts, make = kernels.schedule(12, 3), torch.Generator()
    plain = unmask_step.plain_loop(network, ids, 20, counts, 1.0, make)
    assert [int((now == 20).sum(1).unique()) for now in plain] == [12 - sum(counts[:n]) for n in (1, 2, 3)]

    def loop(counts, generator):
        return unmask_step.graphs.unmasking(network, 20, counts, sampler=kernels.Sampler(), generator=generator)

    right = loop(counts, make)
    assert unmask_step.check_loops(right, right, ids, 20, counts, make) == "cpu-tiled"
    for wrong in (loop(counts[:-1], make), loop(counts[::-1], make), loop(counts, torch.Generator().manual_seed(9))):
        with pytest.raises(AssertionError):
            unmask_step.check_loops(right, wrong, ids, 20, counts, make)


def tiny_gpt2(length):
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    network = GPT2Model(GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=50)).eval()
    return network, {"input_ids": torch.randint(0, 50, (1, length))}


@torch.no_grad()
def test_models_have_a_row_per_dtype_and_a_gpu_judges_both():
    for dtype in (torch.float32, torch.bfloat16):
        rows = model.compared(tiny_gpt2, 24, dtype, "cpu", True)
        assert str(dtype).removeprefix("torch.") in rows[0]["what"]
        assert rows[1]["floor"] == (1.05 if dtype == torch.float32 else None)
    times = {"ours": [1.0], "maps": [4.0], "bare": [1.0]}
    assert model.timed("x", 2048, times, "cuda", "p", True)[1]["holds"] is False
    assert model.timed("x", 2048, times, "cpu", "p", True)[1]["holds"] is True
    assert model.timed("x", 2048, times, "cpu", "p", False)[1]["holds"] is None
    one, inputs = tiny_gpt2(24)
    eager, _ = tiny_gpt2(24)
    eager.set_attn_implementation("eager")
    eager.h[1].mlp.c_proj.weight.mul_(40)  # the mutant is another network
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(AssertionError):
            model.check(one.to(dtype), eager.to(dtype), inputs, dtype)


def test_a_gpu_alone_is_asked_for_bandwidth_and_whole_loops(monkeypatch):
    def watch(module, name):
        found = create_autospec(getattr(module, name), return_value=[])  # refuses arguments that do not fit
        monkeypatch.setattr(module, name, found)
        return found

    reading, loops, steps = watch(vocabulary, "reading"), watch(unmask_step, "loops"), watch(unmask_step, "compared")
    for module, name in ((vocabulary, "compared"), (unmask_step, "backbone")):
        watch(module, name)
    monkeypatch.setattr(torch, "full", lambda size, value, **_: torch.zeros(size))
    for here in ("cpu", "cuda"):
        assert vocabulary.run(here, False) == unmask_step.run(here, False) == []
        assert (reading.call_count, loops.call_count) == {"cpu": (0, 0), "cuda": (2, 4)}[here]
    assert [call.args[-1] for call in loops.call_args_list] == [True, True, False, False]  # ViT-B's size is judged
    assert [call.args[-1] for call in steps.call_args_list] == [True, False] * 2 + [False] * 4  # fp32 on the CPU


def test_records_name_their_day_machine_and_command_and_a_quick_run_leaves_none(monkeypatch, tmp_path, capsys):
    """Mutant: a quick run, which says nothing about speed, replaces the record that README is written from."""
    monkeypatch.setattr(command, "RECORDS", tmp_path)
    assert command.main(["attention", "--quick", "--record"]) == 2 and "not recorded" in capsys.readouterr().err
    with pytest.raises(ValueError):
        command.record({"name": "attention", "device": "cpu", "quick": True, "rows": []}, tmp_path)
    kept = command.record({"name": "attention", "device": "cpu", "quick": False, "rows": []}, tmp_path)
    found = json.loads(kept.read_text("utf-8"))
    assert found["command"] == "python -m benchmarks attention" and found["date"] and "cores" in found["machine"]
    assert not list(tmp_path.glob("*cuda*"))
    command.record({"name": "attention", "device": "H200", "quick": False, "rows": []}, tmp_path)
    assert "--device cuda" in json.loads((tmp_path / "attention-cuda.json").read_text())["command"]
