"""SimMIM's encoder: one mask vector inside, and how far mask tokens stand from seen ones."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.backbones.simmim import heterogeneity, hiding
from models.backbones.vit_mae import decoder_states, set_positions
from models.loops.mask import photos
from tests import tiny as stand_ins
from tests.photo_nets import filled
from tests.photo_nets import photos as noise
from tests.traps import caught
from training.trunks import photo_mim


def mask(count: int = 3):
    return hiding(torch.rand(count, 64, generator=torch.Generator().manual_seed(3)), 39)


def pair_loop(x, hidden):
    """Jensen-Shannon divergence in bits, written as the spec's formula."""
    q = F.layer_norm(x[0, 1:], x.shape[-1:]).softmax(-1)
    kl = lambda p, m: (p * (p / m).log2()).sum()  # noqa: E731
    found = [(kl(q[i], m) + kl(q[j], m)) / 2 for i in range(len(q)) for j in range(len(q))
             if hidden[0, j] and not hidden[0, i] for m in [(q[i] + q[j]) / 2]]
    return float(torch.stack(found).mean())


def in_nats(x, hidden):
    return heterogeneity(x, hidden) * math.log(2)


def with_the_class_token(x, hidden):
    return heterogeneity(x.roll(1, 1), hidden)


def test_heterogeneity_is_a_divergence_of_mask_tokens_and_seen_ones_in_bits():
    x, hidden = torch.randn(1, 65, 12, generator=torch.Generator().manual_seed(1)), mask(1)
    caught(lambda f: float(f(x, hidden)) == pytest.approx(pair_loop(x, hidden), rel=1e-4), heterogeneity,
           in_nats, with_the_class_token)


def unchecked(x, hidden):  # pairs the wrong tokens where an encoder has left the hidden ones out
    return heterogeneity(F.pad(x, (0, 0, 0, 65 - x.shape[1])), hidden)


def test_no_heterogeneity_where_there_are_no_mask_tokens():
    """A plain MAE's encoder has the seen patches alone; its decoder has both."""
    mae, dice = stand_ins.mae(), torch.rand(1, 64)
    latents, order, hidden = photos.encode(mae, noise(1), dice, 39)

    def refuses(f):
        with pytest.raises(ValueError, match="not both"):
            f(latents, hidden > 0)
        with pytest.raises(ValueError, match="not both"):
            f(torch.randn(1, 65, 8), torch.zeros(1, 64, dtype=torch.bool))
    caught(refuses, heterogeneity, unchecked)
    states = decoder_states(mae, latents, order)
    assert torch.isfinite(heterogeneity(states[0], hidden > 0)).all()
    painted = mae.decoder.decoder_pred(mae.decoder.decoder_norm(states[-1]))[:, 1:]
    torch.testing.assert_close(painted, mae.decoder(latents, order).logits)


def test_mask_tokens_are_one_vector_inside_the_encoder():
    net, pixels = stand_ins.fresh("photo-mim-1").eval(), noise(1)
    other = torch.where(mask(1).view(1, 1, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3), 9.0, pixels)

    def blind(hidden):
        return torch.allclose(net(pixels, hidden).patches, net(other, hidden).patches, atol=1e-5)
    caught(blind, mask(1), torch.zeros_like(mask(1)))
    assert [x.shape[1] for x in net(pixels, mask(1)).states] == [65] * 3


def test_the_curve_keeps_every_photo_of_every_look_and_the_end(monkeypatch):
    monkeypatch.setattr(photo_mim, "LEARN", 8)
    monkeypatch.setattr(photo_mim, "CHECK", 8)
    made = filled(photo_mim.PhotoMIM, monkeypatch)
    made.config = stand_ins.mae_config
    made.val, made.truth = made.val.repeat(32, 1, 1, 1), made.truth.repeat(32)
    made.final(set_positions(made.build()))
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(made.curve[-1]["hits"]), np.uint8))
    assert made.curve[-1]["step"] == made.steps and 100 * bits[:8].mean() == made.curve[-1]["probe"]


def test_pixels_that_are_seen_cost_nothing():
    net, pixels, hidden = stand_ins.fresh("photo-mim-1").eval(), noise(), mask()
    made, target = net(pixels, hidden), net.patchify(pixels)
    per = (made.patches - target).abs().mean(-1)
    caught(lambda told: torch.allclose(made.error(target, hidden).mean(), told), per[hidden].mean(), per.mean(),
           (per**2)[hidden].mean())
