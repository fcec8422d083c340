"""cntp: its rule, its stops, its choice; every trap of the paper beside the mutant that the same assertion rejects."""

import math

import pytest
import torch

from kernels import Sampler, vocab_stats, warp
from models.engine.method import prepare, run, twin
from models.loops.sample.rollouts import Moment, Trial
from models.papers.cntp.method import PAPER, Params, bounds, count_of, stop_tokens, trials_for
from models.trace.params import ParamError
from models.trace.subject import from_text
from tests import tiny

STORY = from_text("Once upon a time there was a little red hen. The")
OPTIONS = {"checkpoint": "text-ar-1", "seed": 4}  # random weights: entropies near log V = 6 nats


CODE = {0.0: 1, 0.01: 1, 0.175: 1, 0.176: 2, 0.34: 2, 0.342: 3, 0.755: 5, 1.4999: 9, 1.5: 10, 7.0: 10}
PAPERS = {0.0: 1, 0.176: 1, 0.307: 1, 0.309: 2, 0.456: 2, 0.458: 3, 0.756: 5, 1.36: 9, 1.4999: 9, 1.5: 10, 7.0: 10}
REVERSED = {0.0: 10, 0.01: 10, 0.012: 9, 0.1: 9, 0.34: 8, 0.755: 5, 1.4: 1, 1.5: 1, 7.0: 1}


def counts(published: dict[float, int], trials, **options) -> bool:
    """Whether `trials` gives the published number of trials at each entropy (H_min 0.01, H_max 1.5, N_max 10)."""
    return all(trials((h - 0.01) / 1.49, 10, **options) == n for h, n in published.items())


def test_the_number_of_trials_truncates():
    """The authors' code: several from 0.176 nats on, one more each 0.1656 nats."""
    assert counts(CODE, trials_for)
    assert not counts(CODE, lambda r, most: round(1 + 9 * min(1, max(0, r))))
    assert not counts(CODE, lambda r, most: 11 - trials_for(r, most))


def test_algorithm_1_of_the_paper_counts_otherwise():
    """max(1, min(N_max, floor(r N_max))): several from 0.308 nats on."""
    assert counts(PAPERS, trials_for, rule="paper")
    assert not counts(PAPERS, trials_for), "mutant: the code's count shown as the paper's"
    assert not counts(PAPERS, lambda r, most: int(most * r)), "mutant: no trial at all where the model is sure"


def test_reversed_inverts_before_it_truncates():
    assert counts(REVERSED, trials_for, reverse=True)
    assert not counts(REVERSED, lambda r, most: most + 1 - trials_for(r, most)), "mutant: truncated, then inverted"
    for rule in ("code", "paper"):
        assert all(1 <= trials_for(r / 50, 10, rule, True) <= 10 for r in range(-5, 60))


def moment(logits, sampler) -> Moment:
    logits = torch.tensor([logits])
    return Moment(logits, warp(logits, sampler))


def test_entropy_is_taken_after_the_warpers_unless_asked():
    flat = moment([4.0, 0.0, 0.0, 0.0, 0.0, 0.0], Sampler(0.3, top_p=0.9))
    assert flat.warped_entropy < 0.01 < 0.176 < flat.entropy
    assert count_of(Params(), *PAPER)(flat) == 1
    assert count_of(Params(warped=False), *PAPER)(flat) > 1, "mutant: entropy before the warpers branches here"


@pytest.mark.parametrize("policy, sure, unsure", [
    ("cntp", 1, 10), ("constant", 10, 10), ("reversed", 10, 1), ("plain", 1, 1), ("greedy", 1, 1)])
def test_the_policies(policy, sure, unsure):
    count = count_of(Params(policy=policy), *PAPER)
    assert count(moment([9.0, 0.0, 0.0], Sampler())) == sure
    assert count(moment([0.0] * 40, Sampler())) == unsure


def test_the_stop_set_is_the_first_token_of_each_mark():
    tokenizer = tiny.text_tokenizer()
    stops = stop_tokens(tokenizer, ".,?!:;)]}\\n")
    assert {tokenizer.decode([i]) for i in stops} == set(".,?!:;)]}\n")


def perplexity_counts_everything(of) -> bool:
    """-mean over all tokens: the uncertain first one and the final punctuation are part of the trial."""
    trial = Trial(ids=[1, 2, 3], logp=[math.log(0.1), math.log(0.5), math.log(0.9)])
    return of(trial) == pytest.approx((0.1 * 0.5 * 0.9) ** (-1 / 3))


