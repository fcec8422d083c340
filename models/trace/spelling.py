"""Tokens that hold a part of a character: how they are spelled, and how a row of them reads.

A character that is split over several tokens stands at the first of them, and the others read "" (a picture shows a
small sign there), so that joined labels are the text. Alone, in a list of candidates or before the rest is written, a
part reads as its bytes: <F0 9F>. Only the standard library: no tokenizer, no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

PART = re.compile("<((?:[89A-F][0-9A-F] ?)+)>")  # bytes of a split character, none of which is ASCII
CONTINUED = "⋯"  # shown for a token that adds no character of its own: it goes on with the one before; as in paint.js
BROKEN = re.compile("[\udc80-\udcff]+")


def spelled(raw: bytes) -> str:
    """Bytes as text; those that are no character are written out."""
    return _spelled(raw.decode("utf-8", "surrogateescape"))


def joined(names: Sequence[str]) -> tuple[str, ...]:
    """How tokens read in a row, from how each reads alone."""
    if not any(PART.search(name) for name in names):
        return tuple(names)
    raw = [unspelled(name) for name in names]
    owners = [token for token, piece in enumerate(raw) for _ in piece]  # of each byte
    found, at = [""] * len(names), 0
    for char in b"".join(raw).decode("utf-8", "surrogateescape"):
        found[owners[at]] += char
        at += len(char.encode("utf-8", "surrogateescape"))
    return tuple(map(_spelled, found))


def standing(labels: Sequence[str], own: Sequence[int] | None, held: Sequence[int],
             vocabulary: Mapping[int, str]) -> tuple[str, ...]:
    """What stands at each place while the tokens `held` are there (-1: none): its label, or where `own` says that this
    reads another token, or it is a part of a character, the vocabulary's word."""
    found = []
    for label, before, id in zip(labels, [None] * len(labels) if own is None else own, map(int, held)):
        word = label if id < 0 else vocabulary.get(id, label)
        found.append(label if id == before and not PART.search(word) else word)
    return joined(found)


def unspelled(name: str) -> bytes:
    """The bytes of a token, from how it is spelled."""
    parts = PART.split(name)  # text, bytes, text, ...
    return b"".join(bytes.fromhex(part) if i % 2 else part.encode() for i, part in enumerate(parts))


def _spelled(text: str) -> str:
    return BROKEN.sub(lambda run: "<" + " ".join(f"{ord(char) - 0xDC00:02X}" for char in run[0]) + ">", text)
