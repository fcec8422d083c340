"""Held-out text for claims: pieces of the books that are shipped and that no network was trained on."""

from __future__ import annotations

import numpy as np

from models.trace.subject import ASSETS


def windows(tokenizer, count: int, size: int) -> list[list[int]]:
    """`count` pieces of `size` tokens, spread evenly over the held-out books."""
    ids = tokenizer((ASSETS / "texts" / "heldout.txt").read_text("utf-8"), add_special_tokens=False)["input_ids"]
    return [ids[start : start + size] for start in np.linspace(0, len(ids) - size, count).astype(int)]
