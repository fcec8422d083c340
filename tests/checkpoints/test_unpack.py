"""`python -m models unpack`: the standard layout again, with the numbers that the packed file stands for."""

import json
import shutil

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from models.__main__ import main
from models.backbones import packing
from models.checkpoints import store
from models.checkpoints.registry import read

NAME = "algo-arithmetic-1"


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """A shelf with one checkpoint at 6 bits, and a snapshot beside it at 4."""
    made = shutil.copytree(store.SHIPPED / NAME, tmp_path / "shelf" / NAME)
    shutil.copytree(made, made / "early")
    (made / "early" / "card.json").unlink()
    packing.pack_file(made / "model.safetensors", 6)
    packing.pack_file(made / "early" / "model.safetensors", 4)
    (made / "card.json").unlink()
    (made / "card.json").write_text(json.dumps({"name": NAME, "sha256": "", "stored": "6 bits"}))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shelf")
    store.unload()
    yield made
    store.unload()


@pytest.mark.weights
def test_transformers_reads_what_was_unpacked_and_it_is_the_same_network(packed, tmp_path, capsys):
    out = tmp_path / "plain"
    assert main(["unpack", NAME, str(out)]) == 0, capsys.readouterr().err
    for place in ("", "early"):
        theirs, ours = LlamaForCausalLM.from_pretrained(out / place), read(packed / place)
        assert theirs.dtype == torch.float32
        assert all(torch.equal(theirs.state_dict()[name], one) for name, one in ours.state_dict().items())
    assert AutoTokenizer.from_pretrained(out).encode("start 6, plus 7.")
    card = json.loads((out / "card.json").read_text())
    assert card["stored"] == "in single precision" and card["bytes"] == (out / "model.safetensors").stat().st_size
    again = store.load(str(out), dtype="float32")  # its card tells the hash of the file that lies there now
    assert again.revision == card["sha256"][:12]


@pytest.mark.weights
def test_an_ordinary_checkpoint_is_copied_as_it_is(tmp_path):
    assert main(["unpack", "scene-vq-2", str(tmp_path / "out")]) == 0
    for name in ("model.safetensors", "config.json", "card.json"):
        assert (tmp_path / "out" / name).read_bytes() == (store.SHIPPED / "scene-vq-2" / name).read_bytes()


@pytest.mark.weights
@pytest.mark.parametrize("name, sentence", [("no-such-1", "There is no checkpoint 'no-such-1' here."),
                                            ("scene-vq-2", "is not empty; please name a new folder.")])
def test_what_cannot_be_unpacked_is_one_line(name, sentence, tmp_path, capsys):
    (tmp_path / "full").write_text("") if name == "no-such-1" else (tmp_path / "full").mkdir()
    folder = tmp_path / "full"
    if folder.is_dir():
        (folder / "mine.txt").write_text("kept")
    assert main(["unpack", name, str(folder)]) == 2
    assert sentence in capsys.readouterr().err
    assert not folder.is_dir() or [file.name for file in folder.iterdir()] == ["mine.txt"]
