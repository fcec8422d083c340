"""HPM's losses, mask and network against plain loops, with the wrong versions they must tell apart."""
import math

import pytest
import torch
from transformers import ViTMAEConfig

from models.backbones.vit_mae import set_positions
from models.papers.hpm import network as hpm_net


def network():
    torch.manual_seed(0)
    model = hpm_net.HpmForPreTraining(ViTMAEConfig(
        image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=32, mask_ratio=0.75)).eval()
    set_positions(model)
    return model


def pair_loop(scores, losses):
    """The relative loss, written as the spec's sentence."""
    total, pairs = 0.0, 0
    for s, ell in zip(scores.tolist(), losses.tolist(), strict=True):
        for i in range(len(s)):
            for j in range(len(s)):
                if ell[i] != ell[j]:
                    p = 1 / (1 + math.exp(-(s[i] - s[j])))
                    total -= math.log(p + 1e-6) if ell[i] > ell[j] else math.log(1 - p + 1e-6)
                    pairs += 1
    return total / pairs


def across_pictures(scores, losses):
    """Mutant: compares patches of different pictures."""
    return hpm_net.relative_loss(scores.reshape(1, -1), losses.reshape(1, -1))


def squared(scores, losses):
    """Mutant: regresses the loss values themselves."""
    return (scores - losses).pow(2).mean()


def test_the_relative_loss_is_the_pair_loop():
    torch.manual_seed(1)
    scores, losses = torch.randn(3, 7), torch.rand(3, 7)
    losses[0, 1] = losses[0, 2]  # a tie is no pair
    wanted = pytest.approx(pair_loop(scores, losses), rel=1e-5)
    assert hpm_net.relative_loss(scores, losses).item() == wanted
    for mutant in (across_pictures, squared, hpm_net.absolute_loss):
        assert mutant(scores, losses).item() != wanted


def test_only_the_order_within_a_picture_matters():
    torch.manual_seed(2)
    scores, losses = torch.randn(2, 6), torch.rand(2, 6)
    scaled = losses * torch.tensor([[1.0], [50.0]]) + torch.tensor([[0.0], [9.0]])
    same = lambda f: torch.allclose(f(scores, losses), f(scores, scaled))  # noqa: E731
    assert same(hpm_net.relative_loss)
    assert not same(across_pictures)
    assert not same(squared)


def test_losses_are_a_target_without_gradient_and_latents_are_not_detached():
    model, pixels = network(), torch.randn(2, 3, 32, 32)
    rebuilt, scores, mask = model.both(pixels, torch.rand(2, 16))
    ell = hpm_net.patch_loss(rebuilt, model.patchify(pixels))
    hpm_net.relative_loss(scores, ell).backward()
    assert model.decoder.decoder_pred.weight.grad is None
    assert model.vit.layers[0].mlp.fc1.weight.grad.abs().sum() > 0
    assert mask.sum(1).tolist() == [12, 12]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_mask_has_the_hardest_and_then_any_others(alpha):
    scores, generator = torch.randn(4, 64), torch.Generator().manual_seed(0)
    noise, hard = hpm_net.hard_mask(scores, alpha, 0.75, generator)
    hidden = noise.argsort(1).argsort(1) >= 16
    assert hidden.sum(1).tolist() == [48] * 4
    assert hard.sum(1).tolist() == [int(48 * alpha)] * 4
    assert (hidden | ~hard).all()
    for s, h in zip(scores, hard, strict=True):
        assert not h.any() or s[h].min() >= s[~h].max()


def test_the_random_part_is_random_and_follows_the_seed():
    scores = torch.randn(1, 64)
    draw = lambda seed: hpm_net.hard_mask(scores, 0.5, 0.75, torch.Generator().manual_seed(seed))[0]  # noqa: E731
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_the_teacher_sees_every_patch():
    model, pixels = network(), torch.randn(1, 3, 32, 32)
    changed = pixels.clone()
    changed[:, :, -8:, -8:] += 1  # the last patch
    moved = (model.difficulty(pixels) - model.difficulty(changed)).abs()
    assert moved.shape == (1, 16)
    assert moved[0, 0] > 1e-7
    _, masked, _ = model.both(pixels, torch.arange(16.0)[None])  # mutant: a teacher that has a mask
    _, masked_too, _ = model.both(changed, torch.arange(16.0)[None])
    assert torch.equal(masked, masked_too)


def test_positions_are_set_and_survive_saving(tmp_path):
    model = network()
    model.save_pretrained(tmp_path)
    again = hpm_net.HpmForPreTraining.from_pretrained(tmp_path)
    for table in (again.vit.embeddings.position_embeddings, again.decoder.decoder_pos_embed,
                  again.loss_predictor.decoder_pos_embed):
        assert table[0, 1:].unique(dim=0).shape[0] == 16
    assert again.loss_predictor.decoder_pred.out_features == 1
