"""What is read of pages, and what each word of them counts for."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.claims.tale_lab import asked_behind
from models.loops.sample.cached_lm import log_probabilities
from models.worlds import pages
from models.worlds.tales.words import NAMES
from models.worlds.world import END


def read(model, tokenizer, who: Sequence[str], texts: Sequence[str]) -> list[tuple[list[int], Tensor, Tensor]]:
    """(its ids, the states [T, D] that the next word is told from, what the model says of it [D]) of somebody's page:
    the last is the mean of the states from which five questions behind the page would be answered."""
    found = asked_behind(model, tokenizer, texts, [pages.questions(name) for name in who])
    return [(ids, states, asked.mean(0)) for ids, states, asked in found]


def word_weights(ids: Sequence[int]) -> np.ndarray:
    """Of each word of a page, one over how often it stands there, so that all of them sum to 1: neither the usual
    words nor long pages count for more."""
    _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return 1 / counts[inverse] / len(counts)


@torch.no_grad()
def web_read(base, tokenizer, seed: int) -> dict[str, Tensor]:
    """A whole web, read once by the frozen model: what is said of each page [P, D], and who is near it [P, K, K] over
    the links of friends and over rewired ones; of each of M words, ends of pages included, its id, the state [M, D]
    that it is told from, its page, what it counts for and its log-probability."""
    web = pages.web(seed)
    ids, states, says = zip(*read(base, tokenizer, NAMES, web.texts), strict=True)
    after, told = [[*page[1:], END] for page in ids], torch.cat(states)
    words = torch.tensor(sum(after, []))
    near = {kind: torch.from_numpy(one.near(range(pages.PAGES)))
            for kind, one in (("friends", web), ("rewired", web.rewired(seed)))}
    return {"says": torch.stack(says), **near, "ids": words, "states": told,
            "of": torch.tensor([at for at, page in enumerate(after) for _ in page]),
            "weight": torch.from_numpy(np.concatenate([word_weights(page) for page in after])).float(),
            "lm": log_probabilities(base.lm_head(told)).gather(1, words[:, None])[:, 0]}
