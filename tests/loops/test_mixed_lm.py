"""A mixture of two models' probabilities; the traps beside their mutants."""
import torch

from models.loops.sample.mixed_lm import MIXTURE, Mixture, gained, mixed
from tests.traps import caught


def test_probabilities_are_mixed_and_not_logits():
    lm, own = torch.randn(2, 5, 9).log_softmax(-1)

    def half_of_each(mix) -> bool:
        return torch.allclose(mix(lm, own).exp(), (lm.exp() + own.exp()) / 2, atol=1e-6)
    caught(half_of_each, mixed, lambda a, b: ((a + b) / 2).log_softmax(-1), lambda a, b: b, lambda a, b: a)
    assert torch.allclose(mixed(lm, own, 0.0), lm) and torch.allclose(mixed(lm, own, 1.0), own)


def test_a_mixture_reads_like_the_model_and_says_what_both_said(tiny):
    model, ids = tiny.fresh("tale-ar-2").requires_grad_(False), torch.tensor([[0, 40, 41, 42]])
    mixture = Mixture(model, lambda states: -model.lm_head(states), 0.25)
    whole, last = mixture(ids).logits, mixture(ids, logits_to_keep=1).logits
    assert torch.allclose(whole[:, -1:], last, atol=1e-5) and whole.shape[1] == 4
    lm, beside = mixture.parts.values()
    assert torch.allclose(lm, model(ids).logits[:, -1:].log_softmax(-1), atol=1e-5)
    assert torch.allclose(last.exp(), 0.75 * lm.exp() + 0.25 * beside.exp(), atol=1e-5)
    shown = {MIXTURE: last[0], **{name: part[0] for name, part in mixture.parts.items()}}
    assert abs(gained(shown, [7])[0] - float(last[0, 0, 7] - lm[0, 0, 7])) < 1e-5
