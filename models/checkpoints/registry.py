"""What may be loaded, and by whom: a fixed list of classes and their readers, because a config file is untrusted.

Three layouts: transformers' own, PyTorchModelHubMixin's for the networks that it does not have, and repositories of
several parts. No reader runs code from a checkpoint's folder or unpickles anything.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from models.checkpoints import families, verify
from models.checkpoints.verify import WeightsError
from models.trace.subject import ASSETS

SHIPPED = ASSETS / "checkpoints"
LONGEST_JSON = 5_000_000  # bytes of a config.json

# What GPT-2's and BERT's files on the Hub leave unsaid, because their own tokenizer classes know it.
UNSAID = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "cls_token": "[CLS]", "sep_token": "[SEP]",
          "mask_token": "[MASK]", "pad_token": "[PAD]", "unk_token": "[UNK]"}


def quiet() -> None:
    """The library reports to nobody: what it would say is looked at here."""
    import transformers
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(logging.CRITICAL)


def _loaded(module: str, named: str, folder: Path, **options):
    """A library's own class with its weights; WeightsError where some are missing."""
    quiet()
    cls = getattr(importlib.import_module(module), named)
    state = unpacked(folder)
    if state is None:
        options |= {"use_safetensors": True, "local_files_only": True}
    else:
        config = cls.config_class.from_pretrained(folder, local_files_only=True)
        options |= {"config": config, "state_dict": state, "dtype": "float32"}
    model, report = cls.from_pretrained(folder if state is None else None, output_loading_info=True, **options)
    others = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"]),
              *layers_beyond(report["unexpected_keys"])]
    if others:
        raise WeightsError(f"has weights of another network than its config.json describes: see {sorted(others)[0]}.")
    return model


def layers_beyond(keys) -> list[str]:
    """Weights that nobody asked for and that belong to a layer: the config.json describes fewer than there are. A head
    or a second tower may be left over."""
    return [key for key in keys if re.search(r"\.\d+\.", key) and not key.startswith("text_model.")
            and not key.endswith(("inv_freq", "position_ids", "masked_bias", "attn.bias"))]


def _pretrained(module: str) -> Callable[[Path, dict], Any]:
    """Reader of transformers' layout for a class in `module`."""
    def read(folder: Path, config: dict):
        named = config["architectures"][0]
        model = _loaded(module, families.PARTS_OF.get(named, named), folder, trust_remote_code=False,
                        ignore_mismatched_sizes=True)
        model.pixels = _pixels(folder)
        return model
    return read


def _amused(folder: Path, config: dict):
    """The parts of an aMUSEd repository as one model; each must be of the class that its place asks for."""
    from transformers import CLIPTokenizer

    from models.backbones.amused import Amused
    made = []
    for path, named in PARTS["AmusedPipeline"].items():
        place = folder / Path(path).parent
        if named not in stated(read_object(place / "config.json")):
            raise WeightsError(f"has no {named} in its folder {place.name}.")
        theirs = {"trust_remote_code": False} if named.startswith("CLIP") else {"low_cpu_mem_usage": False}
        made.append(_loaded("transformers" if named.startswith("CLIP") else "diffusers", named, place, **theirs))
    return Amused(*made, CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True))


def _mixin(module: str) -> Callable[[Path, dict], Any]:
    """Reader of PyTorchModelHubMixin's layout, without its prints: config.json holds the constructor's arguments."""
    def read(folder: Path, config: dict):
        from safetensors.torch import load_model
        cls = getattr(importlib.import_module(module), config["architectures"][0])
        known = inspect.signature(cls.__init__).parameters
        model = cls(**{key: value for key, value in config.items() if key in known})
        state = unpacked(folder)
        if state is None:
            load_model(model, str(folder / "model.safetensors"))
        else:
            _fill(model, state)
        return model
    return read


def _fill(model, state: dict) -> None:
    """Puts weights into a network; one that is tied to another may be missing, as in safetensors' own load_model."""
    wanted = model.state_dict()
    there = {wanted[name].data_ptr() for name in state if name in wanted}
    missing = [name for name, one in wanted.items() if name not in state and one.data_ptr() not in there]
    if missing or not set(state) <= set(wanted):
        raise WeightsError("has weights of another network than its config.json describes.")
    model.load_state_dict(state, strict=False)


