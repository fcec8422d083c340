"""What may be loaded, and by whom: a fixed list of classes and their readers, because a config file is untrusted.

Two layouts: transformers' own, and PyTorchModelHubMixin's for the networks that it does not have. No reader runs code
from a checkpoint's folder or unpickles anything.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.weights import WeightsError

# What GPT-2's and BERT's files on the Hub leave unsaid, because their own tokenizer classes know it.
UNSAID = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "cls_token": "[CLS]", "sep_token": "[SEP]",
          "mask_token": "[MASK]", "pad_token": "[PAD]", "unk_token": "[UNK]"}


def _pretrained(module: str) -> Callable[[Path, dict], Any]:
    """Reader of transformers' layout for a class in `module`."""
    def read(folder: Path, config: dict):
        import transformers
        transformers.utils.logging.disable_progress_bar()
        cls = getattr(importlib.import_module(module), config["architectures"][0])
        model, report = cls.from_pretrained(folder, use_safetensors=True, local_files_only=True,
                                            trust_remote_code=False, output_loading_info=True)
        if report["missing_keys"] or report["mismatched_keys"]:
            raise WeightsError("has weights of another network than its config.json describes.")
        model.pixels = _pixels(folder)
        return model
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


READERS: dict[str, Callable[[Path, dict], Any]] = {
    **{name: _pretrained("transformers") for name in (
        "LlamaForCausalLM", "GPT2LMHeadModel", "ViTMAEForPreTraining", "ViTForImageClassification", "BertForMaskedLM",
        "ElectraForPreTraining", "ElectraForMaskedLM", "Dinov2Model")},
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


def _pixels(folder: Path) -> dict[str, list[float]]:
    """Mean and deviation by which a picture model wants its colours normalised; {} where its folder does not say."""
    try:
        found = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
        pair = {name: [float(number) for number in found[f"image_{name}"]] for name in ("mean", "std")}
    except (OSError, ValueError, KeyError, TypeError):
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
