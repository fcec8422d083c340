"""Star graphs: one way leads to a goal, the judge takes it and nothing else, and where nodes lie shows the arms."""
import numpy as np
import pytest

from models.worlds import stars
from models.worlds.world import SPECIALS, UNKNOWN, drawn, exam

ASKED = "D>B A>C C>D D>E B>F E>G A?G |"


def test_the_judge_takes_the_whole_way_and_nothing_else():
    assert stars.check(f"{ASKED} A C D E G") and stars.check(ASKED.replace(" ", "") + "ACDEG")
    wrong = ("", "A C D B F", "A C D E", "C D E G", "A C D E E G", "A C D E G G", "A D E G", "G E D C A", "A C D E G |")
    assert not any(stars.check(f"{ASKED} {answer}") for answer in wrong)


@pytest.mark.parametrize("even", [False, True])
def test_graphs_are_as_they_are_said_to_be(even):
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        doc = stars.sample(rng, even)
        edges, start, goal = stars.parsed(doc.prompt)
        after = {name: [other for one, other in edges if one == name] for name in stars.NAMES}
        centre, = [name for name, others in after.items() if len(others) > 1]
        lead = len(stars.way(edges, start, centre)) - 1
        ends = [name for _, name in edges if not after[name]]
        lengths = [len(stars.way(edges, centre, end)) - 1 for end in ends]
        assert len(ends) == stars.ARMS and goal in ends and stars.check(doc.text) and len(doc.truth) <= stars.LONGEST
        assert stars.read(doc.text.lower()).truth == doc.truth
        seen |= {(lead, *lengths)}
    leads, arms = {one[0] for one in seen}, {length for one in seen for length in one[1:]}
    assert (leads, arms) == (({0}, {4}) if even else ({1, 2}, {2, 3, 4}))


def test_neither_names_nor_order_tell_the_way():
    rng, firsts, goals = np.random.default_rng(1), [], []
    for _ in range(2000):
        doc = stars.sample(rng, even=True)
        edges, start, _ = stars.parsed(doc.prompt)
        arms = [other for one, other in edges if one == start]
        firsts.append(arms.index(doc.truth[1]))
        goals.append(sorted(arms).index(doc.truth[1]))
    for counts in (np.bincount(firsts), np.bincount(goals)):
        assert np.allclose(counts / 2000, 1 / 3, atol=0.05)


def test_what_is_kept_out_is_the_graph_in_any_order_of_its_edges():
    doc = exam(stars.WORLD, 3, 1)[0]
    edges, start, goal = stars.parsed(doc.prompt)
    other = stars.asked(edges[::-1], start, goal)
    assert other != doc.prompt and sum(map(ord, other)) == sum(map(ord, doc.prompt))
    rng = np.random.default_rng(0)
    assert not any(sum(map(ord, drawn(stars.WORLD, rng).prompt)) % 10 == 0 for _ in range(100))


def test_an_edge_is_one_token_and_a_text_comes_back():
    tok = stars.WORLD.tokenizer()
    ids = tok.encode(f"{ASKED} A C D E G").ids
    assert len(ids) == 6 + 4 + 5 and UNKNOWN not in ids and tok.get_vocab_size() == len(SPECIALS) + len(stars.WORDS)
    assert stars.check(tok.decode(ids))


@pytest.mark.parametrize("text, words", [
    ("Once upon a time.", "A graph is written"), ("A>B B>C A?C", "A graph is written"),
    ("A>B C>B A?B |", "Two edges lead"), ("A>B C>D A?D |", "No way leads"), ("A>B B>A C?B |", "No way leads"),
    ("A>B B>C C>D D>E E>F F>G G>H A?H |", "8 nodes")])
def test_other_texts_are_refused_in_words(text, words):
    with pytest.raises(ValueError, match=words):
        stars.read(text)
    assert not stars.check(text)


def test_every_arm_lies_in_a_row_and_every_edge_leads_one_to_the_right():
    edges, start, _ = stars.parsed(ASKED)
    names, places = stars.drawing(edges)
    at = dict(zip(names, places.tolist()))
    assert all(at[other][0] == at[one][0] + 1 for one, other in edges) and at[start][0] == 0
    assert len({tuple(place) for place in at.values()}) == len(names) == 7
    assert at["B"][1] == at["F"][1] != at["E"][1] == at["G"][1] and at["D"][1] == (at["B"][1] + at["E"][1]) / 2


@pytest.mark.parametrize("text, words", [
    ("A>A B>C B?C |", "run in a circle"), ("A>B B>A C>D C?D |", "run in a circle"), ("A>B A?A |", "to itself"),
    ("A>B C?C |", "to itself"), ("A>B B>Z Y>C A?B |", "A graph is written"),
    ("A>B \U0001f600 A?B |", "A graph is written")])
def test_what_cannot_be_drawn_or_read_whole_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        stars.read(text)
