"""Unmasking: known tokens never change, exactly the promised number is revealed, and in the promised order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels import Sampler
from kernels.revealing import ORDERS

FEW = settings(max_examples=60, deadline=None, database=None, derandomize=True)


@st.composite
def steps(draw):
    batch, length, vocabulary = draw(st.integers(1, 3)), draw(st.integers(1, 8)), draw(st.integers(3, 6))
    mask_id = draw(st.sampled_from([0, 1, vocabulary - 1, vocabulary + 5]))
    make = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    ids = torch.randint(0, vocabulary, (batch, length), generator=make)
    ids[torch.rand(batch, length, generator=make) < 0.6] = mask_id
    return {
        "logits": torch.randn(batch, length, vocabulary, generator=make) * 3,
        "ids": ids, "mask_id": mask_id,
        "n_reveal": torch.tensor(draw(st.lists(st.integers(0, length + 2), min_size=batch, max_size=batch))),
        "order": draw(st.sampled_from(ORDERS)),
        "gumbel_temperature": draw(st.sampled_from([0.0, 2.0])),
        "sampler": draw(st.sampled_from([None, Sampler(), Sampler(0.5, top_k=2)])),
        "allowed": draw(st.sampled_from([None, torch.rand(batch, length, generator=make) < 0.5])),
        "generator": make,
    }


def check_step(step, ids, mask_id, n_reveal, allowed=None, **_):
    """The assertion that mutants must fail."""
    masked = ids == mask_id
    assert torch.equal(step.ids[~masked], ids[~masked]), "a known token changed"
    assert torch.equal(step.ids != ids, step.revealed), "revealed does not say what changed"
    assert (step.ids[step.revealed] != mask_id).all(), "the mask token was proposed"
    open_now = masked if allowed is None else masked & allowed
    assert not (step.revealed & ~open_now).any()
    assert torch.equal(step.revealed.sum(1), torch.minimum(torch.as_tensor(n_reveal), open_now.sum(1)))


@FEW
@given(steps())
def test_known_tokens_stay_and_the_promised_number_is_revealed(arguments):
    before = {name: arguments[name].clone() for name in ("logits", "ids")}
    step = kernels.unmask_step(**arguments)
    check_step(step, **arguments)
    assert all(torch.equal(arguments[name], before[name]) for name in before)  # inputs are left alone
    masked = arguments["ids"] == arguments["mask_id"]
    assert torch.equal(step.ids[step.revealed], step.sampled[step.revealed])
    assert (step.confidence[~masked] == 1).all() and (step.confidence > 0).all() and (step.confidence <= 1 + 1e-6).all()


@FEW
@given(st.integers(0, 300), st.integers(1, 40), st.sampled_from(["cosine", "linear"]))
def test_schedule_reveals_everything_and_never_nothing(n, count, kind):
    counts = kernels.schedule(n, count, kind)
    assert sum(counts) == n and len(counts) == min(n, count) and all(c >= 1 for c in counts)
    if kind == "linear" and counts:
        assert max(counts) - min(counts) <= 1


def test_cosine_schedule_is_maskgits():
    masked = torch.tensor([64 - sum(kernels.schedule(64, 8)[: i + 1]) for i in range(8)])
    expected = 64 * torch.cos(torch.pi / 2 * torch.arange(1, 9) / 8)
    assert (masked - expected).abs().max() <= 0.5 + 1e-4


def distributions():
    """Three masked positions whose order differs under every rule; the mask token is the last of five."""
    probs = torch.tensor([[0.50, 0.48, 0.01, 0.01], [0.45, 0.19, 0.18, 0.18], [0.40, 0.39, 0.2099, 0.0001]])
    return torch.cat([probs.log(), torch.full((3, 1), 50.0)], -1)[None], torch.full((1, 3), 4)


@pytest.mark.parametrize("order, first",
                         [("confidence", 0), ("entropy", 0), ("margin", 1), ("peak", 0), ("leftmost", 0)])
def test_orders_differ_where_they_should(order, first):
    logits, ids = distributions()
    step = kernels.unmask_step(logits, ids, 4, n_reveal=1, order=order)
    assert step.revealed[0].nonzero().item() == first
    torch.testing.assert_close(step.confidence[0], torch.tensor([0.50, 0.45, 0.40]))
    expected = torch.special.entr(logits[0, :, :4].softmax(-1)).sum(-1)
    torch.testing.assert_close(step.entropy[0], expected)


def test_entropy_and_confidence_can_disagree():
    probs = torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1], [0.55, 0.45, 0.0, 0.0, 0.0]])
    ids = torch.full((1, 2), 9)
    picks = [kernels.unmask_step(probs.log()[None], ids, 9, n_reveal=1, order=order).revealed[0].nonzero().item()
             for order in ("confidence", "entropy")]
    assert picks == [0, 1]


def first_draws(order: str) -> float:
    """Share of the likelier token where position 0 is drawn from (0.6, 0.4) beside a position at (0.55, 0.45)."""
    logits = torch.tensor([[0.6, 0.4], [0.55, 0.45]]).log().expand(4000, 2, 2)
    step = kernels.unmask_step(logits, torch.full((4000, 2), 9), 9, n_reveal=1, order=order, sampler=Sampler(),
                               generator=torch.Generator().manual_seed(0))
    return float((step.ids[step.revealed[:, 0], 0] == 0).float().mean())


def test_peak_does_not_let_the_draw_choose_the_position():
    """Revealing the surest *draw* favours likely tokens; the surest *position* leaves its distribution as it is."""
    assert abs(first_draws("peak") - 0.6) < 0.03 and abs(first_draws("leftmost") - 0.6) < 0.03
    assert first_draws("confidence") > 0.75, "the mutant that ranks drawn tokens must distort them"


def test_confidence_of_a_draw_is_its_own_probability_at_temperature_one():
    logits, ids = torch.randn(1, 50, 20), torch.full((1, 50), 30)
    step = kernels.unmask_step(logits, ids, 30, n_reveal=5, sampler=Sampler(2.0), generator=torch.Generator())
    expected = logits.softmax(-1).gather(-1, step.sampled[..., None])[..., 0]
    torch.testing.assert_close(step.confidence, expected)
    ranked = step.confidence[0].argsort(descending=True)[:5]
    assert set(ranked.tolist()) == set(step.revealed[0].nonzero()[:, 0].tolist())


def test_gumbel_noise_and_random_order_choose_any_position_and_seeds_repeat():
    logits, ids = distributions()
    make = torch.Generator().manual_seed(0)
    for settings_ in ({"order": "random"}, {"gumbel_temperature": 5.0}):
        picks = [kernels.unmask_step(logits, ids, 4, n_reveal=1, generator=make, **settings_).revealed[0]
                 .nonzero().item() for _ in range(60)]
        assert set(picks) == {0, 1, 2}
    one, two = (kernels.unmask_step(logits, ids, 4, n_reveal=2, order="random", sampler=Sampler(),
                                    generator=torch.Generator().manual_seed(7)).ids for _ in range(2))
    assert torch.equal(one, two)


def test_wrong_orders_and_shapes_are_refused():
    logits, ids = distributions()
    with pytest.raises(ValueError, match="confidence, entropy"):
        kernels.unmask_step(logits, ids, 4, n_reveal=1, order="best")
    with pytest.raises(ValueError, match="B, N, V"):
        kernels.unmask_step(logits[0], ids, 4, n_reveal=1)
    with pytest.raises(ValueError, match="cosine, linear"):
        kernels.schedule(4, 2, "sudden")


# Mutants.

def mutant_threshold(logits, ids, mask_id, n_reveal):
    """Reveals everything at least as confident as the n-th: with ties that is more than n."""
    step = kernels.unmask_step(logits, ids, mask_id, n_reveal=99)
    score = step.confidence.masked_fill(ids != mask_id, -1)
    revealed = (score >= score.topk(n_reveal).values[:, -1:]) & (ids == mask_id)
    return step._replace(revealed=revealed, ids=torch.where(revealed, step.sampled, ids))


def mutant_known_compete(logits, ids, mask_id, n_reveal):
    """Lets known tokens into the ranking: they take places of masked ones."""
    step = kernels.unmask_step(logits, ids, mask_id, n_reveal=99)
    first = torch.zeros_like(step.revealed).scatter(1, step.confidence.topk(n_reveal).indices, True)
    revealed = first & (ids == mask_id)
    return step._replace(revealed=revealed, ids=torch.where(revealed, step.sampled, ids))


def mutant_mask_proposed(logits, ids, mask_id, n_reveal):
    """Leaves the mask token in the vocabulary: a revealed position may still be masked."""
    sampled = logits.argmax(-1)
    return kernels.unmask_step(logits, ids, mask_id, n_reveal=n_reveal)._replace(ids=sampled)


@pytest.mark.parametrize("mutant", [mutant_threshold, mutant_known_compete, mutant_mask_proposed])
def test_mutants_are_refused(mutant):
    logits = torch.zeros(1, 6, 5)
    logits[..., 4] = 1.0
    arguments = {"logits": logits, "ids": torch.tensor([[4, 4, 2, 4, 4, 1]]), "mask_id": 4, "n_reveal": 2}
    check_step(kernels.unmask_step(**arguments), **arguments)
    with pytest.raises(AssertionError):
        check_step(mutant(**arguments), **arguments)
