"""Games as a network reads them, what stands on the board meanwhile, and networks that never learned.

A state is read where the network has read the moves before t and says move t: what can be told from it is the board
BEFORE that move, seen by the player who is to make it. Letters: B games, T moves, S squares, N states, L layers.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.backbones.layer_lens import LayerLens, residuals
from models.loops.sample.cached_lm import log_probabilities
from models.worlds import othello
from models.worlds.world import SPECIALS

GPT, LENS = "algo-othello-1", "algo-othello-lens-1"
MINE, COLOUR, UNTRAINED = "mine", "colour", "untrained"  # sets of linear maps
SAID = {MINE: "mine and theirs", COLOUR: "black and white", UNTRAINED: "untrained network"}
FIRST = len(SPECIALS)  # the id of square a1
EARLY, LATE = 4, 28  # of 32 moves, the first and the last board that count; the paper's window is 4 to 55 of 59


def counted(games: othello.Games) -> np.ndarray:
    """bool [B, T + 1]: the boards that count."""
    t = np.arange(games.mine.shape[1])
    return (t >= EARLY) & (t <= LATE) & (t <= games.lengths[:, None])


def states_of(model, games: othello.Games) -> Tensor:
    """States [N, L + 1, D] of the boards that count, in half precision."""
    ids, which = torch.from_numpy(othello.ids(games.moves)), torch.from_numpy(counted(games))
    return torch.cat([residuals(model, part)[here].half() for part, here in zip(ids.split(100), which.split(100))])


@torch.no_grad()
def legality(model, games: othello.Games) -> dict[str, np.ndarray]:
    """Of each game [B]: percent of likeliest moves that are legal, and of empty squares that are; and the KL (nats) of
    the network's moves from a legal one drawn at random."""
    legal, moving = games.legal, np.arange(othello.LONGEST + 1) < games.lengths[:, None]
    logp = np.concatenate([log_probabilities(model(ids, use_cache=False).logits).numpy()[..., FIRST:]
                           for ids in torch.from_numpy(othello.ids(games.moves)).split(100)])
    count = np.maximum(legal.sum(-1), 1)
    found = {"legal": 100.0 * np.take_along_axis(legal, logp.argmax(-1)[..., None], -1)[..., 0],
             "chance": 100 * count / np.maximum((games.boards == 0).sum(-1), 1),
             "KL": -np.log(count) - (logp * legal).sum(-1) / count}
    return {name: np.array([row[here].mean() for row, here in zip(rows, moving, strict=True)])
            for name, rows in found.items()}


def untrained(model):
    """A network of the same shape that learned nothing; always the same."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return type(model)(model.config).float().eval()


STAND_INS = {LENS: lambda bundle: LayerLens.beside(bundle(GPT).model, readings=tuple(SAID), features=12)}
