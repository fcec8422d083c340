"""What procedural worlds have in common: documents whose answers a program judges, a vocabulary of whole words, and
what is kept out of training.

A world is made of a generator and a judge:

    WORLD = World(words=WORDS, sample=sample, check=check)
    doc = drawn(WORLD, rng, held_out=False)      a document to train on
    exam(WORLD, seed=11, count=200)              others, none of which training draws
    WORLD.check(doc.prompt + " 42.")             whether this continuation is right

numpy only; a tokenizer is made where one is asked for.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

SPECIALS = ("<|endoftext|>", "<|mask|>", "<|pad|>", "<|unk|>")  # ids 0 to 3, as in the text checkpoints
END, MASK, PAD, UNKNOWN = range(4)
KEPT = 10  # one document in so many is kept out of training
TRIES = 2000  # for each document that is asked for
Made = TypeVar("Made")


@dataclass(frozen=True)
class Doc:
    """A document in pieces of text, and which of them are learned (the others are told). truth: for the judge."""

    pieces: tuple[str, ...]
    learned: tuple[bool, ...]
    truth: Any = None

    @property
    def text(self) -> str:
        return " ".join(self.pieces)

    @property
    def prompt(self) -> str:
        """What stands before the first learned piece."""
        return " ".join(self.pieces[: self.learned.index(True)] if True in self.learned else self.pieces)


@dataclass(frozen=True)
class World:
    """words: its vocabulary without the special tokens. sample: a document. check: whether a text (prompt and
    continuation) is right. read: a document from a visitor's own words, with a sentence where that cannot be. split:
    how a text falls into words, a key of SPLITS. kind: of the subject on the page. examples: texts to begin with."""

    words: tuple[str, ...]
    sample: Callable[[np.random.Generator], Doc]
    check: Callable[[str], bool]
    read: Callable[[str], Doc] | None = None
    split: str = "words"
    kind: str = "text"
    examples: tuple[str, ...] = ()

    def tokenizer(self):
        return word_tokenizer(self.words, self.split)


def word_tokenizer(words: Iterable[str], split: str = "words"):
    """One token per word, the special ones first (a tokenizers.Tokenizer)."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    known = [*SPECIALS, *words]
    tok = Tokenizer(WordLevel({word: number for number, word in enumerate(known)}, unk_token=SPECIALS[UNKNOWN]))
    tok.pre_tokenizer, decoder = SPLITS[split]()
    if decoder is not None:
        tok.decoder = decoder
    tok.add_special_tokens([word for word in known if word.startswith("<|")])
    return tok


def _spaces():
    """At spaces alone: punctuation needs spaces around it."""
    from tokenizers.pre_tokenizers import WhitespaceSplit
    return WhitespaceSplit(), None


def _words():
    """At spaces and around punctuation."""
    from tokenizers.pre_tokenizers import Whitespace
    return Whitespace(), None


def _signs():
    """Every digit and sign alone, letters together; spaces are ignored, and written back for the reader."""
    from tokenizers import Regex, decoders
    from tokenizers.pre_tokenizers import Sequence, Split
    written = [decoders.Replace(word, f"{word} ") for word in (",", ".", "answer")]
    return Sequence([Split(Regex(r"\s+"), "removed"), Split(Regex("[a-z]+|[^a-z]"), "isolated")]), decoders.Sequence(
        [*written, decoders.Fuse()])


def _tale():
    """Words and single signs; written back with spaces as in a book: before a word or an opening bracket."""
    from tokenizers import Regex, decoders
    from tokenizers.pre_tokenizers import Split
    spaced = decoders.Sequence([decoders.Replace(Regex(r"^(?=[^.,?!:;)])"), " "), decoders.Fuse(),
                                decoders.Replace("( ", "("), decoders.Strip(" ", 1, 0)])
    return Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True), spaced


def _letters():
    """Single letters, arrows from one to another, question marks and bars."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split
    return Split(Regex("[A-Z]>[A-Z]|[A-Z?|]"), "removed", invert=True), None


SPLITS = {"spaces": _spaces, "words": _words, "signs": _signs, "tale": _tale, "letters": _letters}


def held_out(text: str) -> bool:
    """Whether a document that begins so is kept out of training: a rule that needs no list of them."""
    return sum(map(ord, text)) % KEPT == 0


def drawn(world: World, rng: np.random.Generator, held_out: bool = False) -> Doc:
    """A document to train on, or one that is kept out."""
    while True:
        doc = world.sample(rng)
        if is_held_out(doc) == held_out:
            return doc


def is_held_out(doc: Doc) -> bool:
    return held_out(doc.prompt)


def exam(world: World, seed: int, count: int, without: Iterable[str] = ()) -> list[Doc]:
    """Documents that training never draws, each another one; without: prompts that are not asked either."""
    rng, known = np.random.default_rng(seed), set(without)

    def new(doc: Doc) -> bool:
        fresh = is_held_out(doc) and doc.prompt not in known
        known.add(doc.prompt)
        return fresh

    return sifted(lambda number: world.sample(rng), count, new)


def sifted(make: Callable[[int], Made], count: int, allowed: Callable[[Made], Any]) -> list[Made]:
    """The first `count` of what `make` makes that are allowed; it is told how many there are already. ValueError where
    the world has not so many."""
    found: list[Made] = []
    for _ in range(TRIES * count):
        if len(found) == count:
            break
        if allowed(made := make(len(found))):
            found.append(made)
    if len(found) < count:
        raise ValueError(f"this world has hardly {count} of these: {len(found)} in {TRIES * count} tries")
    return found
