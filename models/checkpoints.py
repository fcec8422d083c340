"""name -> weights: shipped with the app, a local folder, or a pinned Hub revision; one code path for all three.

A checkpoint is a folder in the standard layout of its library: config.json with `architectures`, safetensors,
a tokenizer.json for text, and for ours a card.json. Safetensors only: no pickle, no remote code. Loaded models stay in
memory up to limits.MODEL_BYTES, least recently used first out; a model is never mutated for one visitor.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models import limits, precision
from models.subject import ASSETS

SHIPPED = ASSETS / "checkpoints"


class CheckpointError(ValueError):
    """A checkpoint that cannot be had or loaded; the sentence says what to do."""


@dataclass(frozen=True)
class Bundle:
    """A loaded checkpoint: model in eval mode, tokenizer or None, its card, and what the honesty strip shows.

    revision: first 12 hex digits of the weights' sha256 (shipped, local) or the Hub commit. grade: see models.method.
    """

    name: str
    model: Any
    tokenizer: Any = None
    card: dict = field(default_factory=dict)
    revision: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    folder: Path | None = None


def here(name: str) -> bool:
    """Whether a checkpoint of this name is shipped, or a test has put a stand-in in its place."""
    return name in _makers or (SHIPPED / name / "config.json").is_file()


def shipped() -> dict[str, dict]:
    """name -> card of every checkpoint in assets/checkpoints, without loading any."""
    cards = {}
    for path in sorted(SHIPPED.glob("*/card.json")):
        cards[path.parent.name] = json.loads(path.read_text("utf-8"))
    return cards


def resolve(asked: str | None, declared: tuple[str, ...]) -> str:
    """The checkpoint to use: the asked one if it is declared or a local folder (never on a hosted Space)."""
    if asked is None:
        return declared[0]
    if asked in declared:
        return asked
    folder = Path(asked)
    if not os.environ.get("SPACE_ID") and len(asked) < 1024 and (folder / "config.json").is_file():
        return str(folder.resolve())
    raise CheckpointError(f"There is no checkpoint '{asked[:60]}' for this method; choose one of {', '.join(declared)}"
                          " or, on your own machine, a folder with config.json and safetensors.")


def architecture(name: str) -> str:
    """The class that a checkpoint's config.json names, without loading it; "" if there is none to read."""
    return (_config(name).get("architectures") or [""])[0]


def _config(name: str) -> dict:
    path = (SHIPPED / name if (SHIPPED / name / "config.json").is_file() else Path(name)) / "config.json"
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def default_dtype(name: str, device: str) -> str:
    """The dtype a checkpoint is loaded in when nobody names one; see models/precision.py."""
    config = _config(name)
    width = config.get("hidden_size") or config.get("n_embd") or 0
    return precision.default(device, width, writes=architecture(name).endswith(("ForCausalLM", "LMHeadModel")))


def load(name: str, *, device: str | None = None, dtype: str | None = None) -> Bundle:
    """The bundle of a checkpoint, from memory if it is there. dtype: "float32", "bfloat16" or "float16"; see
    default_dtype."""
    device = device or default_device()
    dtype = dtype or default_dtype(name, device)
    key = (name, device, dtype)
    with _lock:
        if key not in _loaded:
            _loaded[key] = _read(name, device, dtype)
        _loaded.move_to_end(key)
        _evict()
        return _loaded[key]


def default_device() -> str:
    """TOKENSCOPE_DEVICE, or cuda where there is one, else cpu."""
    import torch
    return os.environ.get("TOKENSCOPE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def register(name: str, maker: Callable[[], Bundle]) -> None:
    """For tests: make `load(name)` return what `maker()` builds (tiny random weights)."""
    _makers[name] = maker


_loaded: OrderedDict[tuple, Bundle] = OrderedDict()
_makers: dict[str, Callable[[], Bundle]] = {}
_lock = threading.RLock()


def _read(name: str, device: str, dtype: str) -> Bundle:
    if name in _makers:
        return _makers[name]()
    folder = SHIPPED / name if (SHIPPED / name / "config.json").is_file() else Path(name)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"The checkpoint '{name[:60]}' is not shipped here; train it with `make train "
                              f"CHECKPOINT={name[:60]}` or choose another.")
    return _read_folder(name, folder, device, dtype)


