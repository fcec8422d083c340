"""A second view of a photo: nearly aligned, in other colours."""

import torch
from torch.nn import functional as F

from models.backbones import photo_views as views
from tests.photo_nets import photos
from tests.traps import caught, dice


def far_away(pixels, generator):
    return pixels.roll(4, -1)


def test_view_v_is_nearly_aligned_and_only_its_colours_change_much():
    u = photos(6)
    near = torch.stack([F.pad(side, (1, 1, 1, 1), mode="reflect")[..., y : y + 64, x : x + 64]
                        for side in (u, u.flip(-1)) for y in range(3) for x in range(3)])  # [18, B, 3, S, S]
    caught(lambda move: ((near - move(u, dice())).abs().amax((2, 3, 4)).min(0).values < 1e-5).all(), views.moved,
           far_away)


def test_colours_stay_colours_and_fade_with_the_strength():
    u, colours = photos(6), torch.rand(6, 3, 64, 64, generator=dice())
    turned = views.hues(colours * 0.2 + 0.4, torch.full((6, 1, 1, 1), 0.6))
    assert torch.allclose(views.grey(turned), views.grey(colours * 0.2 + 0.4), atol=1e-3), "a hue keeps its brightness"
    for one in (views.jitter(colours, dice()), views.one_of_three(colours, dice())):
        assert one.min() >= 0 and one.max() <= 1 + 1e-5 and not torch.equal(one, colours)
    still, as_trained = (views.second_view(u.clamp(-1, 1), dice(), much) for much in (0.0, 1.0))
    assert torch.allclose(still, views.moved(u.clamp(-1, 1), dice()), atol=1e-5) and not torch.equal(still, as_trained)
