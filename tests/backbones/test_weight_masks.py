"""A network with some of its weights: a second network, not the first one changed; hard in the end; one bit each."""

import pytest
import torch

from models.backbones import delta, weight_masks
from training.export import read_shipped
from training.kinds import Bits


@pytest.fixture
def half(tiny):
    """A network, and masks that keep half of its weights."""
    model, dice = tiny.bundle("text-ar-1").model, torch.Generator().manual_seed(0)
    weights = weight_masks.maskable(model)
    return model, {name: torch.rand(one.shape, generator=dice) < 0.5 for name, one in weights.items()}


def test_the_network_stays_whole_and_shares_what_is_not_masked(half):
    model, masks = half
    before = {name: one.clone() for name, one in model.state_dict().items()}
    part, ids = weight_masks.partial(model, masks), torch.arange(3, 20)[None]
    answer = part(ids).logits
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    assert part.get_input_embeddings().weight is model.get_input_embeddings().weight
    torch.testing.assert_close(answer, weight_masks.call(model, masks, ids).logits)
    assert not torch.allclose(answer, model(ids).logits)


def test_a_mask_and_its_inverse_are_the_whole(half):
    model, masks = half
    one, other = (weight_masks.maskable(weight_masks.partial(model, some))
                  for some in (masks, weight_masks.inverted(masks)))
    for name, weight in weight_masks.maskable(model).items():
        torch.testing.assert_close(one[name] + other[name], weight)
    assert weight_masks.kept(masks) + weight_masks.kept(weight_masks.inverted(masks)) == pytest.approx(1)


def test_the_largest_are_the_largest_of_every_matrix(half):
    model, masks = half
    found, weights = weight_masks.largest(model, masks), weight_masks.maskable(model)
    for name, mask in masks.items():
        assert found[name].sum() == mask.sum()
        assert weights[name][found[name]].abs().min() >= weights[name][~found[name]].abs().max()


@pytest.fixture
def scored(tiny):
    """A recipe for masks, and scores on both sides of 0."""
    recipe = Bits(0)
    recipe.trunk, recipe.base = "text-ar-1", tiny.fresh("text-ar-1").requires_grad_(False)
    return recipe, drawn(recipe.build())


def drawn(scores):
    for score in scores.scores:
        torch.nn.init.normal_(score, std=0.1)
    return scores


def test_a_mask_is_a_step_at_the_end(scored):
    recipe, scores = scored
    soft = recipe.soft(scores, 1.0)
    assert all(torch.equal(soft[name] > 0.5, hard) for name, hard in scores.hard().items())
    recipe.load_state(recipe.state())  # an interrupted run knows its slope
    assert recipe.final(scores) is scores and recipe.undecided < recipe.enough
    recipe.soft(scores, 0.0)
    assert recipe.final(scores) is scores and recipe.undecided > recipe.enough


@pytest.mark.weights
def test_a_mask_is_shipped_at_one_bit_and_refused_on_another_trunk(tmp_path, shipped):
    shipped("text-ar-1")
    recipe = Bits(0)
    recipe.trunk, recipe.base = "text-ar-1", read_shipped("text-ar-1")
    scores = drawn(recipe.build())
    recipe.save(scores.half(), tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 500_000
    masks, whole = weight_masks.found(recipe.read(tmp_path)), weight_masks.maskable(recipe.base)
    assert all(torch.equal(masks[name], mask & (whole[name] != 0)) for name, mask in scores.hard().items())
    other = delta.Trunk("text-ar-1", "another", recipe.base.state_dict())
    with pytest.raises(ValueError, match="is a difference to text-ar-1"):
        delta.read_difference(tmp_path / "model.safetensors", lambda name: other)
