"""GraphAdapter.

Every trap of the paper stands here, each with the wrong version that it catches (tests/traps.py).
"""

from models.engine.method import find, offered


def test_the_card_is_the_papers():
    card = find("graphadapter").card
    assert (card.arxiv, card.year, card.tabs) == ("2402.12984", 2024, ("sample", "attend"))


def test_nobody_meets_a_scaffold():
    """Goes with the last placeholder; the first trap takes its place."""
    assert "graphadapter" not in offered()
