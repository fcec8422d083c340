"""Shared by the claims on scenes: captions with known truth, pictures by the batch, and the parser's scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kernels import Sampler
from models.baselines.maskgit import method as maskgit
from models.checkpoints.store import Bundle, load
from models.claims import Row, row
from models.loops.unmask.canvases import Board, scene_board
from models.loops.unmask.loop import Full, Plan, fill, moves
from models.worlds import scenes

DEFAULTS = maskgit.Params()
GUIDANCE, UNTIL, NOISE, TEMPERATURE = DEFAULTS.guidance, DEFAULTS.until, DEFAULTS.noise, DEFAULTS.temperature
BATCH = 32


def bundles(dtype: str = "bfloat16") -> tuple[Bundle, Bundle]:
    """The picture model and its tokenizer; bf16 because claims run many passes."""
    return load("scene-mgm-1", dtype=dtype), load("scene-vq-1")


def requests(count: int, seed: int) -> list[list[scenes.Thing]]:
    """Scenes as they are drawn; their captions are what is asked."""
    rng = np.random.default_rng(seed)
    return [scenes.sample(rng) for _ in range(count)]


def boards(model, tokenizer, asked: list[list[scenes.Thing]]) -> list[Board]:
    return [scene_board(model, tokenizer, scenes.caption(things)) for things in asked]


def plain(model, cond, guidance: float) -> Full:
    """The base model's passes, guided as long as in the tab."""
    return Full(model, cond, guidance, until=UNTIL)


def base(model, tokenizer, asked, steps: int, seed: int, order: str = "confidence", guidance: float = GUIDANCE,
         noise: float = NOISE, evaluate: Callable = plain) -> np.ndarray:
    """Scores [K] of the base model at `steps` full passes, or of what `evaluate(model, cond, guidance)` makes of it."""
    found = []
    for at in range(0, len(asked), BATCH):
        group = boards(model, tokenizer, asked[at : at + BATCH])
        cond = torch.cat([board.cond for board in group])
        ids = torch.cat([board.ids for board in group])
        plan = Plan(moves(ids.shape[1], steps, maskgit.SCHEDULE), evaluate(model, cond, guidance), order, noise,
                    Sampler(TEMPERATURE))
        *_, last = fill(ids, group[0].mask_id, plan, torch.Generator().manual_seed(seed * 1000 + at))
        found += [group[0].paint(row[None]) for row in last.ids]
    return scores(asked, found)


def scores(asked: list[list[scenes.Thing]], pictures: list[np.ndarray]) -> np.ndarray:
    return np.array([scenes.score(things, scenes.parse(picture)) for things, picture in zip(asked, pictures)])


def ceiling(tokenizer, asked) -> np.ndarray:
    """Scores [K] of drawn scenes after encoding and decoding: no model on these codes can do better."""
    drawn = np.stack([scenes.draw(things) for things in asked])
    pixels = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        again = tokenizer.decode(tokenizer.encode(pixels)).permute(0, 2, 3, 1)
    return scores(asked, list((again * 255).round().to(torch.uint8).numpy()))


def versus(name: str, ours: np.ndarray, full: dict[int, np.ndarray], cost: dict, budget: float) -> Row:
    """Paired difference to the base model at the same budget, interpolated per caption between its step counts."""
    steps = sorted(full)
    spent = np.array([cost[t] for t in steps], float)
    spent = np.maximum.accumulate(spent) + np.arange(len(spent)) * 1e-9  # measured times may tie
    table = np.stack([full[t] for t in steps])  # [T, K]
    at = np.clip(np.interp(budget, spent, np.arange(len(steps))), 0, len(steps) - 1)
    low, share = int(at), at - int(at)
    beside = table[low] * (1 - share) + table[min(low + 1, len(steps) - 1)] * share
    return row(name, ours - beside, "score", expected="> 0", holds=bool((ours - beside).mean() > 0))
