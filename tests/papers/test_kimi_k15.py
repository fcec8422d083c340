"""Kimi k1.5: worth within a group, the squared log-ratio of whole answers, iterations that begin anew, answers that are
carried on; every trap beside its mutants."""
import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels import Sampler
from models.engine.method import prepare, run, twin
from models.loops.sample.cached_lm import answer_logp
from models.loops.sample.rollouts import Trial
from models.papers.kimi_k15 import claim
from models.papers.kimi_k15 import recipe as recipes
from models.papers.kimi_k15.arms import SFT
from models.papers.kimi_k15.method import PuzzleReader, grouped, rewarded, stepped
from models.papers.kimi_k15.rule import length_bonus, reward, surrogate, worth
from models.trace.subject import SubjectError, from_text
from models.worlds import targets
from models.worlds.world import END, PAD, exam
from tests.traps import caught
from training.preferences import above_group

ASKED = "7 5 3 9 2 to 4 :"
RIGHT = "+ 12 + 15 - 6 - 4 hit answer + + - -"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def recipe(arms, monkeypatch):
    """The method's recipe on a stand-in: two prompts, three answers, few tokens."""
    for name, small in (("prompts", 2), ("each", 3), ("budget", 3), ("room", 9)):
        monkeypatch.setattr(recipes.MirrorDescent, name, small)
    return arms(recipes.MirrorDescent)


def test_a_short_wrong_answer_earns_nothing_and_length_counts_within_the_group():
    right, lengths = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 1]]), torch.tensor([[10, 30, 10, 20], [40, 40, 40, 40]])
    wanted = torch.tensor([[0.5, -0.5, 0, 0], [0, 0, 0, 0]])

    def across(right, lengths):
        return length_bonus(right.view(1, -1), lengths.view(1, -1)).view_as(right)
    caught(lambda f: torch.allclose(f(right, lengths), wanted), length_bonus, across,
           lambda right, lengths: length_bonus(torch.ones_like(right), lengths))
    assert worth(right, lengths, 0.5)[0].tolist() == [1.25, 0.75, 0, 0] and torch.equal(worth(right, lengths, 0), right)


def test_the_loss_is_the_squared_residual_of_whole_answers_without_clipping_or_spread():
    """Its gradient is that of (advantage - tau log(pi / pi_i))^2 / (2 tau), however far the policy has gone."""
    before, advantage, tau = torch.tensor([-20.0, -3.0]), torch.tensor([0.75, -0.25]), 0.5
    logp = torch.tensor([-17.0, -4.5], requires_grad=True)
    residual = ((advantage - tau * (logp - before)).square() / (2 * tau)).mean()
    wanted = torch.autograd.grad(residual, logp)[0]

    def clipped(logp, before, advantage, tau):
        ratio = (logp - before).exp()
        return -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    caught(lambda f: torch.allclose(torch.autograd.grad(f(logp, before, advantage, tau), logp)[0], wanted), surrogate,
           clipped, lambda l, b, a, t: surrogate(l, b, a / a.std(), t), lambda l, b, a, t: surrogate(l, b, a, 0.0),
           lambda l, b, a, t: surrogate(l / 17, b / 17, a, t))  # means over tokens
    still = torch.autograd.grad(surrogate(logp, logp, advantage, tau), logp)[0]
    assert torch.allclose(still, -advantage / 2), "where nothing has moved it is REINFORCE"


def test_the_reward_sees_the_answer_alone_and_needs_its_end():
    tokenizer = targets.WORLD.tokenizer()
    ids = tokenizer.encode(RIGHT).ids

    def sound(tokenizer, prompt, ids):
        return float(targets.sound(f"{prompt} {tokenizer.decode(ids)}"))
    slip = tokenizer.encode(RIGHT.replace("15", "16")).ids
    caught(lambda f: f(tokenizer, ASKED, [*ids, END]) == f(tokenizer, ASKED, [*slip, END]) == 1.0, reward, sound)
    assert reward(tokenizer, ASKED, ids) == 0.0 == reward(tokenizer, ASKED, [*ids[:-1], ids[-3], END])


def test_every_iteration_freezes_the_policy_that_it_begins_with(recipe):
    model = recipe.build()
    first, changes = copy.deepcopy(model), [p for p in model.parameters() if p.requires_grad]
    for step in range(recipe.steps + 1):
        recipe.loss(model, recipe.batch(step, 0.5), 0.5)
        with torch.no_grad():
            here = answer_logp(model, recipe.now["ids"], recipe.now["answer"])
            assert torch.allclose(here, recipe.now["before"], atol=1e-3) == recipe.fresh(step) == (step % 4 == 0)
            if step == recipe.steps:
                caught(lambda before, here=here: torch.allclose(before, here, atol=1e-3), recipe.now["before"],
                       answer_logp(first, recipe.now["ids"], recipe.now["answer"]))
            for weight in changes:
                weight += 0.1 * torch.randn_like(weight)


def test_an_answer_is_carried_on_where_it_stood_and_learned_from_when_its_group_has_ended(recipe):
    model, dice = recipe.build(), torch.Generator().manual_seed(0)
    groups = [[row] * recipe.each for row in recipe.batch(0, 0.0)["asked"].tolist()]
    told = len(groups[0][0])
    begun = recipe.carried_on(model, recipe.carried_on(model, groups, told, dice), told, dice)

    def goes_on(later):
        return all(new[: len(old)] == old for a, b in zip(begun, later, strict=True) for old, new in zip(a, b))
    caught(goes_on, recipe.carried_on(model, begun, told, dice), recipe.carried_on(model, groups, told, dice))
    recipe.waiting = begun[:1]
    recipe.iterate(model, recipe.batch(4, 0.0)["asked"].tolist(), 4, 0.0)
    learned = [[one for one in row if one != PAD] for row in recipe.now["ids"].tolist()]
    assert goes_on([learned, begun[1]]), "the group of the iteration before, whole"
    assert len(recipe.waiting) == recipe.prompts and all(len(row) <= told + recipe.budget for g in recipe.waiting
                                                         for row in g)


