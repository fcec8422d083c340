"""The protocol of the benchmarks: ratios within rounds, verdicts that can be negative, one file per benchmark."""

import json

import pytest
import torch

import kernels
from benchmarks import __main__ as command
from benchmarks import prune, timing


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
    from benchmarks import attention

    rows = [timing.row("x", {"a": [1.0], "b": [2.0]}, "a", "b", floor=1, path="cpu-eager")]
    monkeypatch.setattr(attention, "run", lambda device, quick: rows)
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
