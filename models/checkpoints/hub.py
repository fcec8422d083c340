"""Public checkpoints on the Hugging Face Hub: a fixed table, which of them a method offers here, and where they lie.

Nobody can ask for anything else: each entry is one commit of one repository whose safetensors files are written here
with their sizes (and sha256, where public text states it). No pickle, no code from the Hub, no name made up by a
visitor. Files lie in the Hub's own cache, where other programs find them too; models/checkpoints/download.py brings
them there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from models.checkpoints import memory, pins
from models.checkpoints.pins import Weights
from models.checkpoints.registry import BESIDE, PARTS, index, parts
from models.checkpoints.verify import CheckpointError
from models.trace import limits

OFFICIAL, PUBLIC = "official weights", "paper's rule on public weights"  # grades, see models/engine/method.py
MARK = ".tokenscope"  # lies beside what we fetched; when it was last used


@dataclass(frozen=True)
class Public:
    """revision: a commit, 40 hex digits; "" until whoever runs the server pins it (models/checkpoints/pins.py).

    weights: path -> each safetensors file of the repository that is read. architecture: what
    models/checkpoints/registry.py knows it by. methods: id -> grade on these weights. needs: further entries that its
    methods load. macs: of one pass, where a processor might be too slow for it.
    """

    repo: str
    revision: str
    weights: Mapping[str, Weights]
    licence: str
    architecture: str
    methods: Mapping[str, str]
    needs: tuple[str, ...] = ()
    macs: float = 0

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return sum(one.bytes for one in self.weights.values())

    @property
    def prints(self) -> dict[str, str]:
        """path -> sha256 of all weights."""
        return {path: one.sha256 for path, one in self.weights.items()}

    @property
    def files(self) -> tuple[str, ...]:
        """What is fetched, where the repository has it."""
        return (*parts(self.architecture), *BESIDE.get(self.architecture, BESIDE[""]))


def _one(bytes: int, sha256: str = "") -> dict[str, Weights]:
    """The weights of most repositories."""
    return {"model.safetensors": Weights(bytes, sha256)}


def _uses(*ids: str, official: tuple[str, ...] = ()) -> dict[str, str]:
    return {**dict.fromkeys(ids, PUBLIC), **dict.fromkeys(official, OFFICIAL)}


# Each revision is confirmed by public text that pins it (NOTES.md); none is a guess.
WRITTEN = (
    Public("HuggingFaceTB/SmolLM2-135M", "93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
           _one(269_060_552, "80521b40281d6ce74e35c9282c22539e75aa0ac8578892b2a59955ef78d55da1"),
           "Apache-2.0", "LlamaForCausalLM",
           _uses("sampling", "cntp", "attention", "lazyllm", "top-attention", "random-keep")),
    Public("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e",
           _one(548_105_171, "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"),
           "MIT", "GPT2LMHeadModel", _uses("sampling", "cntp", "attention")),
    Public("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594",
           _one(440_449_768, "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3"),
           "Apache-2.0", "BertForMaskedLM", _uses("attention")),
    Public("facebook/vit-mae-base", "25b184bea5538bf5c4c852c79d221195fdd2778d",
           _one(447_670_680, "479dcef4bd5df06259399027b789f21e9d9a1b79f37155a64176d55bc26fdae8"),
           "Apache-2.0 on the Hub, first released CC BY-NC 4.0", "ViTMAEForPreTraining",
           _uses("attention", official=("mae",))),
    Public("google/vit-base-patch16-224", "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3", _one(346_293_852),
           "Apache-2.0", "ViTForImageClassification", _uses("attention", official=("vit",))),
    Public("facebook/dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056",
           _one(88_249_960, "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1"),
           "Apache-2.0", "Dinov2Model", _uses("attention")),
    # No public text pins these with safetensors: whoever runs the server does, `python -m models pin NAME`.
    Public("HuggingFaceTB/SmolLM2-135M-Instruct", "", {}, "Apache-2.0", "LlamaForCausalLM", _uses("cntp")),
    Public("google/electra-small-generator", "", {}, "Apache-2.0", "ElectraForMaskedLM", {}),
    Public("google/electra-small-discriminator", "", {}, "Apache-2.0", "ElectraForPreTraining",
           _uses(official=("electra",)), needs=("google/electra-small-generator",)),
    Public("amused/amused-256", "", {}, "licence on its card", "AmusedPipeline", _uses("maskgit"), macs=107e9),
    Public("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "", {}, "Apache-2.0", "LlavaOnevisionForConditionalGeneration",
           _uses("vflowopt", "top-attention", "random-keep"), macs=600e9),
)


def pinned(entry: Public) -> Public:
    """The entry as it stands in the table, or else as this server's own file pins it."""
    pin = None if entry.revision else pins.read(entry.repo, parts(entry.architecture))
    return replace(entry, **pin._asdict()) if pin else entry


