"""A visitor's own folder, looked at as a whole: what it says before anything is built, and what it then computes.

Every fault is a WeightsError, the end of a sentence that begins with the folder's name, and says what is really wrong.
Only the folder's last name ever leaves this machine's disk: never its path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.checkpoints import families
from models.checkpoints.registry import is_checkpoint, quiet
from models.checkpoints.verify import CheckpointError, WeightsError, contents
from models.trace import limits

OBSERVED = (None, "eager", "sdpa")  # attention that can be looked into
SIZE = re.compile(r"(_size|_dim|_embd|_inner|_width|^dim|layers?|heads|_channels)$")
USUAL, MOST = 4096, 100_000_000  # a size up to which nobody asks; a number that no network has
WORDS = ("vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def allowed() -> bool:
    """Whether a visitor may name a folder of this machine."""
    return not os.environ.get("SPACE_ID") and limits.folders()


def own(asked: Any) -> Path | None:
    """The folder of that path on this machine, or None: never on a hosted Space, nor where others can reach the page
    (app.py sees to that)."""
    if not allowed() or not isinstance(asked, str) or not 0 < len(asked) < 1024:
        return None
    try:
        folder = Path(asked).expanduser().resolve()
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # a name that no file system takes, links in a circle, no such user
        return None


def opened(asked: str, folder: Path) -> str:
    """What to load for it; CheckpointError where it is no checkpoint's folder."""
    if is_checkpoint(folder):
        return str(folder)
    kind = "an adapter without its model" if (folder / "adapter_config.json").is_file() else "no config.json in it"
    raise CheckpointError(f"The folder '{folder.name[:60]}' has {kind}; please give the folder of a whole checkpoint, "
                          "with config.json and safetensors.")


@contextmanager
def saying(what: str, folder: Path) -> Iterator[None]:
    """A library's complaint as the end of our sentence, in one line and without a path."""
    try:
        yield
    except (WeightsError, CheckpointError, MemoryError):
        raise
    except BaseException as error:  # tokenizers' own panics are no Exceptions
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if "memory" in f"{type(error).__name__} {error}".lower():
            raise
        raise WeightsError(f"{what}: {reason(error, folder)}.") from error


def reason(error: BaseException, folder: Path) -> str:
    """The first words of a library's message, without this machine's paths."""
    text = str(error).replace(str(folder), folder.name).strip().partition("\n\n")[0]
    text = re.sub(r"(?<![\w.])(/[^\s'\",:;)]+)+", "...", " ".join(text.split()))
    short = text if len(text) <= 160 else text[:157] + "..."
    return "".join(letter for letter in short if letter.isprintable()).rstrip(". ") or type(error).__name__


def check(folder: Path, config: Mapping, named: str, files: list[Path]) -> None:
    """Before anything is built: what is not supported, and sizes that the files do not bear out."""
    if odd := next((path.name for path in sorted(folder.glob("*.json")) if not path.is_file()), ""):
        raise WeightsError(f"has a {odd[:60]} that is no ordinary file.")  # a pipe or a device would never end
    plain(config)
    tables = [contents(path) for path in files]
    dims = [size for table in tables for one in table.values() for size in one["shape"]]
    sized(config, max(dims, default=0), sum(map(len, tables)))
    if named in families.EVERY:
        built(folder, families.PARTS_OF.get(named, named), sum(numbers(table) for table in tables))
    if worded_kind(named, config) and not (folder / "tokenizer.json").is_file():
        found = next((f", only a {name}" for name in WORDS if (folder / name).is_file()), "")
        raise WeightsError(f"has no tokenizer.json{found}; save its tokenizer there with the transformers library "
                           "(AutoTokenizer.from_pretrained, then save_pretrained).")


def worded_kind(named: str, config: Mapping) -> bool:
    """Whether networks of this class read a text by a tokenizer of their own."""
    return (named in families.TEXTS or named in ("SceneVLM", "LlavaOnevisionForConditionalGeneration")
            or named == "MaskedTransformer" and config.get("positions") == "1d")


