"""The chain rule on held-out text: bits of the true tokens of a hole in an order, and the NELBO from random masks."""
from __future__ import annotations

import math

import numpy as np
import torch

from models.claims.text_lab import windows

SEEDS = (41, 42)
CONTEXT, HOLE = 48, 32  # tokens around and in the hole
ORDERS = ("confidence", "random", "left to right")


def passages(tokenizer, count: int) -> list[list[int]]:
    """Token windows [CONTEXT + HOLE] of held-out books."""
    return windows(tokenizer, count, CONTEXT + HOLE)


def holes(bundle, texts) -> tuple[torch.Tensor, torch.Tensor]:
    """The texts [B, N] and which tokens are hidden, bool [B, N]: HOLE in the middle."""
    ids = torch.tensor(texts, device=bundle.device)
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    hidden[:, CONTEXT // 2 : CONTEXT // 2 + HOLE] = True
    return ids, hidden


@torch.inference_mode()
def chain_bits(bundle, texts, order: str) -> np.ndarray:
    """Bits [B] of the true tokens of each hole, revealed one at a time in this order."""
    ids, masked = holes(bundle, texts)
    generator, total = torch.Generator().manual_seed(SEEDS[0]), torch.zeros(len(ids), device=bundle.device)
    for _ in range(HOLE):
        logp = logp_of(bundle, torch.where(masked, bundle.model.mask_token_id, ids))
        score = priority(order, logp, generator).to(bundle.device)
        at = score.masked_fill(~masked, -math.inf).argmax(1, keepdim=True)  # [B, 1]
        truth = ids.gather(1, at)
        total -= logp.gather(1, at[..., None].expand(-1, -1, logp.shape[-1]))[:, 0].gather(1, truth)[:, 0]
        masked = masked.scatter(1, at, False)
    return (total / math.log(2)).cpu().numpy()


def priority(order: str, logp: torch.Tensor, generator) -> torch.Tensor:
    """Score [B, N] of each position; the largest among the masked ones is revealed next."""
    if order == "confidence":
        return logp.amax(-1)
    if order == "random":
        return torch.rand(logp.shape[:2], generator=generator)
    return -torch.arange(logp.shape[1]).expand(logp.shape[:2]).float()


@torch.inference_mode()
def nelbo_bits(bundle, texts, draws: int) -> np.ndarray:
    """Bits [B]: expectation over k uniform in 1..HOLE of HOLE / k times the loss on k random hidden tokens; `draws`
    divides HOLE."""
    ids, hole = holes(bundle, texts)
    generator, total = torch.Generator().manual_seed(SEEDS[1]), torch.zeros(len(ids), device=bundle.device)
    for draw in range(draws):
        spread = torch.randint(0, HOLE // draws, (len(ids), 1), generator=generator)  # one draw from each stratum
        k = 1 + draw * (HOLE // draws) + spread
        rank = torch.rand(ids.shape, generator=generator).masked_fill(~hole.cpu(), 2.0).argsort(1).argsort(1)
        masked = (rank < k).to(bundle.device)
        logp = logp_of(bundle, torch.where(masked, bundle.model.mask_token_id, ids))
        loss = -logp.gather(2, ids[..., None])[..., 0].masked_fill(~masked, 0).sum(1)
        total += loss * HOLE / k[:, 0].to(bundle.device)
    return (total / draws / math.log(2)).cpu().numpy()


def logp_of(bundle, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [B, N, V] with the special tokens left out."""
    logits = bundle.model(ids).float()
    logits[..., specials(bundle)] = -math.inf
    return logits.log_softmax(-1)


def specials(bundle) -> list[int]:
    return sorted({*bundle.tokenizer.all_special_ids, bundle.model.mask_token_id})
