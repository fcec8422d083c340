"""The symbols that the character models read, and ciphers over them: another letter for every letter, marks stay."""
from __future__ import annotations

from string import ascii_lowercase as LETTERS

import numpy as np

from models.trace.subject import SubjectError

SYMBOLS = LETTERS + " ,.\n\"'-!?;:"  # 99.98 % of the books, capitals made small; the toy has the first five
COMMON = " etaohnisrdluwmgyfc,bp.\nk\"v'-!j?;xqz:"  # by how often they come in the books that were trained on
LEAST, LONGEST = 32, 512  # characters of a text: its pieces and quarters must hold some


def encoded(text: str) -> np.ndarray:
    """Ids uint8 [N] of a text; what is none of the symbols is left out."""
    table = np.full(256, 255, np.uint8)
    table[np.frombuffer(SYMBOLS.encode(), np.uint8)] = np.arange(len(SYMBOLS))
    ids = table[np.frombuffer(text.lower().encode("ascii", "ignore"), np.uint8)]
    return ids[ids < 255]


def checked(text: str, size: int) -> np.ndarray:
    """Ids int64 [N] of a visitor's text in the first `size` symbols; SubjectError where it does not fit."""
    symbols = SYMBOLS[:size]
    strange = sorted({char for char in text.lower() if char not in symbols})
    if strange:
        known = f"the letters a to {symbols[-1]}" if size < 26 else "letters, spaces and , . \" ' - ! ? ; :"
        raise SubjectError(f"This checkpoint reads {known}; please leave out {' '.join(strange[:5])!r}.")
    if not LEAST <= len(text) <= LONGEST:
        raise SubjectError(f"This text has {len(text)} character{'s' * (len(text) != 1)}; please give {LEAST} to "
                           f"{LONGEST}.")
    return encoded(text).astype(np.int64)


def key_of(kind: str, size: int, dice: np.random.Generator) -> np.ndarray:
    """Real symbol -> symbol that is written for it [V]."""
    key, count = np.arange(size), min(size, len(LETTERS))
    if kind == "shuffled":
        key[:count] = dice.permutation(count)
    elif kind == "shifted":
        key[:count] = (key[:count] + 3) % count
    return key


def by_counting(seen: np.ndarray) -> np.ndarray:
    """Frequency analysis: the commonest symbol must be the commonest of the books, and so on. seen: how often each
    symbol came [V]; the real symbol [V] that each is taken for."""
    guess = np.empty(len(seen), np.int64)
    guess[np.argsort(-seen, kind="stable")] = [SYMBOLS.index(char) for char in COMMON if char in SYMBOLS[: len(seen)]]
    return guess
