"""What is filled in: a picture's codes under a caption or a free prompt, or a text with masked tokens, as tensors and
as a canvas.

Letters: N canvas tokens, V vocabulary, C condition words.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.backbones.text import names, read
from models.trace import Canvas, Fact
from models.trace.subject import SubjectError
from models.worlds import scenes

BLANK = re.compile(r" ?_{3,}")  # the space before a word belongs to its first token
MOST_TOKENS = 512
EMPTY = 217  # grey of a cell that is not filled in yet


@dataclass(frozen=True, eq=False)
class Board:
    """ids int64 [1, N] with mask_id where unknown; forbidden: ids that are never proposed; names(id): how a token
    reads; cond: what the backbone is told; paint(ids [1, N]) -> uint8 [h, w, 3] for pictures."""

    canvas: Canvas
    ids: Tensor
    mask_id: int
    names: Callable[[int], str]
    forbidden: tuple[int, ...] = ()
    cond: Any = None
    paint: Callable[[Tensor], np.ndarray] | None = None

    @property
    def unknown(self) -> int:
        """How many tokens are to be filled in."""
        return int((self.ids == self.mask_id).sum())


def scene_board(model, tokenizer, caption: str) -> Board:
    """An empty picture under a caption such as "red circle, blue square".

    model: MaskedTransformer over codes; tokenizer: its FsqTokenizer. Raises SubjectError that lists the words.
    """
    rows, columns = model.grid
    device = model.embed_tokens.weight.device
    cond = scene_condition(caption, device)  # [1, C]
    ids = torch.full((1, rows * columns), model.mask_token_id, device=device)
    canvas = Canvas("grid", ("",) * (rows * columns), shape=(rows, columns))
    words = code_names(tokenizer)
    return Board(canvas, ids, model.mask_token_id, words.__getitem__, cond=cond,
                 paint=lambda ids: picture(tokenizer, ids, model.mask_token_id, (rows, columns)))


def scene_condition(caption: str, device) -> Tensor:
    """Condition words int64 [1, C]; SubjectError that lists the words of the world."""
    try:
        return torch.from_numpy(scenes.condition(caption))[None].to(device)
    except ValueError as error:
        raise SubjectError(f"This model knows only its own small world: {error}.") from error


def scene_facts(shown: np.ndarray, caption: str, macs: int) -> dict[str, Fact]:
    """The parser's reading of a finished picture, and what it cost."""
    asked, found = scenes.read_caption(caption), scenes.parse(shown)
    broken = sum(thing.kind != "object" for thing in found)
    return {"score": Fact("Score", scenes.score(asked, found), "of 1, as asked", "higher"),
            "objects": Fact("Whole objects", float(len(found) - broken), f"painted, {len(asked)} asked for"),
            "broken": Fact("Chimeras and fragments", float(broken), "cells", "lower"),
            "macs": Fact("Work", macs / 1e9, "G multiply-adds", "lower")}


def prompt_board(model, prompt: str) -> Board:
    """An empty picture under any words. model: one that reads prompts and paints its codes itself, as Amused does.

    Raises SubjectError for a prompt that is too long. What a code shows depends on its neighbours, so it has no name;
    and while some are masked, those beside them are painted as if code 0 stood there. Until the last is known every
    second pixel is enough: a record holds the pictures of all steps.
    """
    rows, columns = model.grid
    cond = model.prompt(prompt)

    def paint(ids: Tensor) -> np.ndarray:
        shown = picture(model, ids, model.mask_token_id, model.grid)
        return np.ascontiguousarray(shown[::2, ::2]) if bool((ids == model.mask_token_id).any()) else shown
    ids = torch.full((1, rows * columns), model.mask_token_id, device=cond.words.device)
    canvas = Canvas("grid", ("",) * (rows * columns), shape=(rows, columns))
    return Board(canvas, ids, model.mask_token_id, "code {}".format, model.forbidden, cond, paint)


