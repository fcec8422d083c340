"""Public checkpoints: the table, and every offer on the files of the real layout."""

import json
import re
from pathlib import Path

import pytest

from models.checkpoints import download, hub, memory, registry, store
from models.checkpoints.store import CheckpointError
from models.engine.method import atlas, find, follow, prepare
from models.trace import limits
from tests import fake_hub
from tests.checkpoints.public import AMUSED, BERT, ELECTRA, GPT2, WRITER, fetch, refused

USES = [(name, method) for name, entry in hub.TABLE.items() for method in entry.methods]


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
    monkeypatch.setattr(limits, "CPU_MACS", 40e9)
    monkeypatch.setattr(memory, "default_device", lambda: "cpu")
    assert AMUSED not in hub.offered("maskgit") and "needs a GPU" in refused(AMUSED)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        prepare("maskgit", checkpoint=AMUSED)
    monkeypatch.setattr(memory, "default_device", lambda: "cuda")
    assert AMUSED in hub.offered("maskgit")
