"""The rule that fills holes without a network, by what colours border them."""
import torch

from models.loops.mask.photos import by_borders
from tests.traps import caught


def test_border_colours_look_at_what_borders_the_hole():
    """A photo that is red on the left and blue on the right: each piece goes home by its colour."""
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[:, 0, :, :32], pixels[:, 2, :, 32:] = 2.0, 2.0
    visible, holes = torch.tensor([[*range(4), *range(5, 7), *range(8, 16)]]), torch.tensor([[4, 7]])
    caught(lambda rule: rule(pixels, visible, holes, 16).tolist() == [[0, 1]],
           lambda *given: by_borders(*given).argmin(2), lambda *given: by_borders(*given).argmax(2))
    alone = torch.tensor([[0]]), torch.arange(1, 16)[None]  # a hole that borders no visible patch: the mean colour
    assert torch.isfinite(by_borders(pixels, *alone, 16)).all()
