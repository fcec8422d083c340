"""Whatever a folder holds ends in a record or in one sentence: never a traceback, code that runs, or a path that leaks.

`make test` tries 100 folders, `make fuzz` 2,000: sound ones of several layouts, damaged in one to three ways. A failure
names its number; FUZZ_FIRST=number FUZZ_FOLDERS=1 makes it again.
"""

import json
import os
import pickle
import random
import shutil
import time
from pathlib import Path

import pytest

from models.__main__ import main
from models.checkpoints import families, store
from models.checkpoints.registry import read_object
from tests.folders import byte_words, network, saved

COUNT, FIRST = int(os.environ.get("FUZZ_FOLDERS", 100)), int(os.environ.get("FUZZ_FIRST", 0))
SECONDS = 30  # of one folder, with room for a busy machine
LAYOUTS = {"LlamaForCausalLM": ("attention", "sampling", "lazyllm", "cntp"),
           "GPT2LMHeadModel": ("attention", "sampling"), "BertForMaskedLM": ("attention", "mlm", "mdm"),
           "ViTForImageClassification": ("attention", "vit"), "ViTMAEForPreTraining": ("attention", "mae"),
           "RobertaModel": ("attention",), "CLIPModel": ("attention",)}
NUMBERS = (0, -1, 1, 2, 3, 7, 10**5, 10**9, 2**63, 10**30, -(10**12), 1.5, 1e308, float("nan"), float("inf"), True)
VALUES = (*NUMBERS, None, "", "two", "\x00", "../../etc", [], [1], [[]], {}, {"a": {}}, "x" * 5000, "🎈", [32, 48])


def hostile(folder: Path) -> dict:
    """Entries that ask for code, pickles, quantisation or attention that nobody here runs."""
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w')")
    return {"auto_map": {"AutoModel": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Evil"},
            "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "_attn_implementation": "kernels-community/flash-attn", "model_type": "evil", "torch_dtype": "evil",
            "architectures": ["Evil"], "attn_implementation": "flex_attention", "trust_remote_code": True,
            "custom_generate": "evil", "rope_parameters": {"rope_type": "evil"}, "is_decoder": True,
            "id2label": {"0": 5}, "add_cross_attention": True, "tie_word_embeddings": "no", "dtype": 7}


class Ran:
    """What a pickle would do if anybody read it."""

    def __init__(self, mark: str):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


def settings(dice, folder: Path) -> None:
    """One entry of a JSON file set, taken away, or made hostile."""
    file = folder / dice.choice(["config.json"] * 4 + [path.name for path in folder.glob("*.json")])
    found = read_object(file)
    if not found:
        return
    part = dice.choice([found] * 3 + [value for value in found.values() if isinstance(value, dict) and value])
    name, asked = dice.choice(sorted(part)), hostile(folder)
    kind = dice.randrange(4)
    if kind == 0:
        del part[name]
    elif kind == 1:
        other = dice.choice(sorted(asked))
        found[other] = asked[other]
    else:
        part[name] = dice.choice(NUMBERS if isinstance(part[name], (int, float)) and kind == 2 else VALUES)
    file.write_text(json.dumps(found))


def weights(dice, folder: Path) -> None:
    """One tensor of another value, shape, dtype or name, missing, or one too many."""
    import torch
    from safetensors.torch import load_file, save_file
    file = folder / "model.safetensors"
    try:
        state = load_file(file) if file.is_file() else {}
    except Exception:  # damaged before
        return
    name = dice.choice(sorted(state) or [""])
    if not name:
        return
    one = state[name]
    changes = {"nan": one.float() * float("nan"), "huge": one.float() * 0 + 3e38, "cut": one.reshape(-1)[:-1].clone(),
               "flat": one.reshape(-1).clone(), "whole": one.to(torch.int64), "half": one.half(),
               "empty": one.reshape(-1)[:0].clone(), "more": torch.stack([one, one]),
               "scalar": torch.tensor(1.0), "gone": None}
    made = changes[dice.choice(sorted(changes))]
    state = {**state, name: made} if made is not None else {k: v for k, v in state.items() if k != name}
    if not dice.randrange(4):
        state["model.layers.99.extra.weight"] = torch.zeros(2, 2)
    file.unlink()
    save_file(state, file, {"format": "pt"} if dice.randrange(4) else None)


def bytes_(dice, folder: Path) -> None:
    """A file cut short, lengthened, emptied, or with some bytes turned."""
    file = dice.choice(sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink()))
    data = bytearray(file.read_bytes())
    kind = dice.randrange(4)
    if kind == 0 or not data:
        data = data[: dice.randrange(len(data) + 1)]
    elif kind == 1:
        data += dice.randbytes(dice.randrange(1, 64))
    else:
        for _ in range(dice.randrange(1, 8)):
            data[dice.randrange(len(data) if kind == 2 else min(len(data), 64))] = dice.randrange(256)
    file.write_bytes(data)


