"""Pinning: what nobody pinned is not offered, and a pin is what the Hub has."""

import json

import pytest

from models.checkpoints import hub, registry, store, verify
from models.checkpoints.store import CheckpointError
from models.engine.method import find
from tests import fake_hub
from tests.checkpoints.public import AMUSED, ELECTRA, GPT2, WRITER, copy_of, fetch, refused


def test_what_nobody_pinned_is_not_offered_and_not_fetched(unpinned, capsys):
    from models.__main__ import main
    assert AMUSED not in hub.offered("maskgit") and ELECTRA not in find("electra").choices
    assert "has not pinned it" in refused(ELECTRA) and not unpinned.asked
    with pytest.raises(CheckpointError, match="models pin"):
        store.load(AMUSED)
    assert main(["pin"]) == 0
    assert capsys.readouterr().out.count("not pinned") == len(hub.pinnable())


@pytest.mark.parametrize("name", [AMUSED, ELECTRA])
def test_a_pin_is_what_the_hub_has_and_outlives_the_process(unpinned, layouts, name, monkeypatch, capsys):
    from models.__main__ import main
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["pin", name]) == 0
    assert fake_hub.today(name) in capsys.readouterr().out and set(unpinned.tokens) == {None}
    again = {entry.repo: hub.pinned(entry) for entry in hub.WRITTEN}
    for one in (*hub.TABLE[name].needs, name):
        assert again[one] == hub.TABLE[one]
        assert again[one].revision == fake_hub.today(one)
        assert set(again[one].weights) == set(registry.parts(again[one].architecture))
        for path, (size, sha256) in again[one].weights.items():
            assert size == (layouts[one] / path).stat().st_size
            assert sha256 == verify.fingerprint(layouts[one] / path)
    method = next(iter(hub.TABLE[name].methods))
    assert name in find(method).choices
    fetch(name)
    assert store.load(name).revision == fake_hub.today(name)[:12]


def test_a_new_pin_replaces_the_old_one_and_its_files(unpinned, layouts, monkeypatch):
    from models.__main__ import main
    assert main(["pin", WRITER]) == 0
    fetch(WRITER)
    old = hub.folder(WRITER)
    with fake_hub.serving({(WRITER, "7" * 40): layouts[WRITER]}) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert main(["pin", WRITER]) == 0
        assert hub.TABLE[WRITER].revision == "7" * 40 and hub.folder(WRITER) is None and not old.exists()
        fetch(WRITER)
    assert hub.folder(WRITER) and hub.folder(WRITER) != old


def pins_of(monkeypatch, text: str) -> dict[str, hub.Public]:
    """The table of a server whose file of pins holds this text."""
    from models.checkpoints import pins
    pins.place().write_text(text)
    return {entry.repo: hub.pinned(entry) for entry in hub.WRITTEN}


def test_a_damaged_or_hostile_file_of_pins_changes_nothing(unpinned, layouts, monkeypatch):
    one = {"revision": fake_hub.today(WRITER), "weights": {"model.safetensors": [7, "a" * 64]}}
    bad = ["", "{", "[]", "7", "\x00", "[" * 100_000, json.dumps({WRITER: None}), json.dumps({WRITER: {}}),
           *(json.dumps({WRITER: one | change}) for change in (
               {"revision": "main"}, {"revision": "../../../etc"}, {"revision": 5}, {"weights": []}, {"weights": {}},
               {"weights": {"../../model.safetensors": [7, "a" * 64]}},
               {"weights": {"model.safetensors": [7, "a" * 64], "more.bin": [7, "a" * 64]}},
               {"weights": {"model.safetensors": [0, "a" * 64]}}, {"weights": {"model.safetensors": [True, "a" * 64]}},
               {"weights": {"model.safetensors": [7, ""]}}, {"weights": {"model.safetensors": [7, "A" * 64]}},
               {"weights": {"model.safetensors": {"bytes": 7}}}, {"weights": {"model.safetensors": "ab"}}))]
    for text in bad:
        table = pins_of(monkeypatch, text)
        assert not table[WRITER].revision and list(table) == [entry.repo for entry in hub.WRITTEN], text[:80]
    table = pins_of(monkeypatch, json.dumps({WRITER: one, "evil/model": one, GPT2: one}))
    assert table[WRITER].bytes == 7 and "evil/model" not in table
    assert table[GPT2].revision != one["revision"], "what public text pins stays as it is"


@pytest.mark.parametrize("name", ["evil/model", GPT2, "../x", ""])
def test_only_entries_of_the_table_can_be_pinned(unpinned, name, capsys):
    from models.__main__ import main
    from models.checkpoints import pins
    assert main(["pin", name]) == 2
    assert "cannot be pinned here" in capsys.readouterr().err and not unpinned.asked and not pins.place().exists()


@pytest.mark.parametrize("status, code, word", [
    (401, "GatedRepo", "agreement"), (404, "RepoNotFound", "no public repository"), (500, "", "could not be reached")])
def test_what_the_hub_refuses_to_pin_is_said(unpinned, status, code, word, capsys):
    from models.__main__ import main
    from models.checkpoints import pins
    unpinned.status, unpinned.error = status, code
    assert main(["pin", ELECTRA]) == 2
    said = capsys.readouterr().err
    assert word in said and said.count("\n") == 1 and not pins.place().exists()
    assert not hub.TABLE[ELECTRA].revision and not hub.TABLE[WRITER].revision


def test_offline_nothing_is_pinned(unpinned, monkeypatch, capsys):
    from models.__main__ import main
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["pin", WRITER]) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["pin", WRITER]) == 2
    assert "could not be reached" in capsys.readouterr().err


@pytest.mark.parametrize("spoil, word", [
    (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "only safetensors"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04pickle" * 9), "no safetensors"),
    (lambda folder: (folder / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}'), "a GPT2LMHeadModel"),
    (lambda folder: (folder / "config.json").unlink(), "lacks one of its files")])
def test_another_repository_than_expected_is_not_pinned(unpinned, layouts, tmp_path, spoil, word, monkeypatch):
    """Mutant: without a look at the contents a pickle that calls itself safetensors would be pinned."""
    from models.checkpoints import pins
    spoil(folder := copy_of(layouts[WRITER], tmp_path / "other"))
    with fake_hub.serving({(WRITER, fake_hub.today(WRITER)): folder}) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(CheckpointError, match=word):
            hub.pin(WRITER)
    assert not pins.place().exists()
