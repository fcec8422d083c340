"""The tab's shared cuts, random dropping and static pruning."""
import numpy as np
import pytest
import torch

from models.backbones.text import read
from models.baselines.random_keep import method as random_keep
from models.baselines.top_attention import method as top_attention
from models.engine.method import prepare, run, twin
from models.loops.prune import texts
from models.loops.prune.forward import PruneMoment, full_macs
from models.loops.prune.loop import Cuts, finished, rates, roles, survivors, turns
from models.loops.prune.summary import race, said
from models.trace.subject import from_example, from_text
from models.worlds.retrieval import truth
from tests.traps import caught


def test_the_presets_do_the_work_that_they_say():
    usual, early = Cuts(), Cuts(0.5, 0.5, 0.5, where="early")
    assert rates(usual, 6) == pytest.approx((0, 0, 0.55, 0, 0.5, 0))
    assert rates(early, 6)[1:4] == (0.5, 0.5, 0.5)
    caught(lambda cuts: abs(sum(survivors(cuts, 6, 10_000)) / 60_000 - 0.69) < 0.005, usual,
           Cuts(0.55, 0.5, 0.5))  # cut at layer 4 too
    assert sum(survivors(early, 6, 10_000)) / 60_000 == pytest.approx(0.5, abs=1e-3)


def test_cuts_that_meet_on_few_layers_are_both_made():
    three = Cuts(0.3, 0.5, 0.7)
    assert rates(three, 3) == pytest.approx((0.3, 0.85, 0))
    assert survivors(three, 3, 100) == [100, 70, 11]


def test_random_dropping_is_fair_and_repeats_with_its_seed(tiny):
    job = prepare("random-keep", seed=7)
    alive = torch.arange(400)
    one, two = (random_keep.policy(job, 3).score(PruneMoment(0, 1, alive, {})) for _ in range(2))
    assert torch.equal(one, two)
    other = random_keep.policy(prepare("random-keep", seed=8), 3).score(PruneMoment(0, 1, alive, {}))
    assert not torch.equal(one, other)
    kept = sum(np.isin(np.arange(400), one.argsort()[200:]) for one in
               (torch.rand(400, generator=prepare("random-keep", seed=s).generator()) for s in range(60)))
    assert abs(kept[:200].mean() - kept[200:].mean()) < 2


def test_random_twin_makes_the_same_cuts_before_the_first_token(tiny):
    job = prepare("lazyllm", params={"first": 0.2, "third": 0.6, "length": 3}, seed=2)
    other = twin(job)
    assert (other.params.first, other.params.third, other.params.revive) == (0.2, 0.6, True)
    facts = [run(j.method, params={"first": 0.2, "third": 0.6, "length": 3}, seed=2).traces["prune"].facts["work"].value
             for j in (job, other)]
    assert facts[0] == facts[1]


def static(tiny, **params):
    job = prepare("top-attention", params=params)
    return top_attention.policy(job, 3)


def test_static_pruning_ranks_once(tiny):
    policy, alive = static(tiny), torch.arange(6)
    before = torch.tensor([0.1, 0.5, 0.2, 0.9, 0.3, 0.4])
    first = policy.score(PruneMoment(0, 0, alive, {0: before}))
    later = policy.score(PruneMoment(1, 0, torch.arange(7), {0: torch.flip(torch.rand(7), (0,))}))
    assert torch.equal(first, before) and torch.equal(later[:6], before) and later[6] == float("inf")
    ranked_again = torch.flip(before, (0,))  # the mutant: a new ranking at every token
    assert not torch.equal(later[:6], ranked_again)
    assert not policy.revive


def test_static_pruning_ranks_no_later_than_the_first_cut(tiny):
    assert static(tiny, rank_layer=40).looks == {0} and static(tiny, rank_layer=1, where="early").looks == {0}
    assert top_attention.policy(prepare("top-attention", params={"rank_layer": 2}), 6).looks == {1}
    assert top_attention.policy(prepare("top-attention"), 6).looks == {2}


def test_static_pruning_never_brings_a_token_back(tiny):
    trace = run("top-attention", params={"length": 5}).traces["prune"]
    assert not any(len(step.where("revived")) for step in trace.steps)


def test_no_cut_is_the_full_model(tiny):
    trace = run("top-attention", params={"first": 0, "second": 0, "third": 0, "length": 2}).traces["prune"]
    assert trace.facts["work"].value == 100 and trace.facts["agreement"].value > 0
    count = trace.canvas.roles.index("answer")
    model = prepare("top-attention").model
    from models.backbones.rows import RowStore
    store = RowStore.empty(model.model.layers, count)
    assert trace.steps[0].cost.macs == full_macs(store, count) + model.lm_head.weight.numel()


