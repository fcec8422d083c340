"""ICN: a query that moves, keys that stay; every trap of the paper beside its mutants."""
import numpy as np
import pytest
import torch

from models.engine.method import prepare, run, twin
from models.papers.icn.keys import clusters, gap, keys, main, query, shuffled
from models.papers.icn.method import Params, category_of
from models.papers.icn.navigation import ListedItem, Navigator
from models.trace.subject import SubjectError, from_text
from models.worlds.tales import lists
from tests import tiny as stand_ins
from tests.traps import caught

OPENING = lists.opening("in the cellar")


@pytest.fixture
def walk():
    return Navigator(stand_ins.bundle("tale-ar-1"), OPENING)


def test_the_query_held_against_the_keys_is_the_models_own_logits(walk):
    ids = walk.opening
    model = walk.model
    with torch.inference_mode():
        wanted = model(torch.tensor([ids])).logits[0, -1].float()
        early = model.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-2][0, -1].float()
    caught(lambda h: torch.allclose(keys(model) @ h, wanted, atol=1e-3), query(model, ids), early,
           query(model, ids[:-1]))


def test_the_query_moves_and_no_logit_is_changed_by_hand(walk):
    rounds = list(walk.rounds(Params(rounds=3)))
    still = list(walk.rounds(Params(rounds=3, navigate=False)))

    def moves(found) -> bool:
        return not torch.allclose(found[0].query, found[2].query, atol=1e-3)
    caught(moves, rounds, still)
    for one in rounds:  # a penalty on words that were taken would show here
        torch.testing.assert_close(one.logits, walk.keys @ query(walk.model, one.context))
    assert rounds[2].context == walk.context([item for one in rounds[:2] for item in one.found])
    assert all(one.context == walk.opening for one in still)


def test_no_first_word_is_taken_twice_and_each_round_takes_the_likeliest_left(walk):
    rounds = list(walk.rounds(Params(rounds=4)))
    firsts = [item.ids[0] for one in rounds for item in one.found]
    assert len(set(firsts)) == len(firsts) == 20 and not set(firsts) & set(walk.special)
    for number, one in enumerate(rounds):
        before = set(firsts[: 5 * number])
        caught(lambda taken, one=one, before=before: taken == walk.ranked(one.logits, before, 5),
               [item.ids[0] for item in one.found], walk.ranked(one.logits, before, 6)[1:])


def test_items_are_completed_without_the_list_unless_asked(walk):
    items = [ListedItem(tuple(walk.spelled(name)), 1, 0.0) for name in ("apple", "clay jar", "beer", "bean", "milk")]
    seen = []

    def completed(context, firsts):
        seen.append(list(context))
        return Navigator.completed(walk, context, firsts)
    walk.completed = completed
    list(walk.rounds(Params(rounds=2)))
    caught(lambda behind: all(one == walk.opening for one in behind), seen, [walk.context(items)])
    seen.clear()
    list(walk.rounds(Params(rounds=2, listed=True)))
    assert seen[0] == walk.opening and len(seen[1]) > len(walk.opening)


def test_what_is_compared_has_the_same_rank():
    """Near words are right less often only because they rank lower: no gap at the same rank."""
    right = np.array([1.0] * 10 + [0.0] * 10)
    of_main = np.array([False] * 9 + [True] + [True] * 9 + [False])
    caught(lambda f: f(right, of_main) == pytest.approx(0.0), gap,
           lambda hit, near: hit[~near].mean() - hit[near].mean())
    assert gap(np.array([1.0, 0.0] * 5), np.array([False, True] * 5)) == 1.0
    assert np.isnan(gap(right, np.zeros(20, bool)))


def test_near_is_to_share_a_cluster_with_one_of_the_first():
    found = np.array([0, 0, 1, 1, 2])
    caught(lambda of: of([0, 1, 2, 3, 4], found, 1).tolist() == [True, False, False, False], main,
           lambda ranked, of, top: ~main(ranked, of, top), lambda ranked, of, top: main(ranked, of, top + 2))
    assert sorted(shuffled(found).tolist()) == sorted(found.tolist())


def test_clusters_find_what_lies_together():
    dice = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(4, 8, generator=dice)
    rows = centres.repeat_interleave(6, 0) + 0.1 * torch.randn(24, 8, generator=dice)
    caught(lambda labels: all(len(set(labels[6 * i : 6 * i + 6])) == 1 for i in range(4)) and len(set(labels)) == 4,
           clusters(rows, 4).tolist(), shuffled(clusters(rows, 4)).tolist())


def test_right_is_a_gold_member_that_was_not_named_before(tiny):
    trace = run("icn", from_text(OPENING), {"rounds": 3}).traces["sample"]
    gold, text = lists.MEMBERS["in the cellar"], trace.canvas.text
    named = [one.strip() for one in text.split(":")[1].split(",") if one.strip()]
    assert trace.facts["tried"].value == 15 >= len({one for one in named if one in gold}) == trace.facts["right"].value
    assert len(trace.steps) == 4 and trace.steps[1].distributions["ranking now"].chosen[0] >= 0


def test_the_twin_walks_down_one_ranking_and_other_texts_are_refused(tiny):
    assert twin(prepare("icn", from_text(OPENING))).params.navigate is False
    with pytest.raises(SubjectError, match="opening of a list"):
        category_of("Anna is in the kitchen.")
    attend = run("icn", from_text(OPENING), {"rounds": 2}).traces["attend"]
    assert "of its attention" in attend.sentence