def files(dice, folder: Path) -> None:
    """A file missing, a link, a folder in its place, a pickle, another's, or an index of parts that are not there."""
    file = folder / dice.choice(["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
    kind = dice.randrange(7)
    if kind == 6:
        part = dice.choice(["model-1-of-2.safetensors", "../../a.safetensors", "/etc/passwd", 5, None, "x" * 400])
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a.weight": part}}))
        file = folder / "model.safetensors"
    if file.is_dir() and not file.is_symlink():
        return
    file.unlink(missing_ok=True)
    if kind == 1:
        file.symlink_to(dice.choice([file.name, "nowhere", "/dev/null", "/dev/zero", "/etc/passwd", folder]))
    elif kind == 2:
        file.mkdir()
    elif kind == 3:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Ran(str(folder.parent / "ran"))))
    elif kind == 4:
        other = folder.parent / "sound" / dice.choice(sorted(LAYOUTS)) / file.name
        if other.is_file():
            shutil.copy(other, file)
    elif kind == 5:
        os.mkfifo(file)


def words(dice, folder: Path) -> None:
    """A tokenizer that knows more than the network, or other things, or asks for code."""
    file = folder / "tokenizer.json"
    found = read_object(file)
    try:
        found["model"]["vocab"]["zzzz"] = dice.choice([5000, 2**31, -1, 0, "a", 1.5])
    except (KeyError, TypeError):
        return
    part = dice.choice(["decoder", "pre_tokenizer", "post_processor", "normalizer", "added_tokens"])
    if dice.randrange(2):
        found[part] = dice.choice(VALUES)
    file.write_text(json.dumps(found))


WAYS = (settings, settings, settings, weights, weights, bytes_, files, words)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    place = tmp_path_factory.mktemp("fuzz")
    for named in LAYOUTS:
        saved(place / "sound" / named, named)
    parts = place / "sound" / "in-parts"
    network("LlamaForCausalLM").save_pretrained(parts, max_shard_size="40KB")
    byte_words().save_pretrained(parts)
    return place


@pytest.mark.slow
def test_any_folder_ends_in_a_record_or_a_sentence(sound, capsys, tiny, one_thread):
    for number in range(FIRST, FIRST + COUNT):
        dice, folder = random.Random(number), sound / "mine"
        named = dice.choice(sorted(LAYOUTS))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound / "sound" / ("in-parts" if named[0] == "L" and not dice.randrange(4) else named), folder)
        ways = [dice.choice(WAYS) for _ in range(dice.choice([1, 1, 2, 3]))]
        for way in ways:
            way(dice, folder)
        method = dice.choice([*LAYOUTS[named] * 6, "hpm", "maskgit", "electra", "vflowopt", "byte-level"])
        ended(number, named, [way.__name__ for way in ways], method, folder, capsys)
    assert not (sound / "ran").exists(), "code of a folder ran"


def ended(number: int, named: str, ways: list[str], method: str, folder: Path, capsys) -> None:
    """One run from the command line, and what it said."""
    store.unload()
    began = time.monotonic()
    less = {"attention": ["attribution=false"], "lazyllm": ["rounds=1", "length=2"], "sampling": ["length=3"],
            "cntp": ["length=3"], "byte-level": ["length=4"], "mdm": ["steps=2", "length=4"]}.get(method, [])
    subject = ["--subject", "the old house by the sea"] if named in families.TEXTS else []
    try:
        code = main(["run", method, "--checkpoint", str(folder), *subject, *(f"--set={one}" for one in less)])
    except BaseException as error:
        raise AssertionError(f"folder {number} ({ways}, {method}): {type(error).__name__}: {error}") from error
    out, err = capsys.readouterr()
    what = f"folder {number} ({ways}, {method}): {err}"
    assert code == 0 or code == 2 and err.count("\n") == 1 and err.startswith("tokenscope: "), what
    assert "Traceback" not in err and str(folder.parent) not in out + err and len(err) < 2500, what
    assert "on our side" not in err, what
    assert time.monotonic() - began < SECONDS, what