def test_roles_name_the_sentence_that_is_needed(tiny):
    for example in texts.EXAMPLES:
        job = prepare("random-keep", from_example(example, "text"))
        found = read(job.tokenizer, job.subject.text)
        ids, named = found.ids, roles(job.subject.text, found)
        needed = job.tokenizer.decode([i for i, role in zip(ids, named) if role == "needed"])
        assert len(named) == len(ids) and bool(needed) == (example.id != "story")
        if needed:
            answer, (first, last) = truth(job.subject.text)
            assert job.subject.text[first:last] in needed and answer in needed
            assert len(needed) < last - first + 12


def test_the_answer_is_judged_where_it_is_known(tiny):
    for name, known in (("secret", True), ("story", False)):
        example = next(e for e in texts.EXAMPLES if e.id == name)
        facts = run("random-keep", from_example(example, "text"), {"length": 1}).traces["prune"].facts
        assert ("answer" in facts) == known


def test_a_second_question_is_read_when_the_first_is_answered(tiny):
    job = prepare("random-keep", from_example(next(e for e in texts.EXAMPLES if e.id == "turns"), "text"))
    found = read(job.tokenizer, job.subject.text)
    first, second = turns(job.subject.text, found)
    assert first + second == list(found.ids)
    assert job.tokenizer.decode(first).endswith("Answer:")
    assert job.tokenizer.decode(second).startswith(" 6767.\n\nQuestion:")
    begun = "Question: What is the capital of France? Answer: The capital of France is"
    for text in ("Answer:", "A plain story. The end", "Question: What? Answer:  \n", begun):
        job = prepare("random-keep", from_text(text))
        found = read(job.tokenizer, text)
        assert turns(text, found) == [list(found.ids)]


def test_an_answer_ends_with_its_sentence_and_a_story_does_not(tiny):
    secret, story = (prepare("random-keep", from_example(next(e for e in texts.EXAMPLES if e.id == name), "text"))
                     for name in ("secret", "story"))
    write = lambda job, text: job.tokenizer(text)["input_ids"]  # noqa: E731
    assert finished(secret, write(secret, " 12.")) and not finished(secret, write(secret, " 12"))
    assert not finished(story, write(story, " She ran.")) and finished(story, [story.tokenizer.eos_token_id])


def test_what_counts_as_said():
    assert [said(" 7412. And"), said("\n"), said(" ring.\nThe")] == ["7412", "", "ring"]


def test_too_long_a_text_is_refused_in_one_sentence(tiny):
    from models.trace.subject import SubjectError
    with pytest.raises(SubjectError, match="Please shorten"):
        run("random-keep", from_text("漢字" * 2000))


@pytest.mark.weights
def test_one_example_has_a_thousand_tokens(shipped):
    shipped("text-ar-1")
    from models.backbones.text import encode
    from models.checkpoints.store import load
    tokenizer = load("text-ar-1").tokenizer
    counts = [len(encode(tokenizer, from_example(e, "text").text, 4000)) for e in texts.EXAMPLES]
    assert max(counts) >= 1024


def every_round_is_measured(race):
    calls = []
    runners = {name: lambda name=name: calls.append(name) or torch.zeros(2) for name in ("pruned", "full")}
    times, _ = race(runners, 4)
    assert {name: len(took) for name, took in times.items()} == {"pruned": 4, "full": 4}
    assert calls == ["pruned", "full", "full", "pruned"] * 2, "each goes first in turn"


def test_a_race_takes_turns_and_measures_every_round():
    def one_after_the_other(runners, rounds):
        times = {name: np.array([race({name: one}, 1)[0][name][0] for _ in range(rounds)])
                 for name, one in runners.items()}
        return times, None
    every_round_is_measured(race)
    with pytest.raises(AssertionError):
        every_round_is_measured(one_after_the_other)


@pytest.mark.parametrize("rounds", [1, 4, 5])
def test_a_measured_time_stands_with_its_spread_or_not_at_all(rounds, tiny):
    facts = run("random-keep", params={"length": 1, "rounds": rounds}).traces["prune"].facts
    assert ("speed" in facts) == (rounds >= 5)
    if rounds >= 5:
        assert "median of 5 rounds, middle half " in facts["speed"].unit and facts["speed"].value > 0
