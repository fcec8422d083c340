"""Streams of records: edges are those that the text says, nodes stay as they are, and a critic is no checker."""
from dataclasses import replace

import numpy as np
import pytest

from models.worlds import dialogues, trees
from models.worlds.dialogues import Diagram, dialogue, read
from tests.traps import caught

ASKED = trees.read("(12 + 9) - 3 * 9")  # 1 - 7 = 14
FIRST = "@node #1 proposer @edge #0 #1 use b: 3 * 9 = 7"
FINE = "@node #2 critic @edge #1 #2 critique 3 * 9 = 7 fine @status #1 validated"
SLIP = "@node #3 proposer @edge #0 #3 use a: 12 + 9 = 3"
FOUND = "@node #4 critic @edge #3 #4 critique 12 + 9 = 1 ones @status #3 invalidated"
MENDED = "@node #5 proposer @edge #4 #5 refine @edge #0 #5 use a: 12 + 9 = 1"
AGREED = "@node #6 critic @edge #5 #6 critique 12 + 9 = 1 fine @status #5 validated"
WHOLE = "@node #7 proposer @edge #5 #7 use @edge #1 #7 use c: 1 - 7 = 14"
LAST = "@node #8 critic @edge #7 #8 critique 1 - 7 = 14 fine @status #7 validated"
SUM = "@node #9 summarizer @edge #1 #9 use @edge #5 #9 use @edge #7 #9 use answer 14"
TEXT = " ".join((FIRST, FINE, SLIP, FOUND, MENDED, AGREED, WHOLE, LAST, SUM))
STRAYED = " ".join((FIRST, FINE, SLIP, FOUND.replace("ones", "fine").replace("invalidated", "validated"),
                    *(one.replace("#5", "#3") for one in (WHOLE, LAST, SUM))))  # the slip says 3, the next step reads 1


def links(diagram: Diagram) -> list[tuple[int, int]]:
    return [(one, node.id) for node in diagram.nodes.values() for one in node.parents()]


def test_edges_are_those_that_the_text_says():
    text = " ".join((FIRST, FINE, SLIP.replace("@edge #0", "@edge #1"), FOUND))

    def in_order(asked, words):
        made = read(asked, words)
        made.nodes = {id: replace(node, edges=((id - 1, "use"),) if id else ()) for id, node in made.nodes.items()}
        return made

    def to_the_problem(asked, words):
        return read(asked, [word.replace("#1", "#0") if at > 24 else word for at, word in enumerate(words)])
    caught(lambda f: links(f(ASKED, text.split())) == [(0, 1), (1, 2), (1, 3), (3, 4)], read, in_order, to_the_problem)


@pytest.mark.parametrize("edge", ["#3 #3", "#4 #3", "#9 #3", "#0 #2"])
def test_an_edge_that_does_not_come_from_an_older_node_is_counted_and_not_drawn(edge):
    found = read(ASKED, " ".join((FIRST, FINE, SLIP.replace("#0 #3", edge))).split())
    assert len(found.errors) == 1 and found.nodes[3].edges == () and not read(ASKED, TEXT.split()).errors


def test_a_node_stays_as_it_was_read_and_a_refinement_is_a_new_one():
    class InPlace(Diagram):
        def add(self, text, words=range(0)):
            kept = self.nodes
            self.nodes = {0: kept[0]}
            super().add(text, words)
            self.nodes = {**kept, **self.nodes}

    def kept(kind):
        made = kind(ASKED)
        for record in (FIRST, FINE, FIRST.replace("= 7", "= 9")):
            made.add(record)
        return made.nodes[1].said == "b: 3 * 9 = 7" and len(made.errors) == 1
    caught(kept, Diagram, InPlace)
    rng = np.random.default_rng(1)
    for doc in (dialogue(rng) for _ in range(60)):
        made = read(doc.truth, doc.text[len(doc.prompt) + 1 :].split())
        refuted = [one.status[0] for one in made.verdicts if one.status[1] == "invalidated"]
        mended = {made.nodes[node.parents("refine")[0]].status[0]: node for node in made.propositions
                  if node.parents("refine")}
        assert not made.errors and not made.unsound and sorted(mended) == sorted(refuted)
        assert all(a < b for a, b in links(made))
        assert all(mended[one].letter == made.nodes[one].letter for one in refuted)


def test_the_latest_verdict_counts_and_a_summary_of_refuted_nodes_is_told():
    again = "@node #3 critic @edge #1 #3 critique tens @status #1 invalidated"
    made = read(ASKED, " ".join((FIRST, FINE, again, "@node #4 summarizer @edge #1 #4 use answer 7")).split())

    def ever(id):
        return any(node.status == (id, "validated") for node in made.verdicts)
    caught(lambda holds: not holds(1), made.holds, ever)
    assert made.unsound == [1] and made.answer == 7 and not made.holds(0)
    assert not made.right(made.nodes[3]) and made.right(made.nodes[2])


def test_a_step_that_works_on_other_numbers_than_its_parents_say_strays():
    """Mutants: what the tree makes in place of what parents say, and any wrong result."""
    made = read(ASKED, STRAYED.split())

    def counted(strays):
        return [strays(one) for one in made.propositions] == [False, False, True]
    caught(counted, made.strays, lambda one: not one.said.endswith(f"= {ASKED.values[one.letter]}"),
           lambda one: not made.true(one))
    assert made.answer == ASKED.answer and not made.errors


def test_reductions_without_records_are_a_chain_that_goes_on_from_a_slip():
    made = read(ASKED, "a: 12 + 9 = 2 b: 3 * 9 = 7 c: 2 - 7 = 15 answer 15".split())
    assert links(made) == [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)] and made.answer == 15
    assert [made.true(node) for node in made.propositions] == [False, True, True] and not made.verdicts


def test_a_planted_result_is_wrong_and_a_word_of_criticism_says_where():
    assert all(one != trees.apply(4, sign, 5) for sign in "+-*" for one in dialogues.slips(4, sign, 5))
    right = (4, "*", 5, 0)
    said = {"fine": right, "left": (6, "*", 5, 10), "right": (4, "*", 6, 4), "ones": (4, "*", 5, 1),
            "tens": (4, "*", 5, 10), "both": (4, "*", 5, 19)}
    assert {word: dialogues.criticism(one, right) for word, one in said.items()} == {word: word for word in said}


@pytest.mark.parametrize("words", [
    "", "a: 1 + 1", "@node", "@node #1", FIRST.replace("#1", "#25"), FIRST.replace("proposer", "critic"), f"; {FIRST}",
    FINE, FIRST.replace("@edge #0", "@edge #9"), "@node #1 critic @edge #0 #1 critique fine @status #0 validated"])
def test_what_cannot_be_read_is_an_error_and_no_traceback(words):
    made = read(ASKED, words.split())
    assert bool(made.errors) == ("@" in words) and not made.verdicts and made.answer is None and made.unsound == []
