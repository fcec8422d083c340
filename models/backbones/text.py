"""Text tokens as a reader sees them: exact pieces, and ids of what a visitor typed."""
from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from models.trace.subject import SubjectError


def encode(tokenizer, text: str, limit: int) -> list[int]:
    """Token ids of a text; SubjectError when it has more than `limit` tokens."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) > limit:
        raise SubjectError(f"This text has {len(ids):,} tokens; this checkpoint has room for {limit:,} here. "
                           "Please shorten it.")
    return ids


def room(model) -> int:
    """How many tokens a network was made for. RoBERTa's kin count places from behind the padding's number on."""
    known = getattr(model.config, "max_position_embeddings", None) or 2048
    table = getattr(getattr(getattr(model, "base_model", None), "embeddings", None), "position_embeddings", None)
    behind = getattr(table, "padding_idx", None)
    return known if behind is None else known - behind - 1


def pieces(tokenizer, ids: Iterable[int]) -> tuple[str, ...]:
    """The exact text of each token, spaces included; parts of a split character are written as bytes, like <E2 82>."""
    decoder = tokenizer.backend_tokenizer
    return tuple(_piece(tokenizer, decoder, int(i)) for i in ids)


def _piece(tokenizer, decoder, token: int) -> str:
    text = decoder.decode([token], skip_special_tokens=False)
    if "\ufffd" not in text:
        return text
    raw = [letters().get(letter) for letter in tokenizer.convert_ids_to_tokens(token)]
    return text if None in raw else "<" + " ".join(f"{byte:02X}" for byte in raw) + ">"


@cache
def letters() -> dict[str, int]:
    """Byte-level BPE's letter for each byte, read backwards: printable bytes stand for themselves, the rest follow."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + i): byte for i, byte in enumerate(rest)}}
