"""Asking networks of the mazes (models/worlds/mazes.py), and judging them: walked greedily from left to right.

A causal network says the next token of what it reads. One that `sees_ahead` is called with ids, which of them are
visible and the first place to say; it answers with logits of all places.
Letters: B mazes, N tokens, P = N - PREFIX places of a path and its end, V words.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.worlds import mazes
from models.worlds.mazes import PREFIX
from models.worlds.world import END, PAD


def sees_ahead(model) -> bool:
    """Whether a network says any hidden place, and not the next alone."""
    return getattr(model, "sees_ahead", False)


@torch.inference_mode()
def told(model, ids: Tensor, visible: Tensor) -> Tensor:
    """Logits [B, P, V] of every place, from the ids that are visible, bool [B, N]; of a causal network from all before.
    """
    device = next(model.parameters()).device
    if sees_ahead(model):
        return model(ids.to(device), visible.to(device), PREFIX).float().cpu()
    return model(ids[:, :-1].to(device), use_cache=False).logits[:, PREFIX - 1 :].float().cpu()


def before(ids: Tensor, at: int) -> Tensor:
    """bool [B, N]: all tokens before this one."""
    return (torch.arange(ids.shape[1]) < at).expand(len(ids), -1)


def said(model, ids: Tensor, at: int) -> Tensor:
    """Logits [B, V] of token `at` of ids [B, N]; what stands there or behind it is not read."""
    return told(model, ids, before(ids, at))[:, at - PREFIX]


def looked(model, ids: Tensor, visible: Tensor, places: np.ndarray) -> tuple[np.ndarray, str]:
    """Who at which places of a maze looks at which token [L, H, R, N], and the kernel: the decoder's layers, or all of
    a causal network, at the token before; it does not read the last one."""
    with observe(model, want={"qk"}) as seen:
        told(model, ids, visible)
    layers, at = (list(seen)[-len(model.decoder) :], places) if sees_ahead(model) else (seen, PREFIX + places - 1)
    rows = np.stack([one.rows_for(torch.from_numpy(at))[0].float().cpu().numpy() for one in layers])
    return np.pad(rows, [(0, 0)] * 3 + [(0, ids.shape[1] - rows.shape[3])]), seen.path


def walked(model, asked: Sequence[mazes.Maze]) -> np.ndarray:
    """Token ids [B, P] of the paths that a network walks, PAD behind their end."""
    ids = torch.from_numpy(np.stack([mazes.ids(one) for one in asked]))
    ids[:, PREFIX:] = PAD
    for at in range(PREFIX, ids.shape[1]):
        over = (ids[:, PREFIX:at] == END).any(1)
        ids[:, at] = torch.where(over, PAD, said(model, ids, at).argmax(-1))
        if bool(over.all()):
            break
    return ids[:, PREFIX:].numpy()


def whole(asked: Sequence[mazes.Maze], paths: np.ndarray) -> np.ndarray:
    """1 or 0 for each maze [B]: the whole path, cell by cell, and its end. To arrive by a detour is not enough."""
    return (paths == np.stack([mazes.ids(one)[PREFIX:] for one in asked])).all(1).astype(float)


def first_forks(model, asked: Sequence[mazes.Maze]) -> np.ndarray:
    """1 or 0 for each maze with a fork: whether the step behind its first one is right, the path up to it given."""
    asked = [one for one in asked if one.forks]
    ids, found = torch.from_numpy(np.stack([mazes.ids(one) for one in asked])), np.zeros(len(asked))
    ahead = np.array([PREFIX + one.forks[0] + 1 for one in asked])
    for at in np.unique(ahead):
        here = np.flatnonzero(ahead == at)
        found[here] = (said(model, ids[here], int(at)).argmax(-1) == ids[here, at]).numpy()
    return found


def by_chance(asked: Sequence[mazes.Maze], back: bool = False) -> np.ndarray:
    """Percent of full paths for each maze [B] of who goes on at random, or (back) may turn back at any step as well."""
    return np.array([100 / np.prod([len(cells) + (back and step > 0) for step, cells in enumerate(one.choices)])
                     for one in asked])
