"""What a network says of texts, place by place, and what its probes read: for the page, the card and the claim.

Letters: B texts, T places, V symbols, L layers.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import kernels
from models.loops.sample.cached_lm import log_probabilities
from models.papers.lexinvariant import markov

if TYPE_CHECKING:
    from models.papers.lexinvariant.network import LexinvariantLM

EARLY, LATE = slice(14, 63), slice(382, 511)  # predictions of characters 16-64 and 384-512; the first is of the second


def looked(model: LexinvariantLM, ids: np.ndarray | Tensor, dice: torch.Generator,
           probed: int | None = None) -> tuple[Tensor, Tensor]:
    """Of texts [B, T] under fresh vectors: logits [B, T, V] of what comes next, and [L, B, T, V] of which real symbol
    stands at each place, of the first `probed` texts alone where that is given."""
    return under(model, ids, model.vectors(len(ids), dice), probed)


@torch.inference_mode()
def under(model: LexinvariantLM, ids: np.ndarray | Tensor, table: Tensor,
          probed: int | None = None) -> tuple[Tensor, Tensor]:
    """The same under given vectors [B, V, d]."""
    states = model.states(torch.as_tensor(ids, device=model.device), table)
    return model.logits(states[-1], table).float(), model.deciphered(tuple(one[:probed] for one in states)).float()


def nats(logits: Tensor, ids: np.ndarray | Tensor) -> np.ndarray:
    """Surprise [B, T - 1] at each character of texts [B, T] after the first."""
    chosen = torch.as_tensor(ids, device=logits.device)[:, 1:]
    return -kernels.vocab_stats(logits[:, :-1].contiguous(), top_k=1, chosen=chosen).chosen_logp.cpu().numpy()


def counting(ids: np.ndarray, size: int) -> np.ndarray:
    """Surprise [B, T - 1] of one who only counts what has come so far, half a count for each symbol to begin with."""
    seen = np.eye(size, dtype=np.float32)[ids].cumsum(1)[:, :-1] + 0.5  # [B, T - 1, V] before each character
    return -np.log(np.take_along_axis(seen, ids[:, 1:, None], 2)[..., 0] / seen.sum(-1))


def tallied(said: Tensor, ids: np.ndarray) -> np.ndarray:
    """Votes [T, V, V] after each place: for every symbol of the text [T], the probabilities that the probe gave, at its
    places so far, to each real symbol, added up."""
    found = np.zeros((len(ids), said.shape[-1], said.shape[-1]), np.float32)
    found[np.arange(len(ids)), ids] = log_probabilities(said).exp().cpu().numpy()
    return found.cumsum(0)


def solved(votes: np.ndarray, seen: np.ndarray, key: np.ndarray) -> float:
    """Share of the letters that came so far whose most votes are for the real one. votes [V, V] by symbol; seen: how
    often each came."""
    real = np.flatnonzero(seen[key] > 0)
    real = real[real < 26]
    return float((votes[key[real]].argmax(1) == real).mean()) if len(real) else 0.0  # no letter came yet


def apart(logits: Tensor, ids: np.ndarray) -> np.ndarray:
    """KL (nats) [B, T] of the exact decipherer's next symbol to the network's, for the toy's texts [B, T]."""
    says = log_probabilities(logits).cpu().numpy()
    truth = np.stack([markov.exact(row)[1] for row in ids])
    return (truth * (np.log(truth) - says)).sum(-1)
