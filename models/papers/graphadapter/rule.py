"""What an adapter is given and what it is paid for: the states of linked pages, the mixture, the weights of words."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.claims.tale_lab import encoded
from models.worlds.tales import folk
from models.worlds.tales.forms import cloze
from models.worlds.world import END, PAD

LIKE = {"home": "the mill", "treasure": "the ring", "song": "sun", "friend": "Tom", "teacher": "Tom"}  # answers


class Page(NamedTuple):
    """ids: a page and its end, <|endoftext|> before it. states [T, D]: what each of ids[1:] is told from. says [D]: the
    mean of the states from which the model would answer five questions behind the page."""

    ids: list[int]
    states: Tensor
    says: Tensor


@torch.no_grad()
def read(model, tokenizer, who: Sequence[str], texts: Sequence[str]) -> list[Page]:
    """Pages of several people in one call, and behind each page every question as if it stood there alone."""
    written = [[END, *encoded(tokenizer, text)] for text in texts]
    most = max(map(len, written))
    rows = [_row(ids, [encoded(tokenizer, cloze(" ".join(folk.ASKED[kind][0]), "what", [like], kind, who=name).prompt)
                       for kind, like in LIKE.items()], most) for name, ids in zip(who, written, strict=True)]
    ids, block, place = torch.tensor(rows, device=model.device).unbind(1)  # [B, S]
    order = torch.arange(ids.shape[1], device=model.device)
    seen = (order[:, None] >= order) & ((block == 0)[:, None] | (block[:, :, None] == block[:, None]))
    states = model.model(ids, attention_mask=seen[:, None], position_ids=place, use_cache=False).last_hidden_state
    ends = block.diff(dim=1, append=-block[:, -1:]) != 0  # the last word of each part
    says = [row[last & (part > 0)].mean(0) for row, last, part in zip(states, ends, block, strict=True)]
    return [Page([*page, END], row[: len(page)], one) for page, row, one in zip(written, states, says, strict=True)]


def _row(page: list[int], asked: list[list[int]], most: int) -> list[list[int]]:
    """Ids, parts (0: the page, -1: nothing, 1 and up: the questions) and places of a page with its questions."""
    empty, ahead = most - len(page), range(len(page))
    return [[*page, *[PAD] * empty, *sum(asked, [])],
            [*[0] * len(page), *[-1] * empty, *(at for at, words in enumerate(asked, 1) for _ in words)],
            [*ahead, *[0] * empty, *(len(page) + at for words in asked for at in range(len(words)))]]


def neighbourhood(links: Sequence[Sequence[int]], pages: Sequence[int]) -> Tensor:
    """near [B, K, K] of pages: of each and of those linked to it, who is linked (itself first); -1 behind them."""
    of = [[page, *others] for page, others in enumerate(links)]
    most = max(map(len, of))
    table = np.full((len(of) + 1, most), -1)  # the last row: nobody's
    for row, others in zip(table, of):
        row[: len(others)] = others
    return torch.from_numpy(table[table[list(pages)]])


def word_weights(ids: Sequence[int]) -> np.ndarray:
    """Of each word of a page, one over how often it stands there, so that all of them sum to 1: neither the usual
    words nor long pages count for more."""
    _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return 1 / counts[inverse] / len(counts)


def mixed(lm: Tensor, adapter: Tensor, weight: float = 0.5) -> Tensor:
    """log((1 - weight) p + weight p') of two log-probabilities: the probabilities are mixed, not the logits."""
    return torch.logaddexp(lm + np.log(max(1 - weight, 1e-12)), adapter + np.log(max(weight, 1e-12)))
