"""DMT-JEPA.

Every trap of the paper stands here, each with the wrong version that it catches (tests/traps.py).
"""

from models.engine.method import find, offered


def test_the_card_is_the_papers():
    card = find("dmt-jepa").card
    assert (card.arxiv, card.year, card.tabs) == ("2405.17995", 2024, ("mask", "attend"))


def test_nobody_meets_a_scaffold():
    """Goes with the last placeholder; the first trap takes its place."""
    assert "dmt-jepa" not in offered()