def unpacked(folder: Path) -> dict | None:
    """The float32 weights of a folder that holds them packed, or as a difference to a shipped checkpoint; None where
    its library reads them itself."""
    path = folder / "model.safetensors"
    if not path.is_file():  # in parts, or under a name of its library's own
        return None
    from models.backbones import delta, packing
    if packing.kind(path) != packing.DIFFERENCE:
        return packing.read_packed(path)
    try:
        return delta.read_difference(path, trunk)
    except ValueError as error:
        raise WeightsError(str(error)) from error


def trunk(name: str):
    """A shipped checkpoint that others are differences to; WeightsError where there is none of this name. It may be a
    difference itself, to one that is none."""
    from safetensors.torch import load_file

    from models.backbones import delta, packing
    path = SHIPPED / name / "model.safetensors"
    known = name in _names() and path.is_file()
    behind, nested = (trunk_file(path), packing.kind(path) == packing.DIFFERENCE) if known else ([], False)
    if not known or len(behind) != nested:
        raise WeightsError(f"is a difference to '{name[:40]}', which is not shipped here.")
    verify.contents(path)
    state = delta.read_difference(path, trunk) if behind else packing.read_packed(path)
    return delta.Trunk(name, verify.fingerprint(path)[:12], load_file(str(path)) if state is None else state)


def trunk_file(path: Path) -> list[Path]:
    """The file that a file of weights is a difference to, if it is one, and the one behind that."""
    from models.backbones import packing
    header = packing.header(path)
    beside = SHIPPED / header.get("trunk", "") / "model.safetensors"
    if header.get("packing") != packing.DIFFERENCE or header.get("trunk") not in _names() or beside == path:
        return []
    return [beside, *trunk_file(beside)]


def _names() -> list[str]:
    return [folder.name for folder in SHIPPED.iterdir()] if SHIPPED.is_dir() else []


def read(folder: Path):
    """The network of any checkpoint's folder in float32, however its weights lie in their file; a new one, that may be
    trained on."""
    config = described(folder)
    named = (stated(config) or ["?"])[0]
    if named not in supported():
        raise WeightsError(f"is a {named[:60]}; supported are {', '.join(supported())}.")
    return reader(named)(folder, config).float().eval()


# Repositories of several parts, by the class that their model_index.json names: weights -> class of each part. (That
# class itself is a pipeline of diffusers that is to be withdrawn; it is never used, the parts are.)
PARTS: dict[str, dict[str, str]] = {
    "AmusedPipeline": {"transformer/diffusion_pytorch_model.safetensors": "UVit2DModel",
                       "vqvae/diffusion_pytorch_model.safetensors": "VQModel",
                       "text_encoder/model.safetensors": "CLIPTextModelWithProjection"}}
# What is fetched beside the weights, by class; "" is every network that is one file.
BESIDE: dict[str, tuple[str, ...]] = {
    "": ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
         "preprocessor_config.json"),
    "AmusedPipeline": ("model_index.json", "transformer/config.json", "vqvae/config.json", "text_encoder/config.json",
                       *(f"tokenizer/{name}" for name in ("vocab.json", "merges.txt", "tokenizer_config.json",
                                                          "special_tokens_map.json"))),
}

READERS: dict[str, Callable[[Path, dict], Any]] = {
    **dict.fromkeys(families.EVERY, _pretrained("transformers")),
    "MaskedTransformer": _mixin("models.backbones.masked"),
    "FsqTokenizer": _mixin("models.backbones.fsq"),
    "PatchCodebook": _mixin("models.backbones.codebook"),
    "ScaleTokenizer": _mixin("models.backbones.scales"),
    "SceneVLM": _mixin("models.backbones.vlm"),
    "LlavaOnevisionForConditionalGeneration": _pretrained("models.backbones.llava"),
    "CausalTransformer": _mixin("models.backbones.causal"),
    "BlockDiffusionLM": _mixin("models.backbones.block_diffusion"),
    "StoryClassifier": _mixin("models.backbones.story_classifier"),
    "FeatureDrafter": _mixin("models.backbones.drafter"),
    "LayerLens": _mixin("models.backbones.layer_lens"),
    "SimMIMForPreTraining": _pretrained("models.backbones.simmim"),
    "AmusedPipeline": _amused,
}

