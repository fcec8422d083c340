"""Shared by the claims on scenes: captions with known truth, pictures by the batch, and the parser's scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kernels import Sampler
from models.backbones.pictures import from_uint8, to_uint8
from models.baselines.maskgit import method as maskgit
from models.checkpoints.store import Bundle, load
from models.claims.arms import Arm, Budget, Metric
from models.loops.unmask.canvases import Board, scene_board
from models.loops.unmask.loop import Full, Move, Plan, Reveal, fill, moves
from models.worlds import scenes

DEFAULTS = maskgit.Params()
GUIDANCE, UNTIL, NOISE, TEMPERATURE = DEFAULTS.guidance, DEFAULTS.until, DEFAULTS.noise, DEFAULTS.temperature
BATCH = 32
Steps = int | Sequence[Move]  # so many full passes, or these


@dataclass(frozen=True, eq=False)
class Captions:
    """What all arms of a claim paint: for every seed some scenes, of which only the captions are told; and the parser's
    score on all of them."""

    groups: tuple[tuple[int, list[list[scenes.Thing]]], ...]
    score: Metric

    @classmethod
    def of(cls, each: int, seeds: Sequence[int], tokenizer, floor: bool = True) -> Captions:
        """`each` scenes per seed. The ceiling is what the tokenizer's codes allow; floor: `floor`, else 0."""
        groups = tuple((seed, scenes.several(each, seed)) for seed in seeds)
        asked = [things for _, group in groups for things in group]
        low = floor_of(asked) if floor else 0
        return cls(groups, Metric("parser score", "of 1", floor=low, ceiling=ceiling(tokenizer, asked)))

    def filled(self, model, tokenizer, steps: Steps, first: int | None = None, **how) -> np.ndarray:
        """Scores [K] of what `base` makes of all groups; first: only of so many scenes of each."""
        return np.concatenate([base(model, tokenizer, things[:first], steps, seed, **how)
                               for seed, things in self.groups])

    def arm(self, name: str, scores: np.ndarray, macs: float, checkpoints, **options) -> Arm:
        """macs: multiply-adds of one picture."""
        return self.score.arm(name, scores, budget=Budget(macs / 1e9, "G multiply-adds"), checkpoints=checkpoints,
                              **options)


def grown(groups, paint: Callable, *setting, **options) -> tuple[np.ndarray, float]:
    """Scores [K], and multiply-adds of one picture, of what grows behind a cache: paint(scenes, generator, *setting)
    answers pictures and the steps that drew them."""
    found, spent = [], 0
    for seed, things in groups:
        images, steps = paint(things, torch.Generator().manual_seed(seed), *setting, **options)
        found.append(read(things, images))
        spent = sum(one.cost.macs for one in steps) / len(things)
    return np.concatenate(found), spent


def bundles(dtype: str = "bfloat16") -> tuple[Bundle, Bundle]:
    """The picture model and its tokenizer; bf16 because claims run many passes."""
    return load("scene-mgm-1", dtype=dtype), load("scene-vq-1")


def boards(model, tokenizer, asked: list[list[scenes.Thing]]) -> list[Board]:
    return [scene_board(model, tokenizer, scenes.caption(things)) for things in asked]


def plain(model, cond, guidance: float) -> Full:
    """The base model's passes, guided as long as in the tab."""
    return Full(model, cond, guidance, until=UNTIL)


def base(model, tokenizer, asked, steps: Steps, seed: int, order: str = "confidence", guidance: float = GUIDANCE,
         noise: float = NOISE, evaluate: Callable = plain, batch: int = BATCH) -> np.ndarray:
    """Scores [K] of the base model at `steps` full passes, or of what `evaluate(model, cond, guidance)` makes of it."""
    parts = [asked[at : at + batch] for at in range(0, len(asked), batch)]
    return np.concatenate([read(part, paint(
        model, tokenizer, part, steps, torch.Generator().manual_seed(seed * 1000 + batch * number), order, guidance,
        noise, evaluate)) for number, part in enumerate(parts)])


def paint(model, tokenizer, asked, steps: Steps, generator: torch.Generator, order: str = "confidence",
          guidance: float = GUIDANCE, noise: float = NOISE, evaluate: Callable = plain) -> torch.Tensor:
    """Pictures [K, 3, h, w] of `base`, in one batch."""
    *_, last = turns(model, conditions(asked), steps, generator, evaluate, guidance, noise, order=order)
    with torch.inference_mode():
        return tokenizer.decode(last.ids.unflatten(1, model.grid))


def turns(model, cond: torch.Tensor, steps: Steps, generator: torch.Generator, evaluate: Callable = plain,
          guidance: float = GUIDANCE, noise: float = NOISE, temperature: float = TEMPERATURE,
          order: str = "confidence") -> Iterator[Reveal]:
    """The loop that fills in empty pictures under condition words [K, C], move by move."""
    ids = torch.full((len(cond), model.grid[0] * model.grid[1]), model.mask_token_id)
    planned = moves(ids.shape[1], steps, maskgit.SCHEDULE) if isinstance(steps, int) else steps
    plan = Plan(planned, evaluate(model, cond, guidance), order, noise, Sampler(temperature))
    return fill(ids, model.mask_token_id, plan, generator)


def work(model, steps: Steps, evaluate: Callable = plain) -> int:
    """Multiply-adds of one picture of `base`, counted in a run."""
    one = conditions(scenes.several(1, 0))
    return sum(turn.found.cost.macs for turn in turns(model, one, steps, torch.Generator().manual_seed(0), evaluate))


def conditions(asked: list[list[scenes.Thing]]) -> torch.Tensor:
    """Condition words int64 [K, C]."""
    return torch.from_numpy(scenes.conditions(asked))


def drawn(asked: list[list[scenes.Thing]]) -> torch.Tensor:
    """Pictures [K, 3, h, w] in 0..1 by program."""
    return from_uint8(scenes.pictures(asked))


def read(asked: list[list[scenes.Thing]], images: torch.Tensor) -> np.ndarray:
    """Scores [K] of pictures [K, 3, h, w] in 0..1."""
    return scenes.scores(asked, to_uint8(images.float()))


def floor_of(asked: list[list[scenes.Thing]]) -> np.ndarray:
    """Scores [K] of a perfect scene for another caption: who reads no caption can do no better on average."""
    return scenes.scores(asked, scenes.pictures([*asked[1:], asked[0]]))


def ceiling(tokenizer, asked) -> np.ndarray:
    """Scores [K] of drawn scenes after encoding and decoding: no model on these codes can do better."""
    with torch.inference_mode():
        return read(asked, tokenizer.decode(tokenizer.encode(drawn(asked))))
