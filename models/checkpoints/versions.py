"""Which checkpoint took another's place. A shipped card may say `"replaces": ["text-mdm-1"]`: once that folder is gone,
its name opens the new one in old links, snippets and scripts, and the page says so."""

from __future__ import annotations

from collections.abc import Mapping


def replaced(cards: Mapping[str, Mapping]) -> dict[str, str]:
    """Old name -> the checkpoint that stands for it now, of the names that no longer have a card."""
    return {old: new for new, card in cards.items() for old in _names(card) if old not in cards}


def current(name: str, cards: Mapping[str, Mapping]) -> str:
    """The name that a checkpoint is known by now."""
    return replaced(cards).get(name, name)


def sentence(name: str, cards: Mapping[str, Mapping]) -> str:
    """What the page says of a checkpoint that is gone; "" of any other."""
    new = current(name, cards)
    return f"{name} was replaced by {new}" if new != name else ""


def _names(card: Mapping) -> list[str]:
    found = card.get("replaces", [])
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
