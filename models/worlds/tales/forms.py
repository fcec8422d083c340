"""Sentences with places to fill, read both ways: written with words in their places, or those words found again."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

MARKS = re.compile(r"<\|[\w-]+\|>|\w+|[^\w\s]")
ENDS = re.compile(r"[^.?!:]+[.?!:]")


def plain(text: str) -> str:
    """A text with one space between its words and signs, however it was written."""
    return " ".join(MARKS.findall(text))


def sentences(text: str) -> list[str]:
    return [found.strip() for found in ENDS.findall(plain(text))]


def upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def fill(form: str, **slots) -> str:
    """A sentence: "{who} sleeps." with who="the fox" is "The fox sleeps."."""
    return upper(form.format(**slots))


@cache
def _pattern(form: str) -> re.Pattern:
    """Of a form in plain writing; a place that comes twice holds the same words."""
    pieces, seen, found = re.split(r"{(\w+)}", upper(form)), set(), []
    for at, piece in enumerate(pieces):
        if at % 2:
            found.append(f"(?P={piece})" if piece in seen else rf"(?P<{piece}>[\w ,]+?)")
            seen.add(piece)
        elif piece.strip():
            found.append(re.escape(plain(piece)))
    return re.compile(r"\ ".join(found))


def match(form: str, sentence: str) -> dict[str, str] | None:
    """What stands in the places of a sentence (in plain writing), None where it has another form."""
    found = _pattern(form).fullmatch(sentence)
    return {name: lower(value) for name, value in found.groupdict().items()} if found else None


def lower(phrase: str) -> str:
    """A phrase as it is said inside a sentence: only an article's capital letter is a sentence's own."""
    return re.sub(r"^(The|An?|In|On|At|By|Under)\b", lambda found: found[0].lower(), phrase)


def recognised(forms: Mapping[str, Sequence[str]], sentence: str) -> list[tuple[str, dict[str, str]]]:
    """(kind, what stands in its places) of every form that a sentence has."""
    return [(kind, found) for kind, group in forms.items() for form in group if (found := match(form, sentence))]


def one(rng: np.random.Generator, items: Sequence):
    return items[int(rng.integers(len(items)))]


def some(rng: np.random.Generator, items: Sequence, count: int) -> list:
    """Different ones, in random order."""
    return [items[int(i)] for i in rng.permutation(len(items))[:count]]


def listed(items: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


class Cloze(NamedTuple):
    """A text that stops before a word, the words that are right there, and the kind of fact."""

    prompt: str
    right: tuple[str, ...]
    kind: str


def cloze(form: str, at: str, right: Sequence[str], kind: str, **slots) -> Cloze:
    """A form cut off at its last place called `at`, behind the article of what is right there."""
    before = fill(form.rpartition(f"{{{at}}}")[0], **slots).strip()
    article = "the " if right[0].startswith("the ") else ""
    prompt = f"{before} {article.title() if before.endswith('?') else article}".strip()
    return Cloze(prompt, tuple(one_.removeprefix(article).split()[0] for one_ in right), kind)