# The papers' own networks, by name: a config.json is untrusted, so this list is what may be loaded and grows by hand,
# one line a network; which folder a class comes from is read from the folders (NETWORKS in a paper's __init__).
PAPER_NETWORKS = (
    "BigramTable",
    "BlockPolicy",
    "BlockPredictors",
    "CaeForPreTraining",
    "ClauseCoder",
    "CodesMaeForPreTraining",
    "ConnectivityPredictors",
    "ConvClassifier",
    "DecoupledScales",
    "EmbeddingHypernetwork",
    "EnatTransformer",
    "FutureAdapters",
    "FutureDecoder",
    "FutureHeads",
    "GraphAdapter",
    "HorizonLlama",
    "HpmForPreTraining",
    "IllamaForImageClassification",
    "InsertionLM",
    "JepaForPreTraining",
    "JointSampler",
    "LexinvariantLM",
    "LutForPreTraining",
    "MTOForPreTraining",
    "MaskAlignForPreTraining",
    "MixedAEForPreTraining",
    "PairwiseTransformer",
    "PlaceTransformer",
    "ScaleTransformer",
    "SelfieNet",
    "SparkNet",
    "StateChannel",
    "VectorLlama",
)


@cache
def declared() -> dict[str, str]:
    """class -> module of every network that a paper's folder declares."""
    found = {}
    for place in sorted((Path(__file__).resolve().parents[1] / "papers").glob("*/__init__.py")):
        package = f"models.papers.{place.parent.name}"
        for name, module in getattr(importlib.import_module(package), "NETWORKS", {}).items():
            found[name] = f"{package}.{module}"
    return found


def supported() -> list[str]:
    """Names of all classes that may be loaded."""
    return sorted([*READERS, *PAPER_NETWORKS])


def reader(named: str) -> Callable[[Path, dict], Any]:
    """What reads a folder whose config.json names this class; KeyError if it may not be loaded."""
    if named not in PAPER_NETWORKS:
        return READERS[named]
    module = declared()[named]
    library = hasattr(getattr(importlib.import_module(module), named), "config_class")  # transformers' layout
    return (_pretrained if library else _mixin)(module)


def parts(named: str) -> dict[str, str]:
    """weights -> class of every part of a checkpoint whose own class is `named`."""
    return PARTS.get(named) or {"model.safetensors": named}


def index(named: str) -> str:
    """The file that says what a checkpoint of this class is."""
    return "model_index.json" if named in PARTS else "config.json"


def is_checkpoint(folder: Path) -> bool:
    try:
        return any((folder / name).is_file() for name in ("config.json", "model_index.json"))
    except (OSError, ValueError):  # a name that no file system takes
        return False


def stated(config: dict) -> list[str]:
    """The classes that a part's config.json names, in transformers' way or in diffusers'."""
    named = config.get("architectures") or [config.get("_class_name")]
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


def described(folder: Path) -> dict:
    """A folder's config.json, or of several parts their common class in its place; {} where neither can be read."""
    config, together = (read_object(folder / name) for name in ("config.json", "model_index.json"))
    return config or ({"architectures": [together["_class_name"]]} if "_class_name" in together else {})


def read_object(path: Path) -> dict:
    """A JSON file's keys and values; {} for anything else."""
    try:
        small = path.is_file() and path.stat().st_size < LONGEST_JSON  # no pipe, no device, nothing endless
        found = json.loads(path.read_text("utf-8")) if small else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _pixels(folder: Path) -> dict[str, list[float]]:
    """Mean and deviation by which a picture model wants its colours normalised; {} where its folder does not say."""
    found = read_object(folder / "preprocessor_config.json")
    try:
        pair = {name: [float(number) for number in found[f"image_{name}"]] for name in ("mean", "std")}
    except (ValueError, KeyError, TypeError):
        return {}
    return pair if all(len(row) == 3 for row in pair.values()) and min(pair["std"]) > 0 else {}


def tokenizer(folder: Path):
    """The tokenizer of a checkpoint, or None; one whose files name no special token gets the usual ones it knows."""
    if not (folder / "tokenizer.json").is_file():
        return None
    from transformers import PreTrainedTokenizerFast
    made = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if all(getattr(made, role) is None for role in UNSAID):
        known = made.get_vocab()
        for role, token in UNSAID.items():
            if token in known:
                setattr(made, role, token)
    return made
