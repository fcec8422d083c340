"""The claims' own arithmetic: budgets are matched, verdicts follow the rows, a wrong sampler is seen."""

import numpy as np
import pytest
import torch

from models.baselines.sampling import claim as sampling
from models.claims import Row
from models.loops.sample.rollouts import Trial
from models.papers.byte_level import claim as byte_level
from models.papers.cntp import claim as cntp
from models.worlds import arithmetic


def trial(length: int, logp: float) -> Trial:
    return Trial(ids=[1] * length, logp=[logp] * length)


def test_best_of_n_stops_at_the_budget():
    samples = [trial(10, -2.0), trial(10, -1.0), trial(10, -0.5)]
    best, tokens = cntp.best_of(samples, 15)
    assert best is samples[1] and tokens == 20, "mutant: looking at all three would spend 30 and keep the third"
    assert cntp.best_of(samples, 1)[1] == 10 and cntp.best_of(samples, 99)[0] is samples[2]


VERDICTS = [((True, True), "holds"), ((True, False), "mixed"), ((False,), "does not hold")]


@pytest.mark.parametrize("holds, wanted", VERDICTS)
def test_verdicts_follow_the_rows(holds, wanted):
    rows = [Row("", 0.0, "", 1, holds=h) for h in (None, *holds)]
    assert cntp.verdict(rows) == wanted


def test_problems_of_the_claim_were_never_trained_on():
    found = arithmetic.held_out(20)
    assert len(set(found)) > 15 and all(sum(map(ord, prompt)) % 10 == 0 for prompt in found)


def test_runs_on_one_problem_count_once():
    found = cntp.by_problem({"x": [1, 0, 1, 1, 0, 1]}, 3)["x"]  # two seeds, three problems
    np.testing.assert_allclose(found, [1, 0, 1])


def test_chi_square_sees_a_wrong_sampler(monkeypatch):
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 2
    value, freedom = sampling.chi_square(logits, 3000, 1)
    assert value < 2 * freedom
    monkeypatch.setattr(sampling, "WARPERS", sampling.Sampler(1.0))
    right = sampling.kernels.warp
    calls = iter([False, True])  # mutant: draws come from a sharper distribution than the stored one
    monkeypatch.setattr(sampling.kernels, "warp", lambda x, s: right(x * 1.3 if next(calls) else x, s))
    value, freedom = sampling.chi_square(logits, 3000, 1)
    assert value > 3 * freedom


def test_coverage_of_a_calibrated_model_is_zero_and_of_an_overconfident_one_is_not():
    logits = torch.randn(4000, 30, generator=torch.Generator().manual_seed(1)) * 2
    truth = torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(2))[:, 0]
    assert abs(sampling.coverage(logits, truth, 0.9).mean()) < 0.02
    assert sampling.coverage(logits / 0.5, truth, 0.9).mean() < -0.03


def test_the_chain_is_exact():
    assert byte_level.chain_error().value < 1e-10


def test_passages_are_held_out_sentences_with_room():
    found = byte_level.sentences(np.random.default_rng(0))
    assert len(found) > 400 and all(len(p) == byte_level.CONTEXT + byte_level.WALK + 20 for p in found[:50])