def test_perplexity_is_a_mean_over_all_tokens():
    assert perplexity_counts_everything(lambda t: t.perplexity)
    assert not perplexity_counts_everything(lambda t: math.exp(-sum(t.logp[1:]) / len(t.logp[1:])))
    assert not perplexity_counts_everything(lambda t: math.exp(-sum(t.logp[:-1]) / len(t.logp[:-1])))
    assert not perplexity_counts_everything(lambda t: math.exp(-sum(t.logp)))


def test_length_bias_is_kept_and_shown(tiny):
    """A short trial wins the mean although its sum is lower than a long trial's mean suggests; the chart shows both."""
    short, long = Trial([1], [-0.9]), Trial([1, 2, 3], [-1.0, -1.0, -1.0])
    assert short.perplexity < long.perplexity
    trace = run("cntp", STORY, {"length": 20}, **OPTIONS).traces["sample"]
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
    for trials in branches(trace).values():
        for step in trials:
            where = step.where("accepted", "refused")
            lengths.append(len(where))
            inner = step.ids[where[:-1]].tolist()
            assert not stops & set(inner), "a trial went on after a punctuation mark"
            assert step.ids[where[-1]] in stops or "punctuation" not in step.note
    assert max(lengths) > 1, "mutant: comparing only the alternatives of one token"


def test_every_token_of_a_trial_is_sampled_the_first_too(trace):
    firsts = [step.ids[step.where("accepted", "refused")[0]] for trials in branches(trace).values() for step in trials]
    tops = [trace.steps[s.parent].distributions["warped"].top_ids[0, 0] for t in branches(trace).values() for s in t]
    assert any(a != b for a, b in zip(firsts, tops)), "mutant: a greedy first token is always the most probable one"


def test_plain_is_sampling_at_the_same_seed(tiny):
    given = {"length": 12, "temperature": 0.9, "top_p": 0.9}
    plain = run("cntp", STORY, {**given, "policy": "plain"}, **OPTIONS).traces["sample"]
    other = run("sampling", STORY, given, **OPTIONS).traces["sample"]
    assert plain.canvas.labels == other.canvas.labels


def test_greedy_is_the_most_probable_token(tiny):
    trace = run("cntp", STORY, {"length": 6, "policy": "greedy"}, **OPTIONS).traces["sample"]
    for step in trace.steps[1:]:
        assert step.distributions["raw"].chosen[0] == step.distributions["raw"].top_ids[0, 0]


def test_the_baseline_gets_the_budget_of_this_very_run(tiny):
    job = prepare("cntp", STORY, {"length": 20, "longest": 8}, **OPTIONS)
    *_, mine = run("cntp", STORY, {"length": 20, "longest": 8}, **OPTIONS).traces.values()
    spent, kept = mine.facts["spent"].value, mine.facts["kept"].value
    other = twin(job)
    assert other.params.tries == min(20, math.ceil(spent / kept)) and other.params.temperature == job.params.temperature
    assert twin(prepare("cntp", STORY, {"length": 20, "policy": "plain"}, **OPTIONS)).params.tries == 1


def test_thresholds_the_wrong_way_round_are_refused(tiny):
    with pytest.raises(ParamError, match="h_max"):
        run("cntp", STORY, {"thresholds": "set", "h_min": 3.0, "h_max": 1.0}, **OPTIONS)


def test_thresholds_fit_the_checkpoint_unless_they_are_set():
    assert bounds(Params(), "algo-arithmetic-2") == PAPER == (0.01, 1.5)
    assert bounds(Params(), "text-ar-1") > PAPER
    assert bounds(Params(thresholds="set", h_min=0.5, h_max=2.0), "text-ar-1") == (0.5, 2.0)


def test_the_spent_tokens_are_those_of_all_trials(trace):
    drawn = sum(s.level == "step" for s in trace.steps[1:])
    tried = sum(len(s.where("accepted", "refused")) for s in trace.steps if s.level == "trial")
    assert trace.facts["spent"].value == drawn + tried
    written = [x for x in trace.canvas.labels if x]
    assert trace.facts["kept"].value == len(written) - len(trace.steps[0].where("context"))


def test_entropy_of_the_kernel_is_the_papers():
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)) * 3
    p = logits.softmax(-1)
    wanted = -(p * (p + 1e-10).log()).sum(-1)
    torch.testing.assert_close(vocab_stats(logits, top_k=1).entropy, wanted, atol=1e-5, rtol=0)
