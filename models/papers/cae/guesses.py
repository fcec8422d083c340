"""How good CAE's guesses are: cosines with what the encoder says of the hidden patches, and codes named right.

Features share a large mean, so plain cosines are high for any pair: they are taken around `centre`, the mean of Z* over
200 photos. Two controls: a hidden patch of another photo (shuffled), and the same place of another photo under the same
mask, which a guess from positions alone would fit as well. Letters as in network.py.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

CODES = 512  # of photo-vq-1
RIGHT, NATS, TRUE = "codes named right", "surprise at the right code", "guessed and true features"
OTHER, PLACE = "guess and another photo's features", "guess and another photo's, same place"
PLAIN = "guessed and true features, not centred", "guess and another photo's, not centred"
UNITS = {RIGHT: "% of hidden patches", NATS: "nats per hidden patch"}


class Guess(NamedTuple):
    """Z_V [B, V, D], Z^_M [B, M, D] (None without a regressor), logits [B, M, C], and of every block of the regressor
    q [B, H, M, d] and k [B, H, V + M, d], visible keys first."""

    seen: Tensor
    latents: Tensor | None
    logits: Tensor
    looks: list[tuple[Tensor, Tensor]]


def said_of(model, pixels: Tensor, hidden: Tensor) -> Tensor:
    """Z* [K, M, D] of many photos."""
    return torch.cat([model.target(*some) for some in zip(pixels.split(100), hidden.split(100))])


@torch.no_grad()
def examined(model, codebook, pixels: Tensor, visible: Tensor, hidden: Tensor) -> dict[str, Tensor]:
    """Per photo [K], means over its hidden patches: % of codes right and nats of the right one; with a regressor,
    cosines of its guesses with the encoder's features of the same patches, of others, and without `centre`."""
    true = codebook.encode_normalised(pixels).flatten(1).gather(1, hidden)
    made = [model(*part)[1:3] for part in zip(pixels.split(100), visible.split(100), hidden.split(100))]
    logits = torch.cat([one for _, one in made]).float()
    nats = cross_entropy(logits.transpose(1, 2), true, reduction="none").mean(1)
    found = {RIGHT: 100 * (logits.argmax(-1) == true).float().mean(1), NATS: nats}
    if made[0][0] is None:
        return found
    guessed, own = torch.cat([one for one, _ in made]), said_of(model, pixels, hidden)
    centre = model.centre if model.centre.any() else own.mean((0, 1))
    others, same = own.roll(1, 0), said_of(model, pixels.roll(1, 0), hidden)
    pairs = {TRUE: (own, centre), OTHER: (others, centre), PLACE: (same, centre), PLAIN[0]: (own, 0.0),
             PLAIN[1]: (others, 0.0)}
    return found | {name: cosine_similarity(guessed.float() - mid, one.float() - mid, dim=-1).mean(1)
                    for name, (one, mid) in pairs.items()}
