"""ILM: where and what under one softmax, from texts that closed up; every trap of the paper beside its mutants."""
from collections import Counter

import numpy as np
import pytest
import torch

from kernels import Sampler
from models.claims.star_lab import CELLS, FORBIDDEN, begun, from_inside, from_left, from_masks, masked, unmasked
from models.engine.method import prepare, run
from models.loops.unmask.insertion import NOTHING, inserted, placed
from models.papers.ilm import claim, recipe, rule
from models.papers.ilm.controls import appended, revealed
from models.papers.ilm.method import AR, ILM, MDM, ORDERS, asked, chooser
from models.papers.ilm.network import InsertionLM
from models.papers.ilm.rule import dropped, lesson, pair, slot_first
from models.trace import CODE
from models.trace.subject import SubjectError, from_text
from models.worlds import stars
from models.worlds.world import END, MASK, PAD, exam
from tests import tiny as stand_ins
from tests.traps import as_, caught, learns

PREFIX, ANSWER = [END, 20, 21], [10, 11, 12, 13, 14]
TEXT = from_text("D>B A>C C>D D>E B>F E>G A?G |")
WORDS = stand_ins.star_tokenizer()
pytestmark = pytest.mark.usefixtures("one_thread")


def test_all_that_is_missing_in_a_gap_counts_alike_behind_the_token_before_it():
    """Mutants: the leftmost of a gap alone, the one in its middle, slots of the text before it closed up."""
    stays = np.array([0, 1, 0, 0, 0], bool)
    kept, right = dropped(PREFIX, ANSWER, stays)
    assert kept == [*PREFIX, 11]

    def sums_to_one(targets) -> bool:
        share = Counter({one: n / (~stays).sum() for one, n in Counter(targets).items()})
        return share == {(2, 10): 0.25, (3, 12): 0.25, (3, 13): 0.25, (3, 14): 0.25}

    caught(sums_to_one, right, [(2, 10), (3, 12)], [(2, 10), (3, 13)], [(2, 10), (4, 12), (4, 13), (4, 14)])
    assert dropped(PREFIX, [10, 10], np.zeros(2, bool)) == (PREFIX, [(2, 10), (2, 10)])
    assert dropped(PREFIX, ANSWER, np.ones(5, bool)) == (PREFIX + ANSWER, [])


def test_the_number_that_is_dropped_is_uniform_and_the_prefix_stays():
    """Mutant: every token dropped with one chance, which hardly ever drops all or none."""
    def uniform(drop) -> bool:
        rng = np.random.default_rng(0)
        found = [drop(rng) for _ in range(1200)]
        assert all(kept[:3] == PREFIX for kept, _ in found)
        counts = np.bincount([len(missing) for _, missing in found], minlength=6)
        return bool(np.allclose(counts / 1200, 1 / 6, atol=0.04))

    caught(uniform, lambda rng: lesson(PREFIX, ANSWER, rng), lambda rng: dropped(PREFIX, ANSWER, rng.random(5) < 0.5))


def test_what_was_dropped_leaves_no_trace():
    """The same tokens kept are the same input, whatever is missing. Mutant: a mask where something is."""
    few, many = (dropped(PREFIX, answer, np.array([token in (10, 14) for token in answer]))[0]
                 for answer in ([10, 11, 14], ANSWER))
    with_masks = [*PREFIX, 10, MASK, MASK, MASK, 14]
    caught(lambda texts: len(set(map(tuple, texts))) == 1, [few, many], [few, with_masks])
    arm = prepared()
    batch = arm.batch(0, 0.0)
    assert not (batch["ids"] == MASK).any() and bool((batch["ids"][~batch["there"]] == PAD).all())


def prepared():
    arm = recipe.StarILM(0)
    arm.prepare(None)
    arm.rows = 12
    return arm


