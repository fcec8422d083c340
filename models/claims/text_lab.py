"""Texts for claims: held-out pieces of the books that are shipped, what masked networks write behind them, and how
likely that is to a causal one."""

from __future__ import annotations

import numpy as np
import torch

from models.baselines.mdm import method as mdm
from models.checkpoints.store import Bundle
from models.loops.unmask.canvases import Board
from models.loops.unmask.loop import Plan, Reveal, fill
from models.trace.subject import ASSETS


def windows(tokenizer, count: int, size: int) -> list[list[int]]:
    """`count` pieces of `size` tokens, spread evenly over the held-out books."""
    ids = tokenizer((ASSETS / "texts" / "heldout.txt").read_text("utf-8"), add_special_tokens=False)["input_ids"]
    return [ids[start : start + size] for start in np.linspace(0, len(ids) - size, count).astype(int)]


def continued(model, prompts: torch.Tensor, hole: int, plan: Plan, seed: int) -> list[Reveal]:
    """What a masked network writes behind prompts [B, P], `hole` tokens each: every move of the plan."""
    mask = model.mask_token_id
    start = torch.cat([prompts, prompts.new_full((len(prompts), hole), mask)], 1)
    return list(fill(start, mask, plan, torch.Generator().manual_seed(seed)))


def surprise(judge: Bundle, bundle: Bundle, texts: torch.Tensor, prompt: int) -> np.ndarray:
    """Bits per character [B] of what stands behind the first `prompt` tokens of texts [B, N], to a causal model."""
    mask = bundle.model.mask_token_id
    starts = torch.cat([texts[:, :prompt], torch.full_like(texts[:, prompt:], mask)], 1)
    return np.array([mdm.bits(judge, bundle.tokenizer, Board(None, start[None], mask, str), ids[None])
                     for start, ids in zip(starts, texts)])
