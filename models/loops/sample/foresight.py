"""Words several places ahead: what is said of them at one place of a text, and whether they came.

A stream of texts (models/loops/sample/cached_lm.py) or of anything else that writes has logits [B, V] of the next word,
push(ids) and select(rows). Letters: B texts, W ways of guessing, A places of a text, K words ahead, V vocabulary.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

import kernels
from models.engine.recording import bars, numbered
from models.loops.sample.cached_lm import Stream
from models.trace import Chart


def rank(logits: Tensor, targets: Tensor) -> Tensor:
    """Rank [...], from 1, of each target [...] in logits [..., V]; ties count for the target."""
    return (logits > logits.gather(-1, targets[..., None])).sum(-1) + 1


def right_chart(ranks: np.ndarray, ways: Sequence[str], noun: str, *, top: int = 1,
                title: str = "Guesses that were right", caption: str = "") -> Chart:
    """Share of the words that came which were among the `top` likeliest, of ranks [W, A, K], by how far ahead."""
    return bars(title, noun, "share", dict(zip(ways, (ranks <= top).mean(1))), numbered(noun, ranks.shape[2]),
                caption=caption)


@torch.inference_mode()
def foreseen(live, ahead: int, paths: int) -> Iterator[Tensor]:
    """Probabilities [B, V] of the words 1, 2, .. `ahead` places behind each of a stream's texts or vectors, whatever
    stands between: the mean over the likeliest `paths` of words."""
    count = len(live.logits)
    weight = torch.zeros(count, 1, device=live.logits.device)  # log-probability of each path so far
    for left in range(ahead, 0, -1):
        found = kernels.vocab_stats(live.logits, top_k=paths)
        share = (weight - weight.amax(1, keepdim=True)).exp()
        share = (share / share.sum(1, keepdim=True)).flatten()
        yield (share[:, None] * (live.logits - found.lse[:, None]).exp()).unflatten(0, weight.shape).sum(1)
        if left > 1:
            before = weight.shape[1]
            weight, best = (weight.flatten()[:, None] + found.top_logp).view(count, -1).topk(paths, 1)  # [B, paths]
            rows = torch.arange(count, device=best.device)[:, None] * before + best // paths
            ids = found.top_ids.view(count, -1).gather(1, best)
            live = live.select(rows.flatten())
            live.push(ids.flatten())


def read_on(model, ids: Sequence[int], at: Sequence[int], ahead: int, paths: int = 1) -> Iterator[Tensor]:
    """Probabilities [V] of the word `ahead` places behind some places of a text, by a causal LM that reads its own
    likeliest words in between."""
    whole = Stream(model)
    logits = whole.read([list(ids)], every=True)[0].float()
    for place in at:
        live = whole.select([0])
        live.crop(place + 1)
        live.logits = logits[place][None]
        *_, last = foreseen(live, ahead, paths)
        yield last[0]
