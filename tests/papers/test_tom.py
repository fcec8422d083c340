"""Theory-of-Mind stories: what is right, what temperature can change, and infills that change nothing."""
import numpy as np
import pytest
import torch

from models.engine.method import prepare, run, twin
from models.engine.statistics import logistic
from models.papers.tom import claim_smollm2 as others
from models.papers.tom import exams, materials
from models.papers.tom import recipe as recipes
from models.papers.tom.materials import BeliefItem, exam, item_of, right, unread, with_infills, words
from models.papers.tom.method import FAR, NEW, OLD
from models.papers.tom.record import CURVE, DECIDES, INFILLS, StoryPage, chances
from models.trace.subject import SubjectError, from_text
from models.worlds import tales
from models.worlds.tales import beliefs
from models.worlds.world import END, held_out
from tests import tiny as stand_ins
from tests.traps import caught, learns

TOK = tales.WORLD.tokenizer()
STORY = ("Anna and Ben are in the kitchen. The ball is in the basket. Anna leaves the kitchen. "
         "Ben moves the ball to the drawer. Where will Anna look for the ball?")


@pytest.fixture(scope="module")
def asked():
    return exam(5, 4)


def flat(asked) -> list[BeliefItem]:
    return [item for some in asked for item in some]


def test_half_of_each_order_is_answered_by_where_it_really_is(asked):
    def balanced(items) -> bool:
        return all(np.mean([item.own == item.answer for item in items if item.order == order]) == 0.5
                   for order in range(3)) and all(item.first != item.own for item in items)

    rng = np.random.default_rng(0)
    drawn = [item_of(" ".join(doc.pieces[:2])) for doc in (beliefs.sample(rng, infills=0) for _ in range(24))]
    caught(balanced, flat(asked), drawn)
    assert [item.order for item in flat(asked)] == [0, 1, 2] * 4


def test_the_answer_is_the_trackers_and_says_what_the_question_asks(asked):
    for item in flat(asked):
        assert beliefs.check(f"{item.prompt()} {item.answer}.") and item_of(item.prompt()) == item
    caught(lambda item: beliefs.check(f"{item.prompt()} {item.answer}."), item_of(STORY), BeliefItem(
        **{**vars(item_of(STORY)), "answer": "drawer"}))  # the mutant answers with what it knows itself


def test_infills_change_no_answer_to_any_question(asked):
    def alike(told, item) -> bool:
        before, after = (beliefs.tracked(" ".join(one))[0] for one in (item.told, told))
        return all(before.answer(*one) == after.answer(*one) for one in beliefs.askable(before))

    for item in flat(asked):
        assert alike(with_infills(item, 8, 3), item) and len(with_infills(item, 8, 3)) == len(item.told) + 8
    item = item_of(STORY)
    mutant = [*item.told, "Anna comes back to the kitchen.", "Anna moves the ball to the box."]
    caught(lambda told: alike(told, item), with_infills(item, 4, 0), mutant)


def test_nothing_that_is_asked_was_read_in_training(asked):
    def kept_out(fill) -> bool:
        told = [(item, ' '.join(fill(item, level))) for item in flat(asked) for level in (0, 4)]
        return all(held_out(f"{text} {item.question}") for item, text in told)

    rng = np.random.default_rng(1)
    caught(kept_out, lambda item, level: unread(item, level, 3), lambda item, level: beliefs.filled(
        rng, item.told, level))
    with pytest.raises(ValueError, match="one infill"):
        unread(flat(asked)[0], 1, 3)


