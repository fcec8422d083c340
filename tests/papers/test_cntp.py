"""cntp: its rule, its stops, its choice and its claim; every trap of the paper beside the mutants that it refuses."""

import math

import pytest
import torch

from kernels import Sampler, vocab_stats, warp
from models.claims.decoding_lab import best_of
from models.engine.method import prepare, run, twin
from models.loops.sample.rollouts import LogitsMoment, Trial
from models.papers.cntp import claim
from models.papers.cntp.method import PAPER, Params, bounds, count_of, stop_tokens, trials_for
from models.trace.params import ParamError
from models.trace.subject import from_text
from models.worlds import routes
from tests import tiny
from tests.traps import caught

STORY = from_text("Once upon a time there was a little red hen. The")
OPTIONS = {"checkpoint": "text-ar-1", "seed": 4}  # random weights: entropies near log V = 6 nats
# entropy in nats -> number of trials (H_min 0.01, H_max 1.5, N_max 10)
CODE = {0.0: 1, 0.01: 1, 0.175: 1, 0.176: 2, 0.34: 2, 0.342: 3, 0.755: 5, 1.4999: 9, 1.5: 10, 7.0: 10}
PAPERS = {0.0: 1, 0.176: 1, 0.307: 1, 0.309: 2, 0.456: 2, 0.458: 3, 0.756: 5, 1.36: 9, 1.4999: 9, 1.5: 10, 7.0: 10}
REVERSED = {0.0: 10, 0.01: 10, 0.012: 9, 0.1: 9, 0.34: 8, 0.755: 5, 1.4: 1, 1.5: 1, 7.0: 1}


def counts(published: dict[float, int], trials) -> bool:
    """Whether `trials` gives the published number at each entropy."""
    return all(trials((h - 0.01) / 1.49, 10) == n for h, n in published.items())


def test_the_number_of_trials_truncates():
    """The authors' code: several from 0.176 nats on, one more each 0.1656 nats."""
    caught(lambda rule: counts(CODE, rule), trials_for,
           lambda r, most: round(1 + 9 * min(1, max(0, r))), lambda r, most: 11 - trials_for(r, most))


def test_algorithm_1_of_the_paper_counts_otherwise():
    """max(1, min(N_max, floor(r N_max))): several from 0.308 nats on."""
    caught(lambda rule: counts(PAPERS, rule), lambda r, most: trials_for(r, most, "paper"),
           trials_for, lambda r, most: int(most * r))  # the code's count; no trial at all where the model is sure


def test_reversed_inverts_before_it_truncates():
    caught(lambda rule: counts(REVERSED, rule), lambda r, most: trials_for(r, most, reverse=True),
           lambda r, most: most + 1 - trials_for(r, most))
    for rule in ("code", "paper"):
        assert all(1 <= trials_for(r / 50, 10, rule, True) <= 10 for r in range(-5, 60))


def moment(logits, sampler=None) -> LogitsMoment:
    logits = torch.tensor([logits])
    return LogitsMoment(logits, warp(logits, sampler or Sampler()))


def test_entropy_is_taken_after_the_warpers_unless_asked():
    flat = moment([4.0, 0.0, 0.0, 0.0, 0.0, 0.0], Sampler(0.3, top_p=0.9))
    assert flat.warped_entropy < 0.01 < 0.176 < flat.entropy
    caught(lambda p: count_of(p, *PAPER)(flat) == 1, Params(), Params(warped=False))


def test_entropy_of_the_kernel_is_the_papers():
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)) * 3
    p = logits.softmax(-1)
    wanted = -(p * (p + 1e-10).log()).sum(-1)
    torch.testing.assert_close(vocab_stats(logits, top_k=1).entropy, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy, sure, unsure", [
    ("cntp", 1, 10), ("constant", 10, 10), ("reversed", 10, 1), ("plain", 1, 1), ("greedy", 1, 1)])
def test_the_policies(policy, sure, unsure):
    for rule in ("code", "paper"):
        count = count_of(Params(policy=policy, rule=rule), *PAPER)
        assert (count(moment([9.0, 0.0, 0.0])), count(moment([0.0] * 40))) == (sure, unsure)


def test_the_stop_set_is_the_first_token_of_each_mark():
    tokenizer = tiny.text_tokenizer()
    stops = stop_tokens(tokenizer, ".,?!:;)]}\\n")
    assert {tokenizer.decode([i]) for i in stops} == set(".,?!:;)]}\n")


def test_perplexity_is_a_mean_over_all_tokens():
    """The uncertain first token and the final punctuation are part of the trial."""
    trial = Trial(ids=[1, 2, 3], logp=[math.log(0.1), math.log(0.5), math.log(0.9)])
    caught(lambda of: of(trial) == pytest.approx((0.1 * 0.5 * 0.9) ** (-1 / 3)), lambda t: t.perplexity,
           lambda t: math.exp(-sum(t.logp[1:]) / len(t.logp[1:])),
           lambda t: math.exp(-sum(t.logp[:-1]) / len(t.logp[:-1])), lambda t: math.exp(-sum(t.logp)))


def test_length_bias_is_kept_and_shown(trace):
    """A short trial wins the mean although its sum is lower than a long trial's mean suggests; the chart shows both."""
    short, long = Trial([1], [-0.9]), Trial([1, 2, 3], [-1.0, -1.0, -1.0])
    assert short.perplexity < long.perplexity
    chart = next(c for c in trace.charts if c.kind == "scatter")
    assert sum(map(len, chart.series.values())) == sum(s.level == "trial" for s in trace.steps)