def test_slots_are_behind_the_prefix_and_the_kept_answer_alone():
    arm = prepared()
    batch = arm.batch(1, 0.0)
    bar = WORDS.convert_tokens_to_ids(stars.ANSWERS)
    for ids, slots, there, targets in zip(*(batch[name] for name in ("ids", "slots", "there", "targets"))):
        first = ids.tolist().index(bar)
        assert slots.nonzero()[:, 0].tolist() == list(range(first, int(there.sum())))
        real = targets[targets[:, 0] != rule.NOWHERE]
        assert slots[real[:, 0]].all() and not set(real[:, 1].tolist()) & set(FORBIDDEN)


class PerSlot(InsertionLM):
    """Mutant: a softmax for every slot of its own."""

    def told(self, ids, slots, there=None):
        scores, stop = super().told(ids, slots, there)
        return scores.log_softmax(-1).masked_fill(~slots[..., None], float("-inf")), stop


def test_one_softmax_goes_over_all_slots_and_tokens(tiny):
    arm, net = prepared(), tiny.fresh(ILM).eval()
    batch = arm.batch(2, 0.0)
    with torch.no_grad():
        scores, stop = net.told(batch["ids"], batch["slots"], batch["there"])
    joint = scores.flatten(1).log_softmax(1).view_as(scores)
    rows = [[float(one[j, v]) for j, v in row.tolist() if j != rule.NOWHERE]
            for one, row in zip(joint, batch["targets"])]
    wanted = np.mean([-np.mean(row) if row else 0.0 for row in rows])
    ends = torch.nn.functional.cross_entropy(stop, torch.tensor([int(not row) for row in rows]))
    caught(lambda net: np.isclose(float(arm.loss(net, batch, 0.0)[1]["insert"]), wanted, atol=1e-3), net,
           as_(PerSlot, net))
    caught(lambda target: torch.isclose(target, arm.loss(net, batch, 0.0)[1]["stop"], atol=1e-4), ends,
           torch.nn.functional.cross_entropy(stop, torch.tensor([int(bool(row)) for row in rows])))


def test_both_heads_learn_and_the_trained_shape_is_that_of_the_controls(tiny):
    arm = prepared()
    learns(tiny.fresh(ILM), lambda net: arm.loss(net, arm.batch(0, 0.0), 0.0)[0], rate=1e-2)
    net = arm.build()
    names = dict(zip(stars.WORDS, net.embed_tokens.weight[4:]))
    assert torch.equal(names["A>B"], names["A"] + names["B"].roll(64)) and not torch.equal(names["A>B"], names["B>A"])


def test_a_slot_is_taken_by_the_mass_of_all_its_tokens_and_a_pair_by_its_own():
    scores = torch.tensor([[3.0, -9.0, -9.0], [2.5, 2.4, 2.3]])
    greedy = Sampler(0)
    assert pair(scores, greedy) == (0, 0) and slot_first(scores, greedy, greedy) == (1, 0)
    dice = torch.Generator().manual_seed(0)
    drawn = Counter(pair(scores, Sampler(), dice) for _ in range(3000))
    wanted = scores.flatten().softmax(0)
    assert np.allclose([drawn[divmod(i, 3)] / 3000 for i in range(6)], wanted, atol=0.04)
    slots = Counter(slot_first(scores, Sampler(), greedy, dice)[0] for _ in range(3000))
    assert abs(slots[1] / 3000 - float(wanted[3:].sum())) < 0.04


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_runs_and_the_same_seed_writes_the_same(order, tiny):
    job = prepare("ilm", TEXT, {"order": order, "threshold": 0.99}, seed=3)
    text = asked(job)[1]
    tokens = [[put.token for put in inserted(job.model, text, chooser(job), 1.0, 3, FORBIDDEN)] for _ in range(2)]
    assert tokens[0] == tokens[1] and tokens[0][-1] == NOTHING and len(tokens[0]) == 4


