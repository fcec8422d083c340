"""A visitor's folder is looked at as a whole when it is loaded: one sentence, exit 2, and it says what is wrong."""

import json
import shutil

import pytest
import torch

from models.__main__ import main
from models.checkpoints import store
from models.engine.method import find, offered, prepare, run, twin
from models.trace import OWN
from models.trace.subject import from_text
from tests.folders import byte_words, saved

SHORT = ["--subject", "the sea", "--set", "length=2"]
TEXTS = {"sampling": SHORT, "byte-level": SHORT, "cntp": SHORT, "mdm": SHORT, "lazyllm": SHORT}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Sound folders of a few classes, by class."""
    place = tmp_path_factory.mktemp("own")
    return {named: saved(place / named, named) for named in (
        "LlamaForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM", "ViTForImageClassification", "ElectraForPreTraining",
        "ViTMAEForPreTraining")}


@pytest.fixture
def altered(folders, tmp_path):
    """A copy of a folder whose config.json says something else."""
    def make(named, **changes):
        copy = shutil.copytree(folders[named], tmp_path / "mine")
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | changes))
        return copy
    return make


def said(folder, capsys, method="attention", *more) -> str:
    """The one line of a refusal."""
    assert main(["run", method, "--checkpoint", str(folder), *more]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("tokenscope: ") and str(folder.parent) not in err
    return err


@pytest.mark.parametrize("id", list(offered()))
def test_every_method_runs_on_a_folder_or_names_the_classes_that_it_takes(id, folders, capsys):
    """Mutants: no look at the class (166 of 208 pairs ended in a traceback); advice to `make train` a path; a class
    taken that the method breaks on, because its own checkpoint happens to be of it."""
    from models.engine import layouts
    method = find(id)
    for named, folder in folders.items():
        if layouts.unfit(method, str(folder)):
            err = said(folder, capsys, id)
            assert named in err or method.bound, err
            assert all(one in err for one in layouts.classes(method)) and "make train" not in err
        elif id != "attention":  # all that the lens opens is looked at in test_layouts.py
            code = main(["run", id, "--checkpoint", str(folder), *TEXTS.get(id, ())])
            err = capsys.readouterr().err
            assert code == 0 or code == 2 and "does not know" not in err and "room for -" not in err, err


def test_a_folder_is_called_what_it_is_and_no_path_leaves(folders, tmp_path, capsys):
    """Mutants: the method's own grade; the path in the record."""
    folder, out, figure = folders["GPT2LMHeadModel"], tmp_path / "o.json", tmp_path / "o.svg"
    assert main(["run", "attention", "--checkpoint", str(folder), "--subject", "the sea", "--out", str(out),
                 "--figure", str(figure)]) == 0, capsys.readouterr().err
    text = out.read_text() + figure.read_text() + capsys.readouterr().out
    assert str(folder.parent) not in text and OWN in text and "GPT2LMHeadModel" in text
    assert "trained here" not in text


def test_tokenizer_and_embedding_belong_together(altered, folders, tmp_path, capsys):
    missing = shutil.copytree(folders["BertForMaskedLM"], tmp_path / "words")
    (missing / "tokenizer.json").rename(missing / "vocab.txt")
    assert "no tokenizer.json, only a vocab.txt" in said(missing, capsys)
    small = saved(tmp_path / "small", "LlamaForCausalLM", vocab_size=100)
    assert "embedding of 100 rows" in said(small, capsys)


def test_a_row_without_a_token_is_never_drawn(tmp_path):
    """Mutant: without the hook these rows, the likeliest of all, are drawn at once."""
    folder, known = saved(tmp_path / "wide", "LlamaForCausalLM", vocab_size=400), len(byte_words())
    bundle = store.load(str(folder))
    with torch.no_grad():
        bundle.model.lm_head.weight[known:] = 50 * bundle.model.lm_head.weight[:1]
    result = run("sampling", from_text("the sea"), {"length": 12, "temperature": 2.0, "top_p": 1.0},
                 checkpoint=str(folder))
    assert max(result.traces["sample"].steps[-1].ids) < known
    store.unload()


