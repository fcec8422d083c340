"""Real public models that come inside Python packages, for development: tools/public_weights.py makes their folders in
a cache outside the repository, and from then on they may be asked for by name. One sha256 each: claims are stamped with
it, and a folder with other weights is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packaged:
    """sha256: of the folder's weights. grade: what a run with them is worth."""

    title: str
    licence: str
    sha256: str
    grade: str = "paper's rule on public weights"
    packed: str = ""


TABLE = {
    "smollm2": Packaged("SmolLM2-135M-Instruct", "Apache-2.0",
                        "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
                        "paper's rule on public weights (dequantised)", "GGUF Q4_1, dequantised to float32"),
    "minilm": Packaged("all-MiniLM-L6-v2", "Apache-2.0",
                       "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
}


def cache() -> Path:
    """TOKENSCOPE_PUBLIC, else a folder of the user's cache."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenscope" / "public"
    return Path(os.environ.get("TOKENSCOPE_PUBLIC") or usual)


def folder(name: str) -> Path | None:
    """Where a model of this name lies; None if it is none of these, or has not been made here."""
    place = cache() / name
    return place if name in TABLE and (place / "card.json").is_file() else None


def here() -> tuple[str, ...]:
    """Names of those that were made on this machine."""
    return tuple(name for name in TABLE if folder(name))


def title(name: str) -> str:
    """What a menu says: `SmolLM2-135M-Instruct (public weights, here; Apache-2.0)`."""
    return f"{TABLE[name].title} (public weights, here; {TABLE[name].licence})"


def sha256(name: str) -> str:
    """Of a model's weights, whether or not they are here; "" for all other checkpoints."""
    return TABLE[name].sha256 if name in TABLE else ""


def grade(name: str) -> str:
    """What a run with these weights is worth; "" for all other checkpoints."""
    return TABLE[name].grade if name in TABLE else ""
