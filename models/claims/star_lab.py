"""Judging networks of the star graphs (models/worlds/stars.py): what each kind of them writes into the gaps of a way.

A text begins with <|endoftext|>. A way as masks has one cell more than the longest way; what is left over ends in ends.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from models.claims.tale_lab import encoded, written
from models.loops.unmask.insertion import Draft, completed, draft
from models.loops.unmask.loop import Full, Plan, Reveal, fill, moves
from models.worlds import stars
from models.worlds.world import END, MASK, SPECIALS, Doc

CELLS = stars.LONGEST + 1
ALLOWED = range(len(SPECIALS), len(SPECIALS) + len(stars.NAMES))
FORBIDDEN = tuple(id for id in range(len(SPECIALS) + len(stars.WORDS)) if id not in ALLOWED)  # in an answer


def begun(tokenizer, doc: Doc, answer: str = "") -> Draft:
    """What is asked of a document, and what is given of the answer, ___ for each gap."""
    return draft([END, *encoded(tokenizer, doc.prompt)], answer, lambda text: encoded(tokenizer, text))


def masked(text: Draft, masks: int = CELLS) -> list[int]:
    """The text with so many masks in each gap, and ends behind it up to where the network knows an answer to end."""
    found = [token for id, slot in zip(text.ids, text.slots, strict=True) for token in (id, *[MASK] * masks * slot)]
    return [*found, *[END] * (text.first + CELLS - len(found))]


def reveals(model, texts: Sequence[Sequence[int]]) -> Iterator[Reveal]:
    """Masks filled, the surest of a text first, one at a time; all texts have one length and equally many."""
    count = list(texts[0]).count(MASK)
    plan = Plan(moves(count, count, "linear"), Full(model, forbidden=tuple({*FORBIDDEN} - {END})), sampler=None)
    ids = torch.tensor([list(one) for one in texts], device=model.embed_tokens.weight.device)
    return fill(ids, MASK, plan, torch.Generator())


def unmasked(model, texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Every mask filled; what is filled in as an end is left out."""
    made: list[list[int]] = [[] for _ in texts]
    sizes = [(len(one), list(one).count(MASK)) for one in texts]
    for size in sorted(set(sizes)):
        at = [i for i, one in enumerate(sizes) if one == size]
        *_, last = reveals(model, [texts[i] for i in at])
        for i, one in zip(at, last.ids.tolist(), strict=True):
            made[i] = [one[0], *(token for token in one[1:] if token != END)]
    return made


def from_left(model, tokenizer, docs: Sequence[Doc]) -> list[str]:
    """Texts that a causal network writes on from left to right."""
    said = written(model, tokenizer, [doc.prompt for doc in docs], longest=CELLS)
    return [f"{doc.prompt} {one}" for doc, one in zip(docs, said, strict=True)]


def from_inside(model, tokenizer, texts: Sequence[Draft]) -> list[str]:
    """Texts into whose gaps a network inserts what it likes, the likeliest first."""
    return [tokenizer.decode(ids[1:]) for ids in completed(model, texts, CELLS, forbidden=FORBIDDEN)]


def from_masks(model, tokenizer, texts: Sequence[Draft], masks: Sequence[int] = ()) -> list[str]:
    """Texts with so many masks in the gap of each, or as many as the longest way needs, filled in."""
    counts = masks or [CELLS] * len(texts)
    return [tokenizer.decode(ids[1:]) for ids in unmasked(model, list(map(masked, texts, counts)))]