def test_the_arms_differ_in_what_an_answer_is_worth_alone(recipe, arms):
    rewards, tokens = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([[5, 9, 13], [5, 5, 9]])
    best, bonus, plain = (arms(kind) for kind in (recipes.BestOfGroup, recipes.WithLengthPenalty, recipes.WithoutRatio))
    assert best.credit(rewards, tokens, 1.0).tolist() == [[0, 1, 0], [0, 0, 0]], "nothing is pushed away"
    assert torch.equal(bonus.credit(rewards, tokens, 0.3), above_group(rewards)), "the bonus begins later"
    assert torch.equal(bonus.credit(rewards, tokens, 0.4), above_group(worth(rewards, tokens, 0.5)))
    assert torch.equal(plain.credit(rewards, tokens, 1.0), recipe.credit(rewards, tokens, 1.0))
    assert (recipe.tau, bonus.tau, plain.tau, best.tau) == (0.5, 0.5, 0.0, 0.0)
    assert all(torch.equal(one.batch(9, 0.0)["asked"], recipe.batch(9, 0.0)["asked"]) for one in (best, bonus, plain))


def test_averaged_weights_lie_between_both(arms, monkeypatch):
    made = arms(recipes.Averaged)
    ends = {name: torch.nn.Linear(3, 2) for name in ("target-rl-1", "target-sft-short-1")}
    monkeypatch.setattr(recipes, "read_shipped", lambda name: copy.deepcopy(ends[name]))
    long, short = (one.weight for one in ends.values())
    caught(lambda weight: torch.allclose(weight, (long + short) / 2), made.build().weight, long, short)


def test_pass_at_1_is_the_mean_of_answers_drawn_at_temperature_1(tiny, monkeypatch):
    monkeypatch.setattr(claim, "reward", lambda tokenizer, prompt, ids: float(ids[0] % 2))
    bundle, prompts = tiny.bundle(SFT), [doc.prompt for doc in exam(targets.WORLD, 3, 12)]

    def between(sampler):
        monkeypatch.setattr(claim, "Sampler", lambda: sampler)
        share, tokens = claim.judged(bundle, prompts, torch.Generator().manual_seed(0), 4)
        return len(share) == 12 and float(tokens.max()) <= 4 and bool(((share > 0) & (share < 100)).any())
    caught(between, Sampler(), Sampler(0.0))


def test_the_page_says_what_answers_were_worth_and_leaves_the_network_as_it_was(tiny):
    job = prepare("kimi-k15", from_text(ASKED), {"samples": 4, "weight": 1.0})
    assert twin(job).bundle.name == SFT and twin(job).params == job.params
    before = copy.deepcopy(job.model.state_dict())
    trace = run("kimi-k15", from_text(ASKED), {"samples": 4, "weight": 1.0}).traces["sample"]
    assert all(torch.equal(weight, before[name]) for name, weight in job.model.state_dict().items())
    shown = trace.charts[0].series
    gains = shown["reward"] + shown.get("length bonus", 0)
    assert shown["advantage"] == pytest.approx(gains - gains.mean(), abs=1e-6)
    notes = [step.note for step in trace.steps if step.level == "trial"]
    assert len(notes) == 4 and all(note.startswith("wrong, length bonus ") for note in notes)
    assert not any("kept" in step.label for step in trace.steps), "all of a group count"


def test_steps_go_where_the_rule_wants_them_and_nowhere_when_all_were_worth_the_same(tiny):
    job = prepare("kimi-k15", from_text(f"{ASKED} + 12"), {"samples": 4, "rate": 1e-3, "steps": 8})
    source, ids = PuzzleReader(job), job.tokenizer(RIGHT)["input_ids"]
    group = grouped(source, [Trial([*ids[at:], END]) for at in (2, 4, 6, 8)], 0.0)
    assert group.right.tolist() == [1, 1, 1, 1] and not stepped(job, source, group)[1].any()
    assert rewarded(group, 0) == ("accepted", "right, advantage +0.00")
    uneven = replace(group, advantage=np.array([0.75, -0.25, -0.25, -0.25], np.float32))

    def arrives(tau):
        moved = stepped(replace(job, params=replace(job.params, tau=tau)), source, uneven)[1]
        return moved.shape == (8, 4) and np.abs(moved[-1] - uneven.advantage / 0.5).mean() < 0.6
    caught(arrives, 0.5, 0.0, 2.0)


def test_slips_are_seen_and_other_texts_are_refused(tiny):
    source = PuzzleReader(prepare("kimi-k15", from_text(f"{ASKED} + 12")))
    ids = source.tokenizer("+ 16 - 6 - 4 hit answer + + - -")["input_ids"]
    caught(lambda true: true == [1, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1], source.true([*ids, END])[:12],
           PuzzleReader(prepare("kimi-k15", from_text(ASKED))).true([*ids, END])[:12])
    for text, said in (("Once upon a time.", "A puzzle is 5 numbers"), (f"{ASKED} {'+ 12 ' * 24}", "type fewer")):
        with pytest.raises(SubjectError, match=said):
            run("kimi-k15", from_text(text))
