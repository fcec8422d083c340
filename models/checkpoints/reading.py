"""One checkpoint's files read in order: are they whole and the right ones, the network in them, its tokenizer.

Whatever is wrong with them ends as one CheckpointError (`one_sentence`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from models.checkpoints import download, folders, hub, packaged, verify
from models.checkpoints.registry import PARTS, reader, supported, tokenizer, trunk_file
from models.checkpoints.registry import parts as parts_of
from models.checkpoints.verify import CheckpointError, WeightsError


def files(name: str, folder: Path, config: Mapping, named: str, card: Mapping) -> list[Path]:
    """The weights, checked; a visitor's own folder is looked at as a whole."""
    if named not in supported():
        raise CheckpointError(f"'{folders.label(name)[:60]}' is a {named[:60] or '?'}; supported are "
                              f"{', '.join(supported())}.")
    found = verify.checked(folder, expected(name, named, card))
    if Path(name).is_absolute():
        folders.check(folder, config, named, found)
    return found


def with_trunks(found: list[Path]) -> list[Path]:
    """These files, and those that they are differences to."""
    return found + [base for path in found for base in trunk_file(path)]


def parts(name: str, folder: Path, config: dict, named: str) -> tuple[Any, Any]:
    """The network in float32 or as its files hold it, and its tokenizer or None."""
    own = Path(name).is_absolute()
    with folders.saying("could not be read", folder) if own else nullcontext():
        model, words = reader(named)(folder, config), tokenizer(folder)
    if own:
        folders.check_loaded(model, words, named)
    return model, words


@contextmanager
def one_sentence(name: str, label: str) -> Iterator[None]:
    """Whatever is wrong with a checkpoint's files as a CheckpointError; the cause stays in the log."""
    try:
        yield
    except CheckpointError:
        raise
    except WeightsError as error:
        raise CheckpointError(f"The checkpoint '{label}' {error}" + again(name)) from error
    except Exception as error:  # a damaged or foreign file
        if "memory" in f"{type(error).__name__} {error}".lower():  # models/serving/errors.py knows what to say
            raise
        raise CheckpointError(f"The checkpoint '{label}' could not be read; its files seem damaged, or do not "
                              f"belong together.{again(name)}") from error


def expected(name: str, named: str, card: Mapping) -> dict[str, str]:
    """Which files hold the weights, and their sha256 where somebody stated it; {} where only the folder knows."""
    if name in hub.TABLE:
        return hub.TABLE[name].prints
    sha256 = packaged.sha256(name) or card.get("sha256", "")
    return dict.fromkeys(parts_of(named), sha256) if sha256 or named in PARTS else {}


def card(name: str, folder: Path) -> dict:
    """What is known of a checkpoint: its own card, or the table's line; {} for a folder without."""
    if name in hub.TABLE:
        download.used(name)
        return hub.cards()[name]
    try:
        found = json.loads((folder / "card.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def again(name: str) -> str:
    """What to do about damaged files; a public checkpoint's copy is deleted, so that choosing it fetches it again."""
    if name not in hub.TABLE:
        return " Please choose another checkpoint."
    download.drop(hub.TABLE[name])
    return " This copy was deleted; choose it again to fetch it."


def fingerprint(found: list[Path]) -> str:
    """sha256 of one file of weights, or of the hashes of several."""
    if len(found) == 1:
        return verify.fingerprint(found[0])
    return hashlib.sha256("".join(map(verify.fingerprint, found)).encode()).hexdigest()
