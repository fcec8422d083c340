"""make space: checks the Spacefile, writes README's front matter from it and says what would be uploaded, or does it.

python tools/space.py [--push OWNER/NAME]        the token comes from HF_TOKEN or `hf auth login`
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from models.checkpoints import hub  # noqa: E402  run as a script, it finds its own repository

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
HARDWARE = {"cpu-basic", "cpu-upgrade", "zero-a10g"}
PYTHONS = {"3.12"}  # ZeroGPU offers it, and our libraries need 3.11
TYPES = {"title": str, "emoji": str, "colorFrom": str, "colorTo": str, "sdk": str, "sdk_version": str,
         "python_version": str, "app_file": str, "fullWidth": bool, "license": str, "short_description": str,
         "suggested_hardware": str, "disable_embedding": bool, "preload": list}
OURS = {"preload"}  # for app.py, not for the Hub
LEFT_OUT = (".ci/", ".github/", "benchmarks/", "tests/", "tools/", "training/", ".oxlintrc.json",
            "CONTRIBUTING.md", "Makefile", "constraints.txt", "pyproject.toml", "requirements-dev.txt")
LARGEST_SPACE = 1 << 30  # bytes that a Space's repository may hold
FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


class SpaceError(ValueError):
    """What is wrong with the Spacefile, a sentence each."""


def declared(text: str, root: Path = ROOT) -> dict:
    """The Spacefile's content. SpaceError lists everything that the Hub, or app.py, would stumble over."""
    found = yaml.safe_load(text)
    if not isinstance(found, dict):
        raise SpaceError("The Spacefile is no list of keys and values.")
    wrong = [*misnamed(found), *(faults(found, root) if not misnamed(found) else ())]
    if wrong:
        raise SpaceError(" ".join(wrong))
    return found


def misnamed(found: dict) -> list[str]:
    unknown, missing = sorted(map(str, set(found) - set(TYPES))), sorted(set(TYPES) - set(found))
    mistyped = [key for key, kind in TYPES.items() if key in found and not isinstance(found[key], kind)]
    return ([f"Unknown: {', '.join(unknown)}."] if unknown else []) + (
        [f"Missing: {', '.join(missing)}."] if missing else []) + (
        [f"{key} must be a {TYPES[key].__name__}." for key in mistyped])


def faults(found: dict, root: Path) -> list[str]:
    """Sentences on values that would fail only after the upload."""
    pin = re.search(r"^gradio==(\S+)$", (root / "requirements.txt").read_text(), re.MULTILINE)
    pinned = {name for name, entry in hub.TABLE.items() if entry.revision}
    absent = [name for name in found["preload"]
              if name not in pinned and not (root / "assets/checkpoints" / str(name) / "card.json").exists()]
    checks = [
        (found["sdk"] == "gradio", "sdk must be gradio."),
        (pin and pin[1] == found["sdk_version"], f"sdk_version must be requirements.txt's {pin and pin[1]}."),
        (found["python_version"] in PYTHONS, f"python_version must be one of {', '.join(PYTHONS)}."),
        ({found["colorFrom"], found["colorTo"]} <= COLOURS, f"Colours are {', '.join(sorted(COLOURS))}."),
        (found["suggested_hardware"] in HARDWARE, f"suggested_hardware is one of {', '.join(sorted(HARDWARE))}."),
        (len(found["short_description"]) <= 60, "short_description has at most 60 characters."),
        ((root / found["app_file"]).is_file(), f"There is no {found['app_file']}."),
        (not absent, f"Neither shipped nor pinned, so not preloaded: {', '.join(map(str, absent))}."),
    ]
    return [sentence for fine, sentence in checks if not fine]


def front_matter(found: dict) -> str:
    """What the Hub reads at the top of README.md."""
    shown = {key: value for key, value in found.items() if key not in OURS} | fetched(found["preload"])
    return f"---\n{yaml.safe_dump(shown, sort_keys=False, default_flow_style=False, width=120)}---\n"


def fetched(names: list) -> dict[str, list[str]]:
    """Public checkpoints among those to preload: the Hub puts their files, and no others, beside the Space when it is
    built."""
    public = [entry for name in names for entry in hub.family(name)]
    lines = [f"{entry.repo} {','.join(hub.certain(entry))} {entry.revision}" for entry in public]
    return {"models": [entry.repo for entry in public], "preload_from_hub": lines} if public else {}


def with_front(readme: str, front: str) -> str:
    return front + (FRONT.sub("", readme, 1) if FRONT.match(readme) else "\n" + readme)


def uploaded(root: Path = ROOT) -> list[Path]:
    """Tracked files that the Space needs, relative to the root."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True).stdout
    return [Path(name) for name in names.split("\0") if name and not name.startswith(LEFT_OUT)]


def report(files: list[Path], root: Path = ROOT) -> str:
    """What would be uploaded: files and megabytes by folder. SpaceError if it is more than a Space holds."""
    sizes: dict[str, list[int]] = {}
    for file in files:
        sizes.setdefault("/".join(file.parts[:2 if file.parts[0] == "assets" else 1]), []).append(
            (root / file).stat().st_size)
    total = sum(map(sum, sizes.values()))
    if total > LARGEST_SPACE:
        raise SpaceError(f"{total / 1e6:.0f} MB are more than a Space holds ({LARGEST_SPACE / 1e6:.0f} MB).")
    lines = [f"{sum(found) / 1e6:9.2f} MB {len(found):5} files  {name}" for name, found in sorted(sizes.items())]
    return "\n".join([*lines, f"{total / 1e6:9.2f} MB {len(files):5} files in all"])


def push(repository: str, files: list[Path], root: Path = ROOT, endpoint: str | None = None) -> str:
    """Creates the Space if need be and makes it hold exactly these files, in one commit; returns its address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(endpoint=endpoint)
    address = api.create_repo(repository, repo_type="space", space_sdk="gradio", exist_ok=True)
    there = set(api.list_repo_files(repository, repo_type="space")) - {".gitattributes"}
    gone = [CommitOperationDelete(name) for name in sorted(there - {file.as_posix() for file in files})]
    added = [CommitOperationAdd(file.as_posix(), str(root / file)) for file in files]
    api.create_commit(repository, [*gone, *added], commit_message="Update Tokenscope", repo_type="space")
    return str(address)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make space", description=__doc__)
    parser.add_argument("--push", metavar="OWNER/NAME", default="", help="upload; else nothing leaves here")
    repository = parser.parse_args(arguments).push
    try:
        found = declared((ROOT / "Spacefile").read_text("utf-8"))
        readme = ROOT / "README.md"
        readme.write_text(with_front(readme.read_text("utf-8"), front_matter(found)), "utf-8")
        files = uploaded()
        print(report(files))
    except SpaceError as error:
        print(f"Spacefile: {error}", file=sys.stderr)
        return 2
    if not repository:
        print(f"Dry run: the Spacefile is fine for {found['suggested_hardware']}. To upload: make space TO=OWNER/NAME")
        return 0
    print(push(repository, files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
