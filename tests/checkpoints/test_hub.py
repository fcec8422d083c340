"""Public checkpoints: the table, the menu's offers, fetching from a loopback Hub, every fault, memory and disk."""

import errno
import json
import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from models.checkpoints import download, hub, memory, registry, store, verify
from models.checkpoints.store import CheckpointError
from models.engine.method import atlas, find, follow, prepare
from models.serving import links, session
from models.trace import limits
from tests import fake_hub
from tools import space

GPT2, SMOL, BERT = "openai-community/gpt2", "HuggingFaceTB/SmolLM2-135M", "google-bert/bert-base-uncased"
USES = [(name, method) for name, entry in hub.TABLE.items() for method in entry.methods]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """name -> folder with tiny weights in the layout of the real repository."""
    root = tmp_path_factory.mktemp("layouts")
    return {name: make(root / name.replace("/", "--")) for name, make in fake_hub.LAYOUTS.items()}


@pytest.fixture
def here(layouts, tmp_path, monkeypatch):
    """A Hub on loopback that has these; nothing in its cache yet. Yields the Hub's faults."""
    table, served = fake_hub.served(layouts, pinned=True)
    with fake_hub.serving(served) as (address, faults):
        monkeypatch.setattr(hub, "TABLE", table)
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(limits, "DISK_FREE", 0)
        monkeypatch.setattr(limits, "CPU_MACS", float("inf"))
        monkeypatch.setenv("TOKENSCOPE_PINS", str(tmp_path / "pins.json"))
        monkeypatch.setattr(download, "POLL", 0.02)
        monkeypatch.setattr("huggingface_hub.utils._http.time", Hurried())  # it waits between tries
        monkeypatch.setattr(store, "_loaded", type(store._loaded)())
        yield faults


class Hurried:
    """The clock without its pauses."""

    sleep = staticmethod(lambda *_: None)

    def __getattr__(self, name):
        return getattr(time, name)


def fetch(name: str) -> list[tuple[int, int]]:
    return list(download.fetch(name))


def refused(name: str) -> str:
    """The sentence with which a fetch ends; afterwards a shipped checkpoint still loads."""
    with pytest.raises(CheckpointError) as caught:
        fetch(name)
    said = str(caught.value)
    assert said.endswith(".") and "\n" not in said and len(said) < 300 and "/tmp" not in said
    assert not hub.folder(name) and name not in download._running
    assert store.load("scene-vq-2").model is not None
    return said


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_table_holds_pinned_known_weights_of_methods_that_exist():
    for entry in hub.WRITTEN:
        name = entry.repo
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", name) and ".." not in name and name == entry.repo
        assert re.fullmatch("[0-9a-f]{40}", entry.revision) if name not in hub.pinnable() else not entry.weights
        assert all(re.fullmatch("([0-9a-f]{64})?", one.sha256) for one in entry.weights.values())
        assert set(entry.weights) in (set(), set(registry.parts(entry.architecture)))
        assert entry.licence and bool(entry.bytes) == bool(entry.revision) and entry.bytes <= limits.DOWNLOAD_BYTES
        assert entry.architecture in registry.READERS and set(entry.methods) <= set(atlas())
        for method in entry.methods:  # the menu switches to examples of the right kind before anything is fetched
            assert atlas()[method].examples_for(atlas()[method].kind(name))
    assert set(fake_hub.LAYOUTS) == {entry.repo for entry in hub.WRITTEN}


def test_nothing_that_could_run_code_is_ever_asked_for():
    asked = [file for entry in hub.TABLE.values() for file in entry.files]
    assert all(file.endswith((".json", ".safetensors", "/merges.txt")) for file in asked)
    source = "".join(Path(module.__file__).read_text() for module in (hub, download, store))
    assert "trust_remote_code=True" not in source and "use_safetensors=False" not in source


