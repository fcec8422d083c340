"""How text tokens read, from their tokenizer alone: the one place for labels, candidates and ids of what was typed.

    seen = read(tokenizer, "Müller 😀", room)   # a text: ids, labels that join to it, roles of special tokens
    names(tokenizer, ids)                        # ids without a text: candidates of a distribution
    written(tokenizer, ids)                      # ids in a row, as they were generated

A text is divided by its tokens' own bytes and the tokenizer's offsets. What it drops is kept: white space goes to the
token behind it, anything else to the one before; so a vocabulary of lower-case words without spaces joins to the very
text, too. Ids without a text are decoded between two ordinary tokens, because many decoders treat the first or the last
one differently.
models/trace/spelling.py says how a character reads that is split over several tokens.
"""
from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate

from models.trace.spelling import joined, spelled, unspelled
from models.trace.subject import SubjectError

BYTE = re.compile("<0x([0-9A-F]{2})>")  # SentencePiece's name of a byte
CLOSING = (*".,:;?!\n", "<|")  # no space before these where words are only listed
ADDED = "added"  # role of what the tokenizer puts around a text by itself


@dataclass(frozen=True)
class Reading:
    """A text as a tokenizer reads it, N tokens: ids; labels, which join to the text once those of role "added" are left
    out; roles: "", "added", "special" (typed by the visitor) or "unknown" (the vocabulary has no token for it); spans:
    first and last character of each label."""

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    roles: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def before_more(self) -> Reading:
        """The same without what closes a text: something will be written behind it."""
        end = max(i for i, role in enumerate(self.roles) if role != ADDED) + 1
        return Reading(*(part[:end] for part in (self.ids, self.labels, self.roles, self.spans)))


def read(tokenizer, text: str, limit: int | None = None, most: int | None = None) -> Reading:
    """The tokens of a text, or the first `most`; SubjectError when there are none, or more than `limit`."""
    made = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    fitting(len(made["input_ids"]), limit)
    ids, added = made["input_ids"][:most], made["special_tokens_mask"][:most]
    if all(added):
        raise SubjectError("This checkpoint's tokenizer makes no token of this text; please type something else.")
    alone = names(tokenizer, ids)
    spans = shares(text, made["offset_mapping"], added, alone)
    labels = tuple(name if extra else text[a:b] for name, extra, (a, b) in zip(alone, added, spans))
    return Reading(tuple(ids), labels, roles(tokenizer, ids, labels, added), spans)


def fitting(count: int, limit: int | None) -> None:
    """SubjectError where a text has more tokens than there is room for."""
    if limit is not None and limit < 1:
        raise SubjectError("This checkpoint has no room for a text beside what is to be written; please choose a "
                           "smaller length or another checkpoint.")
    if limit is not None and count > limit:
        raise SubjectError(f"This text has {counted(count)}; this checkpoint has room for {limit:,} here. "
                           "Please shorten it.")


def counted(count: int) -> str:
    return f"{count:,} token{'s' * (count != 1)}"


def encode(tokenizer, text: str, limit: int) -> list[int]:
    """Ids of a text that will go on; SubjectError when it has more than `limit` tokens."""
    return list(read(tokenizer, text, limit).before_more().ids)


def room(model) -> int:
    """How many tokens a network was made for. RoBERTa's kin count places from behind the padding's number on."""
    known = getattr(model.config, "max_position_embeddings", None) or 2048
    table = getattr(getattr(getattr(model, "base_model", None), "embeddings", None), "position_embeddings", None)
    behind = getattr(table, "padding_idx", None)
    return known if behind is None else known - behind - 1