def _read_folder(name: str, folder: Path, device: str, dtype: str) -> Bundle:
    import torch
    config = json.loads((folder / "config.json").read_text("utf-8"))
    card = json.loads((folder / "card.json").read_text("utf-8")) if (folder / "card.json").is_file() else {}
    architecture = (config.get("architectures") or ["?"])[0]
    if architecture not in ARCHITECTURES:
        raise CheckpointError(f"'{name[:60]}' is a {architecture}; supported are {', '.join(sorted(ARCHITECTURES))}.")
    try:
        model = ARCHITECTURES[architecture](folder, config).to(device=device, dtype=getattr(torch, dtype)).eval()
    except Exception as error:  # a truncated or foreign file: one sentence, the cause stays in the log
        raise CheckpointError(f"The checkpoint '{name[:60]}' could not be read; its files seem damaged.") from error
    model.requires_grad_(False)
    revision = card.get("sha256", "") or _fingerprint(folder)
    return Bundle(name, model, _tokenizer(folder), card, revision[:12], device, dtype, folder)


def _pretrained(module: str) -> Callable[[Path, dict], Any]:
    """Reader of transformers' layout for a class in `module`."""
    def read(folder: Path, config: dict):
        import transformers
        transformers.utils.logging.disable_progress_bar()
        cls = getattr(importlib.import_module(module), config["architectures"][0])
        return cls.from_pretrained(folder, use_safetensors=True, local_files_only=True, trust_remote_code=False)
    return read


def _mixin(module: str) -> Callable[[Path, dict], Any]:
    """Reader of PyTorchModelHubMixin's layout, without its prints: config.json holds the constructor's arguments."""
    def read(folder: Path, config: dict):
        from safetensors.torch import load_model

        from models.backbones.packing import read_packed
        cls = getattr(importlib.import_module(module), config["architectures"][0])
        known = inspect.signature(cls.__init__).parameters
        model = cls(**{key: value for key, value in config.items() if key in known})
        packed = read_packed(folder / "model.safetensors")
        if packed is None:
            load_model(model, str(folder / "model.safetensors"))
        else:
            model.load_state_dict(packed)
        return model
    return read


# What may be loaded, and by whom: a fixed list, because a config file is untrusted.
ARCHITECTURES: dict[str, Callable[[Path, dict], Any]] = {
    **{name: _pretrained("transformers") for name in (
        "LlamaForCausalLM", "GPT2LMHeadModel", "ViTMAEForPreTraining", "ViTForImageClassification", "BertForMaskedLM",
        "ElectraForPreTraining", "ElectraForMaskedLM")},
    "MaskedTransformer": _mixin("models.backbones.masked"),
    "FsqTokenizer": _mixin("models.backbones.fsq"),
    "PatchCodebook": _mixin("models.backbones.codebook"),
    "SceneVLM": _mixin("models.backbones.vlm"),
    "CausalTransformer": _mixin("models.backbones.causal"),
    "FeatureDrafter": _mixin("models.sample.lantern_net"),
    "HpmForPreTraining": _pretrained("models.mask.hpm_net"),
    "SparkNet": _mixin("models.mask.spark_net"),
    "JointSampler": _mixin("models.unmask.joint_sampling_net"),
    "FutureAdapters": _mixin("models.sample.mtp_future_net"),
    "EnatTransformer": _mixin("models.unmask.enat_net"),
    "ScaleTokenizer": _mixin("models.unmask.var_tokens"),
    "ScaleTransformer": _mixin("models.unmask.var_net"),
    "IllamaForImageClassification": _mixin("models.attend.illama_net"),
    "ConnectivityPredictors": _mixin("models.attend.sparsifiner_net"),
}


def _tokenizer(folder: Path):
    if not (folder / "tokenizer.json").is_file():
        return None
    from transformers import PreTrainedTokenizerFast
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def _fingerprint(folder: Path) -> str:
    import hashlib
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _bytes(bundle: Bundle) -> int:
    parameters = getattr(bundle.model, "parameters", lambda: ())()
    return sum(p.numel() * p.element_size() for p in parameters)


def _evict() -> None:
    """Drop the least recently used models beyond limits.MODEL_BYTES; the newest always stays."""
    while len(_loaded) > 1 and sum(map(_bytes, _loaded.values())) > limits.MODEL_BYTES:
        _loaded.popitem(last=False)
