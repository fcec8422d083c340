"""Models leave memory before a new one needs it, and what never fits is refused unread."""


import pytest

from models.checkpoints import hub, memory, registry, store, verify
from models.checkpoints.store import CheckpointError
from models.engine.method import follow, prepare
from models.trace import limits
from tests.checkpoints.public import BERT, GPT2, SMOL, fetch


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