def shares(text: str, offsets: Sequence[tuple[int, int]], added: Sequence[int],
           alone: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Which characters each token stands for, so that every character belongs to exactly one: the first that holds a
    part of it. Where a token's own bytes go on with the text they are it; else its offsets say. A blank token that
    was put in front of a word, SentencePiece's own space, stands for none."""
    ends = [0, *accumulate(len(char.encode()) for char in text)]  # bytes before each character
    whole, found, done, last = text.encode(), [], 0, -1
    for (start, end), extra, name in zip(offsets, added, alone):
        if extra:
            found.append((done, done))
            continue
        raw, end = unspelled(name), ends[end]
        at = whole.find(raw, done, max(end, done + len(raw))) if raw else -1
        first = ends[start] if at < 0 else at
        if last >= 0 and first > done:  # dropped: what is no white space belongs to the token before
            done += len(re.match(r"\S*", whole[done:first].decode("utf-8", "ignore"))[0].encode())
            found[last] = (found[last][0], done)
        none = not name.strip() and bool(whole[done:end].decode("utf-8", "ignore").strip())
        stop = at + len(raw) if at >= 0 else done if none else max(done, end)
        last = len(found)
        found.append((done, stop))
        done = stop
    found[last] = (found[last][0], ends[-1])
    return tuple((bisect_left(ends, a), bisect_left(ends, b)) for a, b in found)


def roles(tokenizer, ids: Sequence[int], labels: Sequence[str], added: Sequence[int]) -> tuple[str, ...]:
    """What is not ordinary text among these tokens. The sign for unknown words may be typed, or have other meanings."""
    special, (unknown, sign) = specials(tokenizer), (tokenizer.unk_token_id, tokenizer.unk_token)

    def role(id: int, label: str) -> str:
        strange = id == unknown and label.strip() != sign
        return "unknown" if strange else "special" if id in special else ""
    return tuple(ADDED if extra else role(id, label) for id, label, extra in zip(ids, labels, added))


def opening(tokenizer) -> tuple[int, ...]:
    """What the tokenizer puts in front of every text."""
    found = read(tokenizer, "a")
    return found.ids[: next(i for i, role in enumerate(found.roles) if role != ADDED)]


def specials(tokenizer) -> frozenset[int]:
    """Ids of tokens that are no text, whether they have a role or not."""
    return _vocabulary(tokenizer).special


def names(tokenizer, ids: Iterable[int]) -> tuple[str, ...]:
    """How each token reads between others, spaces included; parts of a character as their bytes."""
    vocabulary = _vocabulary(tokenizer)
    return tuple(vocabulary(int(id)) for id in ids)


def written(tokenizer, ids: Iterable[int]) -> tuple[str, ...]:
    """How tokens read in a row, behind a text."""
    return joined(names(tokenizer, ids))


class _Vocabulary:
    """The names of one tokenizer's tokens."""

    def __init__(self, tokenizer):
        self.tokenizer, self.backend, self.known = tokenizer, tokenizer.backend_tokenizer, {}
        marked = (id for id, token in tokenizer.added_tokens_decoder.items() if token.special)
        self.special = frozenset([*tokenizer.all_special_ids, *marked])
        self.anchor = next((id for id in range(len(tokenizer)) if self._ordinary(id)), None)

    def __call__(self, id: int) -> str:
        if id not in self.known:
            self.known[id] = self._name(id)
        return self.known[id]

    def _ordinary(self, id: int) -> bool:
        text = self._decoded(id)
        return text.isascii() and text.isalpha() and self._decoded(id, id).startswith(text)

    def _decoded(self, *ids: int) -> str:
        return self.backend.decode(list(ids), skip_special_tokens=False)

    def _name(self, id: int) -> str:
        token = self.tokenizer.convert_ids_to_tokens(id)
        if not token:
            return f"<no token {id}>"
        if id in self.special:
            return token
        text = self._behind(id)
        raw = _bytes(token) if "\ufffd" in text else None
        return text if raw is None else spelled(raw)

    def _behind(self, id: int) -> str:
        if self.anchor is None:
            return self._decoded(id)
        before, both = self._decoded(self.anchor), self._decoded(self.anchor, id, self.anchor)
        behind = self._decoded(self.anchor, self.anchor)[len(before):]
        fits = both.startswith(before) and both.endswith(behind)
        found = both[len(before): len(both) - len(behind)] if fits else self._decoded(id)
        return found[1:] if self.backend.decoder is None and found[1:].startswith(CLOSING) else found


@lru_cache(maxsize=16)
def _vocabulary(tokenizer) -> _Vocabulary:
    return _Vocabulary(tokenizer)


def _bytes(token: str) -> bytes | None:
    """The bytes that a token's name stands for, where its decoder cannot write them as characters."""
    if found := BYTE.fullmatch(token):
        return bytes.fromhex(found[1])
    raw = [letters().get(letter) for letter in token]
    return None if None in raw else bytes(raw)


@cache
def letters() -> dict[str, int]:
    """Byte-level BPE's letter for each byte, read backwards: printable bytes stand for themselves, the rest follow."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + i): byte for i, byte in enumerate(rest)}}