def test_no_temperature_changes_what_is_likeliest_only_what_is_drawn(asked):
    items, dice = flat(asked), torch.Generator().manual_seed(0)
    logits = torch.randn(len(items), TOK.get_vocab_size(), generator=dice)
    wanted = words(TOK, [item.answer for item in items])
    logits[range(6), wanted[:6]] += 9
    def drawn(tok, rows, items):
        found = torch.multinomial(rows.softmax(-1), 1, generator=dice)[:, 0]
        return (found == wanted).numpy().astype(float)
    caught(lambda f: all(np.array_equal(f(TOK, logits / t, items), f(TOK, logits, items)) for t in (0.01, 0.5, 2.0)),
           right, drawn)
    word = int(wanted[0])
    expected, entropy = zip(*(chances(logits[0], word, t) for t in (0.01, 0.5, 1.0, 2.0)), strict=True)
    assert list(entropy) == sorted(entropy) and expected[0] > 0.999 > expected[-1]
    exact = torch.softmax(logits[0] / 2.0, 0)[word].item()
    caught(lambda t: chances(logits[0], word, t)[0] == pytest.approx(exact, rel=1e-4), 2.0, 0.5)


def test_an_answer_of_several_tokens_is_refused_and_not_scored_by_its_first():
    assert TOK.id_to_token(int(words(TOK, ["basket"])[0])) == "basket"
    with pytest.raises(ValueError, match="more than one token"):
        words(TOK, ["straw basket"])


def test_both_arms_read_the_same_stories_and_questions_with_other_infills():
    near, far = ([recipes.lesson(np.random.default_rng(seed), kind.infills).pieces for seed in range(6)]
                 for kind in (recipes.TaleGPT, recipes.TaleGPTFar))

    def bare(story: str) -> str:
        for one in beliefs.INFILLS:
            story = story.replace(f" {one}", "")
        return story

    caught(lambda strip: [strip(one[0]) for one in near] == [strip(one[0]) for one in far], bare, str)
    assert [one[1:] for one in near] == [one[1:] for one in far] and all(len(one) > 12 for one in near)
    counts = [[sum(one[0].count(said) for said in beliefs.INFILLS) for one in arm] for arm in (near, far)]
    assert max(counts[0]) <= 2 < max(counts[1]) <= 8
    for pieces in (*near, *far):
        assert tales.check(" ".join(pieces)) and not any(held_out(f"{pieces[0]} {one}") for one in pieces[1::2])


def test_answers_count_and_a_network_learns_them():
    made = recipes.TaleGPT(0)
    made.rows = 2
    made.prepare("")
    batch, model = made.batch(0, 0.0), stand_ins.fresh(OLD)
    learns(model, lambda net: made.loss(net, batch, 0.0)[0], steps=8, below=0.9)
    heavy = [TOK.id_to_token(int(one)) for one in batch["ids"][batch["weight"] > 1]]
    assert set(heavy) <= {"In", "the", ".", *beliefs.CONTAINERS} and heavy.count("In") >= 12


def test_the_signs_are_those_of_a_known_regression():
    levels, truth = (0, 2, 8), np.array([2.0, -0.2, -0.7, 0.5])
    design = exams.cells(3, levels, 2)
    shares = 1 / (1 + np.exp(-design @ truth))
    assert logistic(shares, design) == pytest.approx(truth, abs=0.02)
    rows = np.tile(shares, (5, 1))
    caught(lambda which: exams.coefficient(which, levels, 2)(rows) == pytest.approx(-0.2, abs=0.01),
           exams.INFILLS, exams.ORDER, exams.MODEL)
    one = rows[:, :9]
    assert exams.slope_apart(levels)(np.hstack([one, one])) == 0
    assert exams.slope_apart(levels)(np.hstack([one, one[:, ::-1]])) < 0


def test_answerers_without_a_mind_get_half_of_it(asked):
    found = exams.trivial(asked)
    caught(lambda name: found[name].mean() == 0.5, "where it really is", "the usual word")
    assert found["where it was first"].mean() < 1