# ---- real layouts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, method", USES, ids=lambda value: value.rpartition("/")[2])
def test_every_offer_runs_on_the_files_of_the_real_layout(here, name, method, one_thread):
    """Mutants: gamma and beta lost, decoder_layers lost, a tokenizer without its special tokens, an unknown class."""
    assert name not in find(method).checkpoints and name in find(method).choices
    fetch(name)
    params = {"length": 4} if hasattr(find(method).params, "length") else {}
    job = prepare(method, None, params, checkpoint=name, dtype="float32")
    *_, last = follow(job)
    stamp = last.traces[find(method).card.tabs[0]].provenance
    assert (stamp.checkpoint, stamp.revision) == (name, hub.TABLE[name].revision[:12])
    assert stamp.grade == hub.TABLE[name].methods[method]


def test_weights_are_those_of_the_file_and_not_random_ones(here):
    """transformers fills what it does not find with random numbers and only logs it."""
    import torch
    from safetensors.torch import load_file
    for name, theirs, ours in ((BERT, "bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
                               (GPT2, "h.1.mlp.c_fc.weight", "transformer.h.1.mlp.c_fc.weight"),
                               ("facebook/vit-mae-base", "decoder.decoder_layers.0.intermediate.dense.weight",
                                "decoder.decoder_layers.0.mlp.fc1.weight")):
        fetch(name)
        state = store.load(name, dtype="float32").model.state_dict()
        assert torch.equal(state[ours], load_file(str(hub.folder(name) / "model.safetensors"))[theirs])


def test_tokenizers_know_what_their_files_leave_unsaid(here):
    fetch(GPT2)
    fetch(BERT)
    assert store.load(GPT2).tokenizer.eos_token == "<|endoftext|>"
    words = store.load(BERT).tokenizer
    assert words.mask_token == "[MASK]" and words.convert_ids_to_tokens(words("hen")["input_ids"])[0] == "[CLS]"
    assert len(words) == words.backend_tokenizer.get_vocab_size()  # no token was added


def test_bert_reads_its_own_frame_and_is_asked_about_the_last_word(here, one_thread):
    fetch(BERT)
    *_, last = follow(prepare("attention", None, {"steps": 8}, checkpoint=BERT))
    trace = last.traces["attend"]
    assert trace.canvas.labels[0].strip() == "[CLS]" and trace.canvas.labels[-1].strip() == "[SEP]"
    assert trace.steps[0].state[-2] != trace.steps[0].state[-3] and trace.steps[0].state[-1] == trace.steps[0].state[-3]


def test_a_network_gets_the_colours_that_it_was_trained_on(here):
    import numpy as np

    from models.backbones.pictures import cut
    fetch("google/vit-base-patch16-224")
    model = store.load("google/vit-base-patch16-224").model
    _, pixels = cut(np.full((80, 80, 3), 255, np.uint8), model)
    assert float(pixels.max()) == pytest.approx(1.0)  # ImageNet's own would make it 2.64


def test_a_discriminator_finds_its_generator_in_the_layout_of_the_hub(tmp_path, monkeypatch, one_thread):
    """Local folders, because no public text pins the pair's revisions with safetensors."""
    fake_hub.electra(tmp_path / "electra-small-discriminator")
    fake_hub.electra(tmp_path / "electra-small-generator", generator=True)
    *_, last = follow(prepare("electra", checkpoint=str(tmp_path / "electra-small-discriminator"), dtype="float32"))
    assert set(last.traces) == {"mask", "attend", "sample"}


@pytest.mark.parametrize("config, word", [
    ({"_class_name": "VQModel"}, "supported are"), ({"_class_name": "UVit2DModel"}, "supported are"),
    ({"architectures": ["LlavaForConditionalGeneration"]}, "a LlavaFor"),
    ({"architectures": ["os.system"]}, "supported are"), ({"architectures": "LlamaForCausalLM"}, "supported are"),
    ([], "supported are"), ({"architectures": [["LlamaForCausalLM"]]}, "supported are")])
def test_a_foreign_architecture_is_named(tmp_path, config, word):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=word):
        store.load(str(tmp_path))


# ---- several parts, several repositories -----------------------------------------------------------------------------