TABLE: dict[str, Public] = {entry.repo: pinned(entry) for entry in WRITTEN}


def pinnable() -> list[str]:
    """Names whose commit whoever runs the server says, not the table."""
    return [entry.repo for entry in WRITTEN if not entry.revision]


def pin(name: str) -> list[Public]:
    """Pins a public checkpoint, and those that it needs, to the commits that the Hub has now; for this process and for
    every later start. CheckpointError says why not."""
    if name not in pinnable():
        raise CheckpointError(f"'{name[:60]}' cannot be pinned here; those that can are {', '.join(pinnable())}.")
    found = {one: pins.ask(one, parts(TABLE[one].architecture)) for one in (*TABLE[name].needs, name)}
    for one, made in found.items():
        pins.write(one, made)
        TABLE[one] = replace(TABLE[one], **made._asdict())
    return [TABLE[one] for one in found]


def family(name: str) -> list[Public]:
    """A public checkpoint behind those that it needs."""
    return [TABLE[one] for one in (*TABLE[name].needs, name)] if name in TABLE else []


def size(name: str) -> int:
    """Bytes of a public checkpoint with those that it needs."""
    return sum(entry.bytes for entry in family(name))


def offered(method: str) -> tuple[str, ...]:
    """Names that the checkpoint menu of a method has beyond the shipped ones: those here, and those that can be had."""
    able = (name for name, entry in TABLE.items() if method in entry.methods and not too_heavy(entry))
    return tuple(name for name in able if folder(name) or can_fetch(name))


def too_heavy(entry: Public) -> bool:
    """Whether a run would hold up everybody else: more work than a processor should do, and no GPU."""
    return entry.macs > limits.CPU_MACS and memory.default_device() == "cpu"


def can_fetch(name: str) -> bool:
    """Whether this machine may fetch a public checkpoint at all; whether the Hub answers shows later."""
    return name in TABLE and not hindrance(name)


def hindrance(name: str) -> str:
    """Why this machine does not fetch a public checkpoint, as the end of a sentence; "" where nothing stands against
    it."""
    if not all(entry.revision for entry in family(name)):
        return f"whoever runs this server has not pinned it yet (`python -m models pin {name}`)"
    if too_heavy(TABLE[name]):
        return "it needs a GPU, and this server has none"
    if size(name) > limits.DOWNLOAD_BYTES:
        return "it is larger than what this server may fetch"
    return "" if limits.HUB and not offline() else "this server may not ask the Hub for it"


def certain(entry: Public) -> tuple[str, ...]:
    """The files that this repository is known to have; a Space's builder wants them by name."""
    if entry.architecture in PARTS:
        return entry.files
    def has(*names: str) -> bool:
        return any(name in entry.architecture for name in names)
    words = ("tokenizer.json", "tokenizer_config.json") if has("LM", "Electra", "Llava") else ()
    pictures = ("preprocessor_config.json",) if has("ViT", "Dinov2", "Llava") else ()
    return ("config.json", "model.safetensors", *words, *pictures)


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids asking the Hub."""
    from huggingface_hub import constants
    return constants.HF_HUB_OFFLINE


def folder(name: str) -> Path | None:
    """Where a public checkpoint lies on this machine, whole as far as its size tells; None if it does not."""
    if not limits.HUB or name not in TABLE:
        return None
    return snapshot(TABLE[name]) if all(map(whole, family(name))) else None


def whole(entry: Public) -> bool:
    """Whether one repository's files are here."""
    return bool(entry.revision) and (snapshot(entry) / index(entry.architecture)).is_file() and not cut(entry)


def cut(entry: Public) -> list[Path]:
    """The weights that are not here, or not in their full length."""
    place = snapshot(entry)
    return [place / path for path, one in entry.weights.items() if _size(place / path) != one.bytes]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def snapshot(entry: Public) -> Path:
    """The folder of this revision in the Hub's cache."""
    return storage(entry) / "snapshots" / entry.revision


def storage(entry: Public) -> Path:
    """Everything that the Hub's cache has of this repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=entry.repo, repo_type="model")


def title(name: str) -> str:
    """How the menu writes a checkpoint: size and licence of a public one, and whether it must be fetched first."""
    if name not in TABLE:
        return name
    entry = TABLE[name]
    much = f"{size(name) / 1e6:.0f} MB" + ("" if folder(name) else " to fetch")
    return f"{name} ({much}, {entry.licence})"


def grade(name: str, method: str) -> str:
    """What a run of this method with these public weights is worth; "" for other checkpoints."""
    return TABLE[name].methods.get(method, "") if name in TABLE else ""


def cards() -> dict[str, dict]:
    """name -> what is known of each public checkpoint, in the words of the shipped ones' cards."""
    return {name: {"name": name, "bytes": entry.bytes, "weights_licence": entry.licence,
                   "architecture": entry.architecture} for name, entry in TABLE.items()}