def test_the_controls_write_on_the_page_what_the_claim_scores(tiny):
    docs = exam(stars.WORLD, 8, 3)
    texts = [begun(WORDS, doc) for doc in docs]
    masks, causal = tiny.fresh(MDM).eval(), tiny.fresh(AR).eval()
    rows, lines = unmasked(masks, list(map(masked, texts))), from_left(causal, WORDS, docs)
    for text, row, line in zip(texts, rows, lines):
        (order, ids), (places, more) = (placed(text, list(puts)) for puts in (
            revealed(masks, text, CELLS), appended(causal, text, CELLS)))
        assert [ids[one] for one in order] == row
        assert WORDS.convert_ids_to_tokens([more[one] for one in places[text.first:]]) == claim.answered(line)


def test_what_is_scored_is_the_question_and_the_answer_alone(tiny):
    """Mutant: the sign of the beginning, too, whose bar would be taken for that of the answer."""
    doc = exam(stars.WORLD, 8, 1)[0]
    caught(stars.check, doc.text, f"<|endoftext|> {doc.text}")
    for words in (WORDS, stars.WORLD.tokenizer()):
        made = [write(tiny.fresh(of).eval(), words, [begun(words, doc)])[0] for of, write in (
            (ILM, from_inside), (MDM, from_masks))]
        assert all(stars.parsed(text) == stars.parsed(doc.prompt) for text in made)


def test_left_to_right_reads_nothing_behind_the_gap_and_masks_need_a_number(tiny):
    doc = exam(stars.WORLD, 8, 1)[0]
    short, long = (begun(WORDS, doc, answer) for answer in ("A ___", "A ___ B C"))
    tokens = [[put.token for put in appended(tiny.fresh(AR).eval(), text, 3)] for text in (short, long)]
    assert tokens[0] == tokens[1]
    assert [masked(long, count).count(MASK) for count in (1, 4)] == [1, 4]


def test_a_gap_is_right_once_its_nodes_are_in_and_two_masks_off_otherwise():
    rng = np.random.default_rng(0)
    for doc in exam(stars.KINDS["uneven"], 5, 60):
        answer, missing, wrong = claim.hole(doc, rng)
        left, right = (part.split() for part in answer.split("___"))
        assert left and right and missing == len(doc.truth) - len(left) - len(right) >= 1
        assert abs(wrong - missing) == 2 and wrong >= 1
        closed = f"{doc.prompt} {' '.join(doc.truth)}"
        assert stars.check(closed) and claim.answered(closed) == list(doc.truth)


@pytest.mark.parametrize("checkpoint", [ILM, AR, MDM])
def test_nodes_light_up_and_the_text_grows_one_token_at_a_time(checkpoint, tiny):
    traces = run("ilm", TEXT, {"threshold": 0.99}, checkpoint=checkpoint).traces
    graph, text = traces["unmask"], traces["sample"]
    edges, *_ = stars.parsed(TEXT.text)
    assert {(graph.canvas.labels[a], graph.canvas.labels[b]) for a, b in graph.canvas.links} == set(edges)
    assert graph.canvas.directed and graph.canvas.kind == "graph" and len(graph.steps) == len(text.steps)
    for one, other in zip(graph.steps, text.steps):
        assert max(len(one.where("new")), len(other.where("new"))) <= 1 and one.label == other.label
    assert not (text.steps[-1].state == CODE["unknown"]).any(), "all is there in the end"
    assert text.charts[1].ticks == tuple(label.strip() for label in text.canvas.labels[10:])
    mass = [step.fields["slot"] for step in text.steps]
    assert all(np.nansum(row) == pytest.approx(1, abs=2e-3) for row in mass)


def test_a_visitors_own_graph_and_fragments_are_read_and_others_refused(tiny):
    doc, text = asked(prepare("ilm", from_text("a>b b>c a?c | a ___ c")))
    assert doc.truth == ("A", "B", "C") and sum(text.slots) == 1 and len(text.ids) == 9
    for given, words in (("Once upon a time", "A graph is written"), ("A>B C>B A?B |", "Two edges"),
                         ("A>B B>C A?C | A?", "only nodes"), ("A>B B>C A?C | ABABABAB", "7 at most")):
        with pytest.raises(SubjectError, match=words):
            run("ilm", from_text(given))
