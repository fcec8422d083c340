"""The command line: what it prints, and that bad input is one line on stderr with exit code 2."""

import json

import pytest

from models.__main__ import main
from models.engine.method import offered
from models.trace import TraceError
from models.trace.serialize import load


def test_list_as_json_has_one_object_per_method(capsys):
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["id"] for r in rows] == list(offered())
    keys = {"id", "title", "paper", "seed", "tabs", "baseline", "grade", "checkpoints", "claim"}
    assert all(set(r) == keys for r in rows)
    assert all({"name", "shipped", "bytes", "licence"} == set(c) for r in rows for c in r["checkpoints"])


def test_run_writes_a_trace_that_can_be_read(tmp_path, capsys, tiny):
    out, figure = tmp_path / "t.json", tmp_path / "f.png"
    code = main(["run", "mae", "--set", "mask_ratio=0.5", "--seed", "3", "--out", str(out), "--figure", str(figure)])
    assert code == 0, capsys.readouterr().err
    trace = load(out.read_text())
    assert trace.provenance.params["mask_ratio"] == 0.5 and trace.provenance.seed == 3
    assert figure.read_bytes()[:4] == b"\x89PNG"


def test_run_twice_gives_the_same_trace(tmp_path, tiny):
    import dataclasses
    found = []
    for name in ("a.json", "b.json"):
        main(["run", "mae", "--seed", "5", "--out", str(tmp_path / name)])
        trace = load((tmp_path / name).read_text())
        found.append([dataclasses.replace(s, cost=dataclasses.replace(s.cost, ms=0)).state.tolist()
                      for s in trace.steps])
    assert found[0] == found[1]


@pytest.mark.parametrize("arguments", [
    ["run", "nothing-like-it"], ["run", "mae", "--set", "mask_ratio=9"], ["run", "mae", "--set", "mask_ratio"],
    ["run", "mae", "--subject", "no/such/file.png"], ["run", "mae", "--checkpoint", "../../etc"],
    ["run", "mae", "--seed", "-1"], ["run", "mae", "--tab", "sample"], ["run", "mae", "--figure", "x.docx"],
    ["run", "mae", "--baseline"], ["run", "mae", "--out", "/no/such/folder/t.json"], ["claims", "nothing-like-it"],
])
def test_bad_input_is_one_line_and_exit_code_2(arguments, capsys, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("tokenscope: ") and "Traceback" not in err


def test_a_damaged_trace_file_says_so(tmp_path):
    with pytest.raises(TraceError):
        load("{" + "x" * 100)


@pytest.mark.parametrize("arguments, words", [
    (["--out", "/no/such/folder/t.json"], "no such folder"), (["--out", "/tmp"], "it is a folder"),
    (["--figure", "a.PNG"], "small letters"), (["--figure", "a"], "must end in"), (["--tab", "attend"], "no record"),
    (["--baseline"], "no baseline"), (["--set", "steps"], "key=value"), (["--subject", ""], "type some text"),
    (["--subject", "storyy.txt"], "no file 'storyy.txt'"), (["--checkpoint", "text-mdm-l"], "no checkpoint"),
    (["--checkpoint", "."], "no config.json"),
])
def test_what_cannot_be_had_is_refused_before_the_work(arguments, words, capsys, tiny, tmp_path, monkeypatch):
    """Mutant: refused only after the model was loaded and run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.__main__.follow", None)
    assert main(["run", "sampling", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_an_error_of_ours_is_one_line_too(capsys, tiny, monkeypatch):
    """Mutant: the cause's own words, which may hold a path or what was typed."""
    def broken(job):
        raise KeyError("/the secret/inside")
    monkeypatch.setattr("models.__main__.follow", broken)
    assert main(["run", "sampling"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "KeyError" in err and "secret" not in err and "Traceback" not in err
