"""Light on a scene's empty ground: clouds and grain, too faint to be read as anything but background.

A clean scene leaves a reader nothing to guess but what stands where: each of its 241 patches has one code. Photographs
are not so, a piece of sky can be painted by hundreds of codes. Light brings that in, and is a word of the caption: the
ground glows in soft clouds, and every lit patch has its own brightness and tilt. Objects are not lit.
"""
import numpy as np

BRIGHTEST = 33 / 255  # added to all three colours; from 35 on `scenes.parse` would no longer read background
CLOUDS, GRAIN, TILT = 14 / 255, 2.5 / 255, 1.2 / 255  # standard deviations; TILT per pixel
APART = 4  # patches between the cloud field's random values
PATCH = 4  # pixels


def patches(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    """Light of the patches of `count` pictures, float32 [count, side, side, 16] in 0..BRIGHTEST, 0 where it is dark."""
    mean = CLOUDS * clouds(rng, count, side) + GRAIN * rng.standard_normal((count, side, side))
    slopes = TILT * rng.standard_normal((2, count, side, side, 1, 1))
    y, x = np.mgrid[:PATCH, :PATCH] - (PATCH - 1) / 2
    lit = mean[..., None, None] + slopes[0] * y + slopes[1] * x  # [count, side, side, 4, 4]
    lit = np.where(mean[..., None, None] > 0, lit.clip(0, BRIGHTEST), 0)
    return lit.reshape(count, side, side, PATCH * PATCH).astype(np.float32)


def clouds(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    """A smooth random field [count, side, side]: normal values every APART patches, cosine-blended in between."""
    knots = -(-side // APART) + 2
    values, blend = rng.standard_normal((count, knots, knots)), weights(rng, side, knots)
    return np.einsum("yi,nij,xj->nyx", blend, values, weights(rng, side, knots))


def weights(rng: np.random.Generator, side: int, knots: int) -> np.ndarray:
    """How much each patch [side] takes from each knot [knots], shifted at random so that no patch is special."""
    at = (np.arange(side) + rng.random() * APART) / APART
    near = np.clip(1 - abs(at[:, None] - np.arange(knots)), 0, 1)
    smooth = 0.5 - 0.5 * np.cos(np.pi * near)
    return smooth / np.sqrt((smooth**2).sum(1, keepdims=True))
