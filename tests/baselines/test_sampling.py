"""sampling's claim: a wrong sampler and an overconfident model are seen."""

import torch

from models.baselines.sampling import claim


def test_chi_square_sees_a_wrong_sampler():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 2
    fit, freedom = claim.chi_square(logits, 3000, 1)
    off, _ = claim.chi_square(logits, 3000, 1, sharper=1.3)  # mutant: drawn from a sharper distribution
    assert fit < 2 * freedom < 3 * freedom < off


def test_coverage_of_a_calibrated_model_is_zero_and_of_an_overconfident_one_is_not():
    logits = torch.randn(4000, 30, generator=torch.Generator().manual_seed(1)) * 2
    truth = torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(2))[:, 0]
    assert abs(claim.coverage(logits, truth, 0.9).mean()) < 0.02
    assert claim.coverage(logits / 0.5, truth, 0.9).mean() < -0.03