def picture(tokenizer, ids: Tensor, mask_id: int, shape: tuple[int, int]) -> np.ndarray:
    """uint8 [h, w, 3] of codes [1, N]; cells that are still masked stay grey."""
    grid = ids.reshape(1, *shape)
    hidden = grid == mask_id
    pixels = tokenizer.decode(grid.masked_fill(hidden, 0))[0].permute(1, 2, 0)  # [h, w, 3], 0..1
    pixels = (pixels.float() * 255).round().to(torch.uint8)
    side = pixels.shape[0] // shape[0]
    pixels[hidden[0].repeat_interleave(side, 0).repeat_interleave(side, 1)] = EMPTY
    return pixels.cpu().numpy()


@lru_cache(maxsize=4)
def code_names(tokenizer) -> tuple[str, ...]:
    """A short name for each of the V codes: its number and what its patch shows, "code 755: blue lower right"."""
    device = next(tokenizer.parameters()).device
    codes = torch.arange(tokenizer.codebook_size, device=device)[:, None, None]
    pixels = (tokenizer.decode(codes).float() * 255).flatten(2).transpose(1, 2)  # [V, pixels, 3]
    palette = torch.tensor([scenes.BACKGROUND, *scenes.COLOURS.values()], device=pixels.device).float()
    distance = torch.cdist(pixels, palette.expand(len(pixels), -1, -1))  # [V, pixels, colours]
    nearest = torch.where(distance.amin(-1) <= scenes.NEAR, distance.argmin(-1), len(palette))  # 0: background
    side = int(nearest.shape[1] ** 0.5)
    return tuple(f"code {i}: {shown(patch)}" for i, patch in enumerate(nearest.reshape(-1, side, side).cpu().numpy()))


def shown(patch: np.ndarray) -> str:
    """What a patch of palette numbers [side, side] shows: its colours, and where they are if part of it is empty."""
    names = ("empty", *scenes.COLOURS, "blur")
    share = np.bincount(patch.ravel(), minlength=len(names)) / patch.size
    colours = [name for name, part in list(zip(names, share))[1:] if part >= 0.12]
    if not colours or share[0] < 0.12:
        return " and ".join(colours) or "empty"
    lean = np.argwhere(patch != 0).mean(0) - (len(patch) - 1) / 2  # rows and columns from the middle
    sides = ("upper", "lower"), ("left", "right")
    words = [pair[int(part > 0)] for part, pair in zip(lean, sides) if abs(part) > 0.3]
    return " ".join([" and ".join(colours), *words])


def text_board(model, tokenizer, text: str, length: int) -> Board:
    """A text whose blanks (three or more underscores, one token each) are unknown, or `length` tokens after it.

    Raises SubjectError when the whole is longer than MOST_TOKENS.
    """
    mask, blanks = model.mask_token_id, BLANK.search(text)
    sign = tokenizer.convert_ids_to_tokens(mask)
    found = read(tokenizer, BLANK.sub(lambda blank: sign * blank[0].count("_"), text))
    end = len(found) if blanks else len(found.before_more())
    more = 0 if blanks else length
    if len(found) + more > MOST_TOKENS:
        raise SubjectError(f"Text and blanks make {len(found) + more} tokens; please keep them under {MOST_TOKENS}.")
    ids = [*found.ids[:end], *[mask] * more, *found.ids[end:]]
    labels = [*found.labels[:end], *[""] * more, *found.labels[end:]]
    roles = [*found.roles[:end], *[""] * more, *found.roles[end:]]
    canvas = Canvas("text", tuple("" if id == mask else label for id, label in zip(ids, labels)),
                    roles=tuple("fill" if id == mask else role or "prompt" for id, role in zip(ids, roles)),
                    ids=np.array([-1 if id == mask else id for id in ids], np.int32))
    return Board(canvas, torch.tensor([ids], device=model.embed_tokens.weight.device), mask,
                 lambda id: names(tokenizer, [id])[0], forbidden=tuple(sorted({*tokenizer.all_special_ids, mask})))