AMUSED, ELECTRA, WRITER = "amused/amused-256", "google/electra-small-discriminator", "google/electra-small-generator"


def test_of_several_parts_only_what_is_read_is_fetched(here):
    fetch(AMUSED)
    there = f"/{AMUSED}/resolve/{hub.TABLE[AMUSED].revision}/"
    got = {path.removeprefix(there) for verb, path in here.asked if verb == "GET" and path.startswith(there)}
    assert got == set(hub.TABLE[AMUSED].files) and not any("fp16" in path or "scheduler" in path for path in got)
    assert store.load(AMUSED).model.grid == (4, 4)


@pytest.mark.parametrize("path", list(registry.PARTS["AmusedPipeline"]))
def test_a_part_that_is_missing_or_damaged_is_fetched_again(here, path):
    """Mutants: only the first part looked at; a size without a hash."""
    fetch(AMUSED)
    file = hub.folder(AMUSED) / path
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="choose it again"):
        store.load(AMUSED)
    fetch(AMUSED)
    (hub.folder(AMUSED) / path).unlink()
    assert hub.folder(AMUSED) is None and AMUSED not in store._loaded
    fetch(AMUSED)
    assert store.load(AMUSED).model is not None


@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_a_part_of_another_class_is_named(layouts, tmp_path, part):
    import shutil
    shutil.copytree(layouts[AMUSED], folder := tmp_path / "mixed")
    (folder / part / "config.json").write_text((folder / "vqvae" / "config.json").read_text())
    with pytest.raises(CheckpointError, match=f"in its folder {part}"):
        store.load(str(folder))


def test_a_model_is_offered_with_the_one_that_it_needs(here, one_thread):
    assert WRITER not in hub.offered("electra") and ELECTRA in hub.offered("electra")
    steps = fetch(ELECTRA)
    assert hub.folder(WRITER) and hub.folder(ELECTRA)
    both = hub.TABLE[WRITER].bytes + hub.TABLE[ELECTRA].bytes
    assert hub.size(ELECTRA) == both and all(0 <= done <= total == both for done, total in steps)
    download.forget(hub.TABLE[WRITER])
    assert hub.folder(ELECTRA) is None and hub.folder(WRITER) is None


def test_much_work_is_offered_only_where_there_is_a_gpu(here, monkeypatch):
    from models.checkpoints import memory
    monkeypatch.setattr(limits, "CPU_MACS", 40e9)
    monkeypatch.setattr(memory, "default_device", lambda: "cpu")
    assert AMUSED not in hub.offered("maskgit") and "needs a GPU" in refused(AMUSED)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        prepare("maskgit", checkpoint=AMUSED)
    monkeypatch.setattr(memory, "default_device", lambda: "cuda")
    assert AMUSED in hub.offered("maskgit")


# ---- pinning ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def unpinned(here, layouts, monkeypatch):
    """A server that has pinned nothing yet."""
    monkeypatch.setattr(hub, "TABLE", fake_hub.served(layouts, pinned=False)[0])
    return here


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


# ---- fetching --------------------------------------------------------------------------------------------------------