def plain(config: Mapping) -> None:
    """Settings under which a network could not be looked into, or would be another one."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        asked = part.get("_attn_implementation", part.get("attn_implementation"))
        if asked not in OBSERVED:
            raise WeightsError(f"asks for the attention {str(asked)[:40]!r} in its config.json, which cannot be looked "
                               "into; please delete that entry, or set it to 'sdpa'.")
        if part.get("quantization_config"):
            raise WeightsError("holds quantised weights (quantization_config), which are not supported; please choose "
                               "one with ordinary weights.")
    if config.get("is_decoder") and config.get("architectures", [""])[0] in (*families.MASKED, *families.ENCODERS):
        raise WeightsError("is an encoder that its config.json turns into a decoder (is_decoder), which is not "
                           "supported.")


def sized(config: Mapping, largest: int, weights: int) -> None:
    """Every number that sets a size, against what the files hold, so that nothing huge is ever built."""
    for name, value in numbered(config):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, (int, float)) and not abs(value) <= MOST or SIZE.search(name) and whole and value < 0:
            raise WeightsError(f"has a config.json that says {name} = {str(value)[:20]}, which no network has.")
        if whole and re.search("layers?$", name) and value > max(weights, 16):
            raise WeightsError(f"has a config.json that says {name} = {value}, but its files hold {weights} weights.")
        if whole and SIZE.search(name) and value > max(largest, USUAL):
            raise WeightsError(f"has a config.json that says {name} = {value}, but no weight in its files is so large.")


def numbered(config: Mapping, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """name, value of every entry, those of parts too."""
    for name, value in config.items():
        if isinstance(value, Mapping) and depth < 4:
            yield from numbered(value, depth + 1)
        elif not re.search("sliding|window|token_id|theta|_length$|feature_layer$", str(name)):
            yield str(name), value


def numbers(table: Mapping[str, Mapping]) -> int:
    """How many numbers a file of weights holds."""
    from math import prod
    return sum(prod(one["shape"]) for one in table.values())


def built(folder: Path, named: str, there: int) -> None:
    """The network of the library that the config.json describes, without memory for a single weight: can it be built,
    and is it about as large as the files?"""
    import torch
    import transformers
    quiet()
    cls = getattr(transformers, named)
    with saying("has a config.json that cannot be used", folder):
        config = cls.config_class.from_pretrained(folder, local_files_only=True)
        if named in families.PICTURES:
            pictured(config)
    with saying(f"has a config.json that describes no {named}", folder), torch.device("meta"):
        size = sum(weight.numel() for weight in cls._from_config(config).parameters())
    if size > 2 * there + 100_000:
        raise WeightsError(f"has a config.json that describes a network of {size / 1e6:,.1f} M numbers, and files that "
                           f"hold {there / 1e6:,.1f} M.")


def pictured(config) -> None:
    """Square pictures of three channels are what subjects are cut to."""
    side, patch = (one if isinstance(one, (list, tuple)) else (one, one)
                   for one in (config.image_size, config.patch_size))
    if config.num_channels != 3:
        raise WeightsError(f"reads pictures of {config.num_channels} channels; only three (red, green, blue) are "
                           "supported.")
    if len(set(side)) != 1 or len(set(patch)) != 1:
        raise WeightsError(f"reads pictures of {' x '.join(map(str, side))} pixels in patches of "
                           f"{' x '.join(map(str, patch))}; only square ones are supported.")
    if not 0 < patch[0] <= side[0] or side[0] % patch[0]:
        raise WeightsError(f"cuts pictures of {side[0]} pixels into patches of {patch[0]}, which leaves a rest.")


def one_side(config) -> None:
    """Writes a square's side once where a config gives both, as everything here reads it."""
    for name in ("image_size", "patch_size"):
        if isinstance(getattr(config, name), (list, tuple)):
            setattr(config, name, getattr(config, name)[0])


def check_loaded(model, words, named: str) -> None:
    """After it was read: names for its rows, finite weights, and finite first answers."""
    if words is not None and hasattr(model, "get_input_embeddings"):
        worded(model, words)
    if named in families.MASKED and words.mask_token_id is None:
        raise WeightsError("has a tokenizer without a mask token, which this network needs.")
    if named in families.PICTURES:
        one_side(model.config)
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise WeightsError(f"computes NaN: its weight {name[:80]} is not finite.")
    if named in families.EVERY:
        computes(model, named)


def worded(model, words) -> None:
    """The tokenizer's ids lie inside the embedding; rows without a token get no probability, so nobody ever draws one.
    """
    rows, ids = model.get_input_embeddings().weight.shape[0], set(words.get_vocab().values())
    if not ids or max(ids) >= rows:
        raise WeightsError(f"has a tokenizer with ids up to {max(ids, default=0):,} and an embedding of {rows:,} rows; "
                           "they do not belong together.")
    nameless = sorted(set(range(rows)) - ids)
    if nameless and model.get_output_embeddings() is not None:
        import torch
        never = torch.tensor(nameless)
        model.get_output_embeddings().register_forward_hook(
            lambda layer, given, logits: logits.index_fill(-1, never.to(logits.device), float("-inf")))


def computes(model, named: str) -> None:
    """One small pass, so that a network that overflows is refused here and not in the middle of a run."""
    import torch
    with torch.inference_mode():
        if named in families.TEXTS:
            out = model(torch.arange(min(4, model.get_input_embeddings().weight.shape[0]))[None])
        else:
            side, more = model.config.image_size, {}
            if named.startswith("ViTMAE"):  # else it draws its mask from everybody's dice
                more["noise"] = torch.arange((side // model.config.patch_size) ** 2)[None].float()
            out = model(torch.linspace(-1, 1, 3 * side * side).view(1, 3, side, side), **more)
    found = [one for one in out.values() if torch.is_tensor(one) and one.is_floating_point()]
    if any(bool(one.isnan().any() or (one == float("inf")).any()) for one in found):
        raise WeightsError("computes NaN: its answer to a first small subject is not finite.")


def label(name: str) -> str:
    """How a checkpoint is called wherever it leaves this machine: its name, or the last name of a folder."""
    return Path(name).name if Path(name).is_absolute() else name