@pytest.mark.parametrize("changes, word", [
    ({"_attn_implementation": "flash_attention_2"}, "flash_attention_2"),
    ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ({"hidden_size": 10**12}, "hidden_size"), ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
    ({"hidden_size": -4}, "hidden_size = -4"), ({"hidden_size": "much"}, "config.json"),
    ({"num_hidden_layers": 1}, "another network"), ({"num_hidden_layers": 3}, "another network"),
    ({"intermediate_size": 65}, "another network|could not be read"), ({"architectures": []}, "names no class"),
    ({"architectures": ["os.system"]}, "is a os.system"), ({"vocab_size": None}, "config.json"),
])
def test_a_config_that_does_not_fit_is_named(altered, capsys, changes, word):
    import re
    assert re.search(word, said(altered("LlamaForCausalLM", **changes), capsys))


@pytest.mark.parametrize("changes, word", [
    ({"num_channels": 1}, "1 channels"), ({"image_size": [32, 48]}, "32 x 48"), ({"patch_size": 7}, "leaves a rest"),
    ({"patch_size": 0}, "patch"),
])
def test_pictures_that_a_network_reads_are_square_and_coloured(altered, capsys, changes, word):
    assert word in said(altered("ViTForImageClassification", **changes), capsys)


def test_a_square_that_a_config_gives_twice_is_a_square(altered, capsys):
    folder = altered("ViTForImageClassification", image_size=[32, 32])
    assert main(["run", "attention", "--checkpoint", str(folder)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("named, method, weight", [("ViTMAEForPreTraining", "mae", "decoder.decoder_pred.weight"),
                                                   ("LlamaForCausalLM", "sampling", "model.norm.weight")])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_network_that_computes_nan_is_refused(folders, tmp_path, capsys, named, method, weight, value):
    from safetensors.torch import load_file, save_file
    folder = shutil.copytree(folders[named], tmp_path / "nan")
    state = load_file(folder / "model.safetensors")
    state[weight] = torch.full_like(state[weight], value)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    assert "computes NaN" in said(folder, capsys, method)


def test_every_shard_is_there(tmp_path, capsys):
    from tests.folders import network
    folder = tmp_path / "parts"
    network("LlamaForCausalLM").save_pretrained(folder, max_shard_size="30KB")
    byte_words().save_pretrained(folder)
    assert main(["run", "attention", "--checkpoint", str(folder), "--subject", "the sea"]) == 0, capsys.readouterr().err
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.rename(shard.with_suffix(".gone"))
    store.unload()
    capsys.readouterr()  # the library's progress while it wrote the parts
    assert f"has no {shard.name}" in said(folder, capsys)
    (folder / "model.safetensors.index.json").unlink()
    assert "nor an index" in said(folder, capsys)


@pytest.mark.parametrize("left, words", [("", "has no model.safetensors. Please"), ("pickle", "run code when they are"),
                                         ("link", "a link to no file")])
def test_weights_that_are_not_there_are_named_once(folders, tmp_path, capsys, left, words):
    """Mutants: advice given twice; a dangling link called a missing index."""
    folder = shutil.copytree(folders["GPT2LMHeadModel"], tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    if left == "pickle":
        (folder / "pytorch_model.bin").write_bytes(b"x")
    elif left == "link":
        (folder / "model.safetensors").symlink_to("nowhere")
    err = said(folder, capsys)
    assert words in err and err.lower().count("please") == 1


def test_the_baseline_stands_on_the_same_folder_or_says_why_not(folders):
    """Mutant: `--baseline` ran the baseline on its default checkpoint, in silence."""
    folder = str(folders["LlamaForCausalLM"])
    other = twin(prepare("lazyllm", from_text("the sea and the old house"), checkpoint=folder))
    assert (other.bundle.key, other.note) == (folder, "")
    lone = twin(prepare("cntp", from_text("the sea"), checkpoint=str(folders["GPT2LMHeadModel"])))
    assert lone.bundle.own
    judge = prepare("electra", from_text("the sea"), checkpoint=None)
    assert not twin(judge).note
