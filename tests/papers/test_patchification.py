"""Patchification scaling.

Every trap of the paper stands here, each with the wrong version that it catches (tests/traps.py).
"""

from models.engine.method import find, offered


def test_the_card_is_the_papers():
    card = find("patchification").card
    assert (card.arxiv, card.year, card.tabs) == ("2502.03738", 2025, ("prune", "attend"))


def test_nobody_meets_a_scaffold():
    """Goes with the last placeholder; the first trap takes its place."""
    assert "patchification" not in offered()