@pytest.fixture
def trace(tiny):
    return run("cntp", STORY, {"length": 30, "longest": 8}, **OPTIONS).traces["sample"]


def branches(trace):
    return {i: [s for s in trace.steps if s.parent == i] for i, s in enumerate(trace.steps) if s.level == "branch"}


def test_the_least_perplexing_trial_is_appended_whole(trace):
    found = branches(trace)
    assert found
    for index, trials in found.items():
        values = [float(s.note.split()[1].strip(",")) for s in trials]
        kept = [s for s in trials if len(s.where("accepted"))]
        assert len(kept) == 1 and min(values) == values[-1] and trials[-1] is kept[0]
        after = next((s for s in trace.steps[index + len(trials) + 1:] if s.level in ("step", "branch")), None)
        if after is not None:
            where = kept[0].where("accepted")
            assert (after.ids[where] == kept[0].ids[where]).all() and set(where) <= set(after.where("known"))


def test_trials_run_to_punctuation_or_a_limit_and_not_just_one_token(trace):
    stops = stop_tokens(tiny.text_tokenizer(), Params().stops)
    lengths = []
    for step in (step for trials in branches(trace).values() for step in trials):
        where = step.where("accepted", "refused")
        lengths.append(len(where))
        assert not stops & set(step.ids[where[:-1]].tolist()), "a trial went on after a punctuation mark"
        assert step.ids[where[-1]] in stops or "punctuation" not in step.note
    assert max(lengths) > 1, "mutant: comparing only the alternatives of one token"


def test_every_token_of_a_trial_is_sampled_the_first_too(trace):
    trials = [step for steps in branches(trace).values() for step in steps]
    firsts = [step.ids[step.where("accepted", "refused")[0]] for step in trials]
    tops = [trace.steps[step.parent].distributions["warped"].top_ids[0, 0] for step in trials]
    assert any(a != b for a, b in zip(firsts, tops)), "mutant: a greedy first token is always the most probable one"


def test_the_spent_tokens_are_those_of_all_trials(trace):
    drawn = sum(s.level == "step" for s in trace.steps[1:])
    tried = sum(len(s.where("accepted", "refused")) for s in trace.steps if s.level == "trial")
    assert trace.facts["spent"].value == drawn + tried
    written = [x for x in trace.canvas.labels if x]
    assert trace.facts["kept"].value == len(written) - len(trace.steps[0].where("context"))


def test_plain_is_sampling_at_the_same_seed_and_greedy_is_the_most_probable_token(tiny):
    given = {"length": 12, "temperature": 0.9, "top_p": 0.9}
    plain = run("cntp", STORY, {**given, "policy": "plain"}, **OPTIONS).traces["sample"]
    assert plain.canvas.labels == run("sampling", STORY, given, **OPTIONS).traces["sample"].canvas.labels
    for step in run("cntp", STORY, {"length": 6, "policy": "greedy"}, **OPTIONS).traces["sample"].steps[1:]:
        assert step.distributions["raw"].chosen[0] == step.distributions["raw"].top_ids[0, 0]


def test_the_baseline_gets_at_least_the_tokens_of_this_very_run(tiny):
    job = prepare("cntp", STORY, {"length": 20, "longest": 8}, **OPTIONS)
    facts = run("cntp", STORY, {"length": 20, "longest": 8}, **OPTIONS).traces["sample"].facts
    spent, kept, other = facts["spent"].value, facts["kept"].value, twin(job)
    assert other.params.temperature == job.params.temperature
    caught(lambda tries: 20 >= tries >= spent / kept > tries - 1, other.params.tries, other.params.tries - 1)
    assert twin(prepare("cntp", STORY, {"length": 20, "policy": "plain"}, **OPTIONS)).params.tries == 1


def test_thresholds_fit_the_checkpoint_unless_they_are_set(tiny):
    assert bounds(Params(), "algo-arithmetic-2") == PAPER == (0.01, 1.5)
    assert bounds(Params(), "text-ar-1") > PAPER
    assert bounds(Params(thresholds="set", h_min=0.5, h_max=2.0), "text-ar-1") == (0.5, 2.0)
    with pytest.raises(ParamError, match="h_max"):
        run("cntp", STORY, {"thresholds": "set", "h_min": 3.0, "h_max": 1.0}, **OPTIONS)


def test_an_answer_is_judged_by_whatever_route_and_only_of_a_sum(tiny):
    found = run("cntp", from_text("41+42-22.", "problem"), {"length": 8}, seed=1).traces["sample"]
    assert found.facts["right"].value == 0.0, "random weights do not know"
    assert "right" not in run("cntp", STORY, {"length": 8}, **OPTIONS).traces["sample"].facts


def test_best_of_n_stops_at_the_budget():
    samples = [Trial([1] * 10, [logp] * 10) for logp in (-2.0, -1.0, -0.5)]
    best, tokens = best_of(samples, 15)
    assert best is samples[1] and tokens == 20, "mutant: looking at all three would spend 30 and keep the third"
    assert best_of(samples, 1)[1] == 10 and best_of(samples, 99) == (samples[2], 30)


def test_budgets_are_matched_on_other_problems_and_the_judge_takes_every_right_route():
    found = routes.held_out(20)
    assert not set(found) & set(routes.held_out(20, seed=6))
    assert all(claim.judged_right(prompt) for prompt in found)
