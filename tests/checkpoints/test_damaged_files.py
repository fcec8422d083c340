"""Damaged, foreign and changed weights end in one sentence, and the next load works."""


import pytest

from models.checkpoints import hub, registry, store, verify
from models.checkpoints.store import CheckpointError
from tests.checkpoints.public import GPT2, SMOL, copy_of, fetch


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
