"""What a visitor changes in the middle of a run: a token is overwritten, a head switched off, a token kept by force.

A run with interventions is the same run, same seed, same dice, with these changes; so the untouched one stands beside
it. In words (links, the command line) an intervention is numbers with points between them:

    put=3.17.512    from the end of step 3 on, token 17 reads id 512
    off=2.0         head 0 of layer 2 says nothing
    keep=41         token 41 is not pruned

All numbers count from 0, as in a trace; never a text. Several stand behind one another with commas.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from models.trace.params import ParamError

MOST = 16  # of one kind in one run


class Overwrite(NamedTuple):
    """From the end of `step` on, token `at` of the canvas reads `id`. What is written once and from left to right
    goes back to the step that wrote the token, whatever `step` says: nothing behind it stands yet."""

    step: int
    at: int
    id: int


class HeadOff(NamedTuple):
    """What this head says is zero, in every pass."""

    layer: int
    head: int


class Kept(NamedTuple):
    """A token that no layer may drop."""

    at: int


KINDS = {"put": ("overwrites", Overwrite), "off": ("heads_off", HeadOff), "keep": ("kept", Kept)}
TABS = {"overwrites": ("unmask", "sample"), "heads_off": ("attend",), "kept": ("prune",)}


@dataclass(frozen=True)
class Interventions:
    """All changes of one run; false where there is none. Raises ParamError for anything but small whole numbers."""

    overwrites: tuple[Overwrite, ...] = ()
    heads_off: tuple[HeadOff, ...] = ()
    kept: tuple[Kept, ...] = ()

    def __post_init__(self):
        for name, kind in KINDS.values():
            object.__setattr__(self, name, tuple(_checked(kind, one) for one in getattr(self, name)))
            if len(getattr(self, name)) > MOST:
                raise ParamError(f"please make at most {MOST} changes of one kind")

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))

    @property
    def written(self) -> dict[int, int]:
        """Token -> id of the overwrites, for runs that write every token once."""
        return {one.at: one.id for one in self.overwrites}

    def after(self, step: int) -> tuple[Overwrite, ...]:
        """The overwrites at the end of this step."""
        return tuple(one for one in self.overwrites if one.step == step)

    def words(self) -> dict[str, str]:
        """As in a link: kind -> numbers."""
        found = {word: getattr(self, name) for word, (name, _) in KINDS.items()}
        return {word: ",".join(".".join(map(str, one)) for one in given) for word, given in found.items() if given}


NONE = Interventions()
NOTHING: Mapping[int, int] = {}  # no token is overwritten


def reachable(put: Mapping[int, int], start: int, end: int, size: int) -> None:
    """ParamError for an overwritten token that a run from `start` to `end` does not write, or an id beyond its
    vocabulary of `size`."""
    for at, id in put.items():
        if not start <= at < end:
            raise ParamError(f"token {at} is not written in this run, which writes {start} to {end - 1}; please choose "
                             f"one of those")
        if id >= size:
            raise ParamError(f"{id} is not in this model's vocabulary of {size}; please choose another")


def from_words(given: Mapping[str, str]) -> Interventions:
    """The interventions of a link or a command line; ParamError for what cannot be read."""
    found: dict[str, Any] = {KINDS[word][0]: tuple(map(_read, text.split(",")))
                             for word, text in given.items() if word in KINDS}
    return Interventions(**found)


def _read(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise ParamError(f"'{text[:30]}' is no intervention; please write whole numbers with points between them")
    return tuple(map(int, parts))


def _checked(kind: Any, given: Any) -> Any:
    numbers = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31 for n in numbers)
    if not whole or len(numbers) != len(kind._fields):
        raise ParamError(f"a change of this kind is {len(kind._fields)} whole numbers: {', '.join(kind._fields)}")
    return kind(*numbers)