def test_only_what_is_needed_is_fetched_once_and_without_a_token(here, layouts, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (layouts[GPT2] / "pytorch_model.bin").write_bytes(b"pickle")
    (layouts[GPT2] / "modeling.py").write_text("raise SystemExit")
    try:
        fetch(GPT2)
    finally:
        for extra in ("pytorch_model.bin", "modeling.py"):
            (layouts[GPT2] / extra).unlink()
    got = {path.rpartition("/")[2] for verb, path in here.asked if verb == "GET" and "/resolve/" in path}
    assert got == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(here.tokens) == {None}
    before = len(here.asked)
    assert fetch(GPT2) == [] and store.load(GPT2).folder == hub.folder(GPT2) and len(here.asked) == before


def test_two_visitors_share_one_download_and_a_shipped_model_loads_meanwhile(here):
    """Mutant: a lock held while downloading; the shipped model would wait for the whole hold."""
    here.hold, seen = 1.0, {}
    both = [threading.Thread(target=lambda n=n: seen.update({n: fetch(GPT2)})) for n in range(2)]
    for one in both:
        one.start()
    while not any("safetensors" in path for _, path in here.asked):
        time.sleep(0.01)
    began = time.monotonic()
    store.load("scene-vq-2")
    took = time.monotonic() - began
    for one in both:
        one.join()
    assert sum(verb == "GET" and path.endswith("safetensors") for verb, path in here.asked) == 1
    assert took < 0.8 and hub.folder(GPT2)
    total = hub.TABLE[GPT2].bytes
    assert all(0 <= done <= whole == total for steps in seen.values() for done, whole in steps) and seen[0]


def test_a_download_goes_on_when_the_visitor_leaves(here):
    here.hold = 0.3
    visit = download.fetch(GPT2)
    next(visit)
    visit.close()
    until = time.monotonic() + 5
    while not hub.folder(GPT2) and time.monotonic() < until:
        time.sleep(0.02)
    assert hub.folder(GPT2)


def test_a_run_without_the_files_says_where_to_get_them(here):
    with pytest.raises(CheckpointError, match="choose it in the menu Checkpoint"):
        prepare("sampling", checkpoint=GPT2)
    assert not here.asked  # a link or a run never begins a download


@pytest.mark.parametrize("status, code, word", [
    (403, "GatedRepo", "agreement"), (401, "GatedRepo", "agreement"), (401, "", "not open"),
    (404, "RepoNotFound", "gone from the Hub"), (404, "RevisionNotFound", "revision"),
    (403, "", "not open"), (429, "", "try again"), (500, "", "try again")])
def test_what_the_hub_refuses_is_said(here, status, code, word):
    here.status, here.error = status, code
    assert word in refused(GPT2)
    here.status = 200
    fetch(GPT2)
    assert hub.folder(GPT2)


def test_a_revision_or_a_file_that_is_gone(here, layouts, monkeypatch):
    other = replace(hub.TABLE[GPT2], revision="0" * 40)
    monkeypatch.setitem(hub.TABLE, GPT2, other)
    assert "revision" in refused(GPT2)


def test_a_hub_that_cannot_be_reached(here, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "could not be reached" in refused(GPT2)


def test_offline_or_switched_off_nothing_is_offered_unless_it_is_here(here, monkeypatch):
    fetch(GPT2)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.offered("sampling") == (GPT2,) and "may not ask the Hub" in refused(SMOL)
    monkeypatch.setattr(limits, "HUB", False)
    assert hub.offered("sampling") == () and find("sampling").choices == find("sampling").checkpoints
    with pytest.raises(CheckpointError, match="no checkpoint"):
        prepare("sampling", checkpoint=GPT2)


def test_one_that_is_too_large_for_this_server_is_not_offered(here, monkeypatch):
    monkeypatch.setattr(limits, "DOWNLOAD_BYTES", hub.TABLE[GPT2].bytes - 1)
    assert GPT2 not in hub.offered("sampling") and "larger than" in refused(GPT2)


@pytest.mark.parametrize("fault", [{"short": 100}, {"flip": True}], ids=str)
def test_a_broken_or_changed_download_is_deleted_and_can_be_tried_again(here, fault):
    """Mutant: without the sha256 a flipped byte loads as a slightly wrong model."""
    for key, value in fault.items():
        setattr(here, key, value)
    refused(GPT2)
    assert not list((hub.storage(hub.TABLE[GPT2]) / "blobs").glob("*.incomplete"))
    here.short, here.flip = 0, False
    fetch(GPT2)
    assert store.load(GPT2).model is not None


def test_a_changed_file_without_a_stated_sha256_is_found_by_the_name_that_the_hub_gave_it(here):
    here.flip = True
    assert "sha256" in refused("google/vit-base-patch16-224")


@pytest.mark.parametrize("change", [{"bytes": 1}, {"sha256": "0" * 64}], ids=str)
def test_other_weights_than_the_table_says_are_refused(here, change, monkeypatch):
    one = hub.TABLE[GPT2].weights["model.safetensors"]._replace(**change)
    monkeypatch.setitem(hub.TABLE, GPT2, replace(hub.TABLE[GPT2], weights={"model.safetensors": one}))
    assert "deleted" in refused(GPT2)


def test_a_repository_of_pickles_is_refused(here, layouts, tmp_path, monkeypatch):
    folder = tmp_path / "pickles"
    folder.mkdir()
    (folder / "config.json").write_text((layouts[GPT2] / "config.json").read_text())
    (folder / "pytorch_model.bin").write_bytes(b"x" * 100)
    with fake_hub.serving({(GPT2, hub.TABLE[GPT2].revision): folder}) as (address, faults):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert "safetensors" in refused(GPT2)
        assert not any(path.endswith(".bin") for _, path in faults.asked)
    with pytest.raises(CheckpointError, match="can run code"):
        store.load(str(folder))


def test_a_full_disk_is_said_before_and_while(here, monkeypatch):
    monkeypatch.setattr(limits, "DISK_FREE", 1 << 60)
    assert "disk is too full" in refused(GPT2) and not here.asked
    monkeypatch.setattr(limits, "DISK_FREE", 0)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        assert "disk is too full" in refused(GPT2)
    fetch(GPT2)


def test_a_cache_that_cannot_be_written_is_said(here, monkeypatch):
    def closed(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr("huggingface_hub.file_download.http_get", closed)
    assert "may not write" in refused(GPT2)


def test_a_visitor_is_not_kept_waiting_for_ever(here, monkeypatch):
    here.hold = 0.5
    monkeypatch.setattr(limits, "FETCH_SECONDS", 0.1)
    with pytest.raises(CheckpointError, match="still on its way"):
        fetch(GPT2)
    monkeypatch.setattr(limits, "FETCH_SECONDS", 60)
    fetch(GPT2)  # joins the same download
    assert hub.folder(GPT2) and sum(verb == "GET" and "safetensors" in path for verb, path in here.asked) == 1


def test_progress_leaves_out_what_another_revision_left_in_the_cache(here):
    blobs = hub.storage(hub.TABLE[GPT2]) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "of-another-revision").write_bytes(b"x" * 10_000_000)
    here.hold = 0.2
    assert fetch(GPT2)[0][0] < 1_000_000


def test_old_downloads_of_ours_make_room_and_nobody_elses(here, monkeypatch):
    """Mutant: by name or by age alone; a file of another program in the same cache would be deleted."""
    for name in (GPT2, SMOL, BERT):
        fetch(name)
    (hub.snapshot(hub.TABLE[BERT]) / hub.MARK).unlink()  # as if another program had fetched it
    for days, name in ((9, SMOL), (5, GPT2)):
        os.utime(hub.snapshot(hub.TABLE[name]) / hub.MARK, (time.time() - days * 86400,) * 2)
    store.load(SMOL)  # used just now, so GPT-2 goes
    sizes = {name: hub.TABLE[name].bytes for name in (GPT2, SMOL, "facebook/dinov2-small")}
    monkeypatch.setattr(limits, "DISK_BYTES", sum(sizes.values()) + download.BESIDE - sizes[GPT2])
    fetch("facebook/dinov2-small")
    assert not hub.folder(GPT2) and hub.folder(SMOL) and hub.folder(BERT) and hub.folder("facebook/dinov2-small")
    assert {entry.repo for entry in download.fetched()} == {SMOL, "facebook/dinov2-small"}


# ---- what a visitor sees ---------------------------------------------------------------------------------------------


def test_the_menu_says_size_and_licence_and_what_must_be_fetched(here):
    size = f"{hub.TABLE[GPT2].bytes / 1e6:.0f} MB"
    assert hub.title(GPT2) == f"{GPT2} ({size} to fetch, MIT)" and hub.title("text-ar-1") == "text-ar-1"
    fetch(GPT2)
    assert hub.title(GPT2) == f"{GPT2} ({size}, MIT)"


def test_the_page_shows_progress_then_the_new_menu_or_a_sentence(here, monkeypatch):
    import gradio as gr

    from visualizers.page.tab_handlers import FETCH, MODEL, Desk
    assert FETCH["concurrency_id"] != MODEL["concurrency_id"]  # a download never holds up the runs of others
    said = []
    monkeypatch.setattr(gr, "Warning", said.append)
    with gr.Blocks():
        desk = Desk("sample", [find("sampling")])
    menu, status = desk.panel.checkpoint, desk.panel.status
    here.hold = 0.3
    *waiting, last = desk.fetch("sampling", GPT2)
    assert "fetching 0 of" in str(waiting[0][status]) and last[status] == [] and not said
    assert "to fetch" not in dict((name, words) for words, name in last[menu]["choices"])[GPT2]
    here.status, here.error = 403, "GatedRepo"
    assert list(desk.fetch("sampling", SMOL))[-1][status] == [] and "agreement" in said[0]
    assert len(list(desk.fetch("sampling", "text-ar-1"))) == len(list(desk.fetch("sampling", "../x"))) == 1


def test_a_link_to_a_public_checkpoint_is_followed_and_others_are_not(here):
    ask = session.Ask("sampling", "sample", checkpoint=GPT2)
    query = dict(pair.split("=") for pair in links.to_query(ask).split("&"))
    assert query["checkpoint"] == "openai-community%2Fgpt2"
    assert links.from_query({"method": "sampling", "checkpoint": GPT2}).checkpoint == GPT2
    for name in ("openai-community/gpt2-xl", "facebook/vit-mae-base", "../../etc", "openai-community/../gpt2"):
        with pytest.raises(ValueError, match="no checkpoint"):
            links.from_query({"method": "sampling", "checkpoint": name})


@pytest.mark.parametrize("name", ["../secrets", "/etc", "a/b", "openai-community/gpt2/../../x", "x" * 5000, "\x00",
                                  "https://huggingface.co/openai-community/gpt2", "text-ar-1/..", "."])
def test_no_other_name_reaches_the_hub_or_the_disk(here, name, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "a/b")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        prepare("sampling", checkpoint=name)
    assert fetch(name) == [] and not here.asked


def test_the_baseline_stands_on_the_same_public_weights(here, one_thread):
    fetch(SMOL)
    first = prepare("lazyllm", checkpoint=SMOL, params={"length": 2})
    assert session.beside(first, "random-keep").bundle.name == SMOL


def test_a_space_that_preloads_a_public_checkpoint_names_its_files_and_commit():
    import yaml
    root = Path(__file__).resolve().parents[2]
    found = yaml.safe_load((root / "Spacefile").read_text()) | {"preload": ["text-ar-1", GPT2]}
    front = yaml.safe_load(space.front_matter(space.declared(yaml.safe_dump(found))).split("---")[1])
    assert front["models"] == [GPT2] and "preload" not in front
    assert front["preload_from_hub"] == [f"{GPT2} config.json,model.safetensors,tokenizer.json,tokenizer_config.json "
                                         f"{hub.TABLE[GPT2].revision}"]


def test_a_space_preloads_all_parts_and_never_what_nobody_pinned(here, monkeypatch, layouts):
    import yaml
    root = Path(__file__).resolve().parents[2]
    front = space.fetched([AMUSED, ELECTRA])
    assert front["models"] == [AMUSED, WRITER, ELECTRA]
    for line, name in zip(front["preload_from_hub"], front["models"]):
        repo, files, revision = line.split()
        assert (repo, revision) == (name, hub.TABLE[name].revision)
        assert all((layouts[name] / file).is_file() for file in files.split(","))
    monkeypatch.setattr(hub, "TABLE", fake_hub.served(layouts)[0])
    found = yaml.safe_load((root / "Spacefile").read_text()) | {"preload": [AMUSED]}
    with pytest.raises(space.SpaceError, match="Neither shipped nor pinned"):
        space.declared(yaml.safe_dump(found))


def test_preloading_goes_on_when_one_cannot_be_had(here, caplog):
    here.status, here.error = 403, "GatedRepo"
    store.preload(GPT2)
    assert "not preloaded" in caplog.text and "agreement" in caplog.text


# ---- damaged files ---------------------------------------------------------------------------------------------------


def copy_of(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


@pytest.mark.parametrize("damage, word", [
    (lambda data: data[:-50], "should have"), (lambda data: data[:20], "damaged"), (lambda data: b"", "damaged"),
    (lambda data: b"\xff" * 8 + data[8:], "damaged"), (lambda data: data + b"more", "should have"),
    (lambda data: b"\x80\x04pickle" + data, "damaged"), (lambda data: b"\x02" + bytes(7) + b"[]", "damaged")])
def test_a_damaged_file_is_one_sentence_and_the_next_load_works(layouts, tmp_path, damage, word):
    folder = copy_of(layouts[GPT2], tmp_path / "cut")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    with pytest.raises(CheckpointError, match=word):
        store.load(str(folder))
    file.write_bytes(whole)
    assert store.load(str(folder)).model is not None


def test_a_fetched_file_that_rotted_on_the_disk_is_fetched_again(here):
    fetch(GPT2)
    file = hub.folder(GPT2) / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="choose it again to fetch it"):
        store.load(GPT2)
    fetch(GPT2)
    assert store.load(GPT2).model is not None


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_small_file_that_rotted_is_fetched_again_too(here, file):
    fetch(GPT2)
    (hub.folder(GPT2) / file).write_text('{"model_type": ')
    with pytest.raises(CheckpointError, match="choose it again"):
        store.load(GPT2)
    fetch(GPT2)
    assert store.load(GPT2).tokenizer is not None


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_a_lack_of_memory_is_no_damage_and_deletes_nothing(here, monkeypatch, error):
    """Mutant: every failure to read taken for damage, and half a gigabyte deleted."""
    def read(*_):
        raise error
    fetch(GPT2)
    with monkeypatch.context() as patch:
        patch.setitem(registry.READERS, "GPT2LMHeadModel", read)
        with pytest.raises(type(error)):
            store.load(GPT2)
    assert hub.folder(GPT2) and store.load(GPT2).model is not None


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_other_damaged_files_are_one_sentence_too(layouts, tmp_path, file):
    folder = copy_of(layouts[GPT2], tmp_path / "bad")
    (folder / file).write_text('{"a": ')
    with pytest.raises(CheckpointError):
        store.load(str(folder))


def test_weights_of_another_network_are_refused_instead_of_filled_with_noise(layouts, tmp_path):
    """Mutant: without the look at missing keys the model loads, with random weights, and answers nonsense."""
    folder = copy_of(layouts[SMOL], tmp_path / "mixed")
    (folder / "model.safetensors").write_bytes((layouts[GPT2] / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="another network|belong together"):
        store.load(str(folder))


def test_shipped_weights_that_are_not_the_cards_are_refused_and_hashed_once(tmp_path, monkeypatch):
    copy_of(store.SHIPPED / "scene-vq-2", tmp_path / "scene-vq-2")
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    monkeypatch.setattr(store, "_loaded", type(store._loaded)())
    file = tmp_path / "scene-vq-2" / "model.safetensors"
    data = file.read_bytes()
    store.load("scene-vq-2")
    monkeypatch.setattr(verify.hashlib, "file_digest", None)  # would fail if it were hashed again
    store.unload()
    store.load("scene-vq-2")
    monkeypatch.undo()
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    store.unload()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="sha256"):
        store.load("scene-vq-2")


def test_every_shipped_card_states_the_sha256_of_its_weights():
    for name, card in store.shipped().items():
        assert verify.fingerprint(store.SHIPPED / name / "model.safetensors") == card["sha256"], name


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_the_oldest_models_leave_before_a_new_one_is_read(here, monkeypatch):
    """Mutant: evicting afterwards, when both are in memory already."""
    for name in (SMOL, GPT2, BERT):
        fetch(name)
    needed = verify.loaded_bytes([hub.folder(BERT) / "model.safetensors"], 4)
    store.load(SMOL, dtype="float32")
    store.load(GPT2, dtype="float32")
    store.load(SMOL, dtype="float32")  # now GPT-2 is the oldest
    room = store.loaded_bytes() + needed - 1
    monkeypatch.setattr(memory, "model_room", lambda loaded: room)
    present = []
    read = registry.READERS["BertForMaskedLM"]
    monkeypatch.setitem(registry.READERS, "BertForMaskedLM", lambda *a: present.extend(store._loaded)
                        or read(*a))
    store.load(BERT, dtype="float32")
    assert [key[0] for key in present] == [SMOL] and [key[0] for key in store._loaded] == [SMOL, BERT]


def test_a_dropped_model_gives_its_memory_back(here, one_thread):
    import gc
    import weakref
    fetch(GPT2)
    job = prepare("sampling", None, {"length": 2}, checkpoint=GPT2)
    *_, last = follow(job)
    gone = weakref.ref(job.bundle.model)
    del job, last, _
    store.unload()
    gc.collect()
    assert gone() is None


def test_what_never_fits_is_refused_before_it_is_read(here, monkeypatch):
    fetch(GPT2)
    monkeypatch.setattr(memory, "model_room", lambda loaded: 1000)
    monkeypatch.setattr(limits, "SMALL_MODEL", 0)
    with pytest.raises(CheckpointError, match="needs .* MB of memory"):
        store.load(GPT2)
    monkeypatch.setattr(limits, "SMALL_MODEL", 100_000_000)
    assert store.load(GPT2).model is not None  # a small one is always read


def test_buffers_count_and_the_guess_from_the_files_is_close(here):
    """Mutant: parameters alone; a model whose tables are buffers would count as nothing."""
    import torch
    module = torch.nn.BatchNorm1d(8)
    assert store._bytes(store.Bundle("x", module)) == 4 * 8 * 4 + 8
    fetch(SMOL)
    bundle = store.load(SMOL, dtype="float32")
    guess = verify.loaded_bytes([hub.folder(SMOL) / "model.safetensors"], 4)
    assert guess == pytest.approx(store._bytes(bundle), rel=0.01)


def test_the_limit_follows_the_machine_and_its_container(tmp_path, monkeypatch):
    def put(path: str, text: str):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    put("proc/meminfo", "MemTotal:  16000000 kB\nMemFree: 1 kB\nMemAvailable:  8000000 kB\n")
    assert memory.memory(tmp_path) == (16_384_000_000, 8_192_000_000)
    put("sys/fs/cgroup/memory.max", "max\n")
    put("sys/fs/cgroup/memory.current", "1000\n")
    assert memory.memory(tmp_path)[0] == 16_384_000_000  # no limit of its own
    put("sys/fs/cgroup/memory.max", "4000000000\n")
    put("sys/fs/cgroup/memory.current", "3000000000\n")
    put("sys/fs/cgroup/memory.stat", "anon 5\ninactive_file 500000000\n")
    assert memory.memory(tmp_path) == (4_000_000_000, 1_500_000_000)
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    monkeypatch.setattr(limits, "MODEL_BYTES", 0)
    assert memory.model_room(0) == 750_000_000 and memory.model_room(800_000_000) == 1_000_000_000
    monkeypatch.setattr(limits, "MODEL_BYTES", 7)
    assert memory.model_room(0) == 7


def test_another_machine_without_proc_still_has_a_limit(tmp_path):
    total, free = memory.memory(tmp_path)
    assert 0 < free <= total


def test_the_command_line_fetches_what_it_is_told(here, capsys, one_thread):
    from models.__main__ import main
    here.status = 500
    assert main(["run", "sampling", "--checkpoint", SMOL]) == 2
    assert "could not be reached" in capsys.readouterr().err
    here.status = 200
    assert main(["run", "sampling", "--checkpoint", SMOL, "--set", "length=2"]) == 0
    assert SMOL in capsys.readouterr().out