def test_a_record_tells_what_decides_and_who_believes_what(tiny):
    result = run("tom", from_text(STORY), {"infills": 2, "samples": 40})
    trace, attend = result.traces["sample"], result.traces["attend"]
    assert all(step.where("accepted", "refused").tolist() == [trace.canvas.size - 1] for step in trace.steps)
    believed = next(chart for chart in trace.charts if chart.kind == "matrix")
    last = dict(zip(believed.rows, next(iter(believed.series.values()))[:, -1].tolist(), strict=True))
    assert last == {"really": 2, "Anna": 1, "Ben": 2, "Anna of Ben": 1, "Ben of Anna": 1}
    page = StoryPage(prepare("tom").tokenizer, item_of(STORY), item_of(STORY).told)
    kinds = page.groups()
    said = "".join(np.array(page.labels)[kinds[DECIDES]])
    caught(lambda text: text.strip() == "The ball is in the basket.", said, "Ben moves the ball to the drawer.")
    assert INFILLS not in kinds and sum(of.sum() for of in kinds.values()) == len(page.ids)
    assert attend.canvas.size == trace.canvas.size - 1 and attend.facts["infills"].value > 0
    assert set(trace.steps[0].distributions) == set(trace.steps[-1].distributions) and len(CURVE) == 10


def test_temperature_is_a_view_and_draws_follow_it(tiny):
    cold, hot = (run("tom", from_text(STORY), {"temperature": t}).traces["sample"] for t in (0.01, 2.0))
    assert cold.facts["right"] == hot.facts["right"] and cold.facts["entropy"].value < hot.facts["entropy"].value
    assert all(one.logits is not None for one in cold.steps[-1].distributions.values())
    assert twin(prepare("tom")).bundle.name == OLD and prepare("tom").method.checkpoints[:3] == (NEW, OLD, FAR)


@pytest.mark.parametrize(("text", "about"), [
    ("Anna sleeps. Where is the ball?", "Anna sleeps"), ("Anna and Ben are in the kitchen.", "one question"),
    (STORY.replace("Ben moves", "Anna moves"), "in the room"), (STORY.replace("Anna look", "Zoe look"), "people"),
    (STORY.replace("for the ball", "for the doll"), "the thing")])
def test_a_story_that_nobody_can_judge_is_refused(tiny, text, about):
    with pytest.raises(SubjectError, match=about):
        run("tom", from_text(text))


def test_a_story_of_another_world_is_told_anew_and_only_where_both_agree():
    row = {"story": "Zo entered the cave.\nUl entered the cave.\nUl likes the rain\nThe gem is in the red_cup.\nZo "
                    "exited the cave.\nUl moved the gem to the blue_cup.", "question":
           "Where will Zo look for the gem?", "answer": "red_cup", "question_type": "first_order_0_tom"}
    item = others.retold(row, np.random.default_rng(0))
    assert item.order == 1 and item.answer != item.own and len(item.told) == 4
    assert not {"Zo", "Ul", "cave", "gem", "cup"} & set(item.prompt().split())
    caught(lambda answer: others.retold({**row, "answer": answer}, np.random.default_rng(0)) is not None,
           "red_cup", "blue_cup", "green_cup")
    asked = others.tomi_question(row)
    assert (asked.choices, asked.right, asked.own, asked.first) == ((" red cup", " blue cup"), 0, 1, 0)


def test_answers_of_several_tokens_are_weighed_whole():
    bundle = stand_ins.bundle(NEW)
    rows = {one: [END, *bundle.tokenizer.encode(f"The ball is in the {one}")] for one in ("straw basket", "straw box")}
    nats = {one: -float(bundle.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)[range(5, 7), ids[6:]].sum())
            for one, ids in rows.items()}
    both = [f" {one}" for one in sorted(nats, key=nats.get)]
    likelier = others.PlaceQuestion("The ball is in the", tuple(reversed(both)), 1, 0, 0)
    swapped = others.PlaceQuestion("The ball is in the", tuple(both), 1, 0, 0)  # their first token is the same
    caught(lambda one: others.chosen(bundle, [one])[0] == 1, likelier, swapped)


def test_slot_and_levels_are_the_exams(asked):
    assert materials.LEVELS == (0, 2, 4, 8) and flat(asked)[0].prompt().endswith("? In the")
