"""Tokens of scales: residual maps that add up to the picture; and scene-mvq-1's recipe: unused entries start again."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.backbones.pictures import from_uint8
from models.backbones.scales import SCALES, down, up
from models.worlds import scenes
from tests.traps import caught
from training.trunks import scene_mvq
from training.trunks.scene_mvq import SceneMVQ

ATOL = 2e-4
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def parts(tiny):
    """Tokenizer and three pictures."""
    return tiny.fresh("scene-mvq-1").requires_grad_(False), from_uint8(scenes.pictures(scenes.several(3, 3)))


def naive(tokenizer, f, *, residual=True, filtered=True, area="area", cubic="bicubic"):
    """ids [B, L] and f_hat by the paper's steps, with torch's own resizing; the switches are the known mistakes."""
    rest, total, ids = f.clone(), torch.zeros_like(f), []
    for scale, side in enumerate(tokenizer.scales):
        small = rest if side == tokenizer.side else F.interpolate(rest, size=(side, side), mode=area)
        rows = small.permute(0, 2, 3, 1).reshape(-1, tokenizer.channels)
        found = ((rows[:, None] - tokenizer.entries) ** 2).sum(-1).argmin(1).reshape(len(f), side, side)
        h = tokenizer.entries[found].permute(0, 3, 1, 2)
        h = h if side == tokenizer.side else F.interpolate(h, size=(tokenizer.side,) * 2, mode=cubic)
        wide = tokenizer.phi_of(scale)(h)
        total = total + wide
        rest = rest - (wide if filtered else h) if residual else rest
        ids.append(found.flatten(1))
    return torch.cat(ids, 1), total


def test_tokens_are_the_papers(parts):
    tokenizer, pictures = parts
    f = tokenizer.features(pictures)
    found = tokenizer.quantise(f)
    caught(lambda mistake: torch.equal(naive(tokenizer, f, **mistake)[0], found.ids), {},
           {"residual": False}, {"filtered": False}, {"area": "bicubic"}, {"cubic": "nearest"})
    assert torch.allclose(found.sums[-1], naive(tokenizer, f)[1], atol=ATOL)
    assert torch.equal(tokenizer.encode(pictures), found.ids) and tokenizer.decode(found.ids).shape == pictures.shape
    for one, other in zip(tokenizer.sums(found.ids), found.sums, strict=True):
        assert torch.allclose(one, other, atol=ATOL), "decoding sums what encoding took"


def test_maps_add_up_to_the_features(parts):
    """With residuals the sum comes close; an independently quantised pyramid is several pictures on top of another."""
    tokenizer, pictures = parts
    f = tokenizer.features(pictures)
    rows = f.permute(0, 2, 3, 1).flatten(0, 2)
    tokenizer.entries.data = torch.cat([torch.zeros(1, rows.shape[1]), rows[:: len(rows) // 63][:63]])
    for phi in tokenizer.phi:
        nn.init.dirac_(phi.conv.weight)
    off = [float((naive(tokenizer, f, residual=flag)[1] - f).pow(2).mean()) for flag in (True, False)]
    caught(lambda error: error < f.pow(2).mean(), *off)
    assert off[1] > 4 * off[0]


@pytest.mark.parametrize("side", SCALES)
def test_resizing_is_torchs(side):
    small, large = torch.randn(2, 3, side, side), torch.randn(2, 3, 8, 8)
    assert torch.allclose(up(small, 8), small if side == 8 else F.interpolate(small, size=(8, 8), mode="bicubic"),
                          atol=1e-5)
    assert torch.allclose(down(large, side), F.adaptive_avg_pool2d(large, side), atol=1e-5)


def test_four_phis_serve_six_scales(parts):
    tokenizer, x = parts[0], torch.randn(1, 10, 4, 4)
    chosen = [list(tokenizer.phi).index(tokenizer.phi_of(scale)) for scale in range(6)]
    caught(lambda wanted: chosen == wanted, [0, 0, 1, 2, 3, 3], [scale * 4 // 6 for scale in range(6)])  # equal shares
    assert torch.allclose(tokenizer.phi[0](x), 0.5 * x + 0.5 * tokenizer.phi[0].conv(x))


def test_the_first_token_knows_where_things_are(parts):
    """Two pictures of one object at different places: without the overview their means, and so r_1, are the same."""
    tokenizer, *_ = parts
    pictures = scenes.pictures([[scenes.Thing("red", "circle", cell)] for cell in (0, 10)])
    tokenizer.layouts.data = torch.eye(48)[:16]
    z = tokenizer.features(from_uint8(pictures)).mean((2, 3))
    caught(lambda z: not torch.allclose(z[0], z[1], atol=0.01), z[:, tokenizer.local :], z[:, : tokenizer.local])


@torch.no_grad()
def test_only_idle_entries_start_again(tiny):
    made, model = SceneMVQ(0), tiny.fresh("scene-mvq-1")
    made.idle = torch.zeros(model.codebook_size)
    made.idle[[4, 9]] = made.patience + 1
    made.missed = torch.full((6, 10), 7.0), torch.ones(6, 10)
    before = model.entries.clone()
    made.after_step(model, 0, 0.1)
    changed = (model.entries != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [4, 9] and (model.entries[[4, 9]] == 7).all() and not made.idle.any()
    made.idle[4] = made.patience + 1
    model.entries[4] = 0.0
    made.after_step(model, 0, 0.9)
    assert not model.entries[4].any(), "near the end the codebook stays as it is"


def test_the_codebook_starts_where_features_are():
    points, error = torch.arange(4.0)[:, None], torch.tensor([[0.0], [0.0], [3.0], [0.0]])
    assert set(scene_mvq.loudest(points, error, 50)[:, 0].tolist()) == {2.0}, "the loudest are drawn by their error"
    points = torch.from_numpy(np.repeat(np.eye(3, dtype=np.float32), 4, axis=0))
    assert torch.cdist(points, scene_mvq.k_means(points, 8)).amin(1).max() < 1e-5, "few points are their own centres"
