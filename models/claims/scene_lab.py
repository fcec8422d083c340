"""Shared by the claims on scenes: captions with known truth, pictures by the batch, and the parser's scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kernels import Sampler
from models.baselines.maskgit import method as maskgit
from models.checkpoints.store import Bundle, load
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
    parts = [asked[at : at + BATCH] for at in range(0, len(asked), BATCH)]
    return np.concatenate([read(part, paint(
        model, tokenizer, part, steps, torch.Generator().manual_seed(seed * 1000 + BATCH * number), order, guidance,
        noise, evaluate)) for number, part in enumerate(parts)])


def paint(model, tokenizer, asked, steps: int, generator: torch.Generator, order: str = "confidence",
          guidance: float = GUIDANCE, noise: float = NOISE, evaluate: Callable = plain) -> torch.Tensor:
    """Pictures [K, 3, h, w] of `base`, in one batch."""
    ids = torch.full((len(asked), model.grid[0] * model.grid[1]), model.mask_token_id)
    plan = Plan(moves(ids.shape[1], steps, maskgit.SCHEDULE), evaluate(model, conditions(asked), guidance), order,
                noise, Sampler(TEMPERATURE))
    *_, last = fill(ids, model.mask_token_id, plan, generator)
    with torch.inference_mode():
        return tokenizer.decode(last.ids.unflatten(1, model.grid))


def work(model, tokenizer, steps: int, evaluate: Callable = plain) -> int:
    """Multiply-adds of one picture of `base`, counted in a run."""
    board = boards(model, tokenizer, requests(1, 0))[0]
    plan = Plan(moves(board.unknown, steps, maskgit.SCHEDULE), evaluate(model, board.cond, GUIDANCE), noise=NOISE,
                sampler=Sampler(TEMPERATURE))
    return sum(turn.found.cost.macs for turn in fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)))


def conditions(asked: list[list[scenes.Thing]]) -> torch.Tensor:
    """Condition words int64 [K, C]."""
    return torch.from_numpy(np.stack([scenes.condition(scenes.caption(things)) for things in asked]))


def drawn(asked: list[list[scenes.Thing]]) -> torch.Tensor:
    """Pictures [K, 3, h, w] in 0..1 by program."""
    return torch.from_numpy(np.stack([scenes.draw(things) for things in asked])).permute(0, 3, 1, 2).float() / 255


def read(asked: list[list[scenes.Thing]], images: torch.Tensor) -> np.ndarray:
    """Scores [K] of pictures [K, 3, h, w] in 0..1."""
    return scores(asked, list((images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()))


def floor(asked: list[list[scenes.Thing]]) -> np.ndarray:
    """Scores [K] of a perfect scene for another caption: who reads no caption can do no better on average."""
    return scores(asked, [scenes.draw(things) for things in [*asked[1:], asked[0]]])


def scores(asked: list[list[scenes.Thing]], pictures: list[np.ndarray]) -> np.ndarray:
    return np.array([scenes.score(things, scenes.parse(picture)) for things, picture in zip(asked, pictures)])


def ceiling(tokenizer, asked) -> np.ndarray:
    """Scores [K] of drawn scenes after encoding and decoding: no model on these codes can do better."""
    with torch.inference_mode():
        return read(asked, tokenizer.decode(tokenizer.encode(drawn(asked))))
