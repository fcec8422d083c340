"""Whole texts for claims about decoding: drawn in batches, the best of n, beam search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from kernels import Sampler
from models.loops.sample.cached_lm import Reader, Stream
from models.loops.sample.rollouts import Ends, Trial, roll_out
from models.trace.subject import Subject


def whole_texts(bundle, prompts: Sequence[str], sampler: Sampler, count: int, length: int, seed: int = 0
                ) -> list[list[Trial]]:
    """For each problem `count` whole texts."""
    found, over = {}, Ends(bundle.tokenizer.eos_token_id, frozenset(), length)
    dice = torch.Generator().manual_seed(seed)
    for where, ids in alike(bundle, prompts, length):
        stream = Stream(bundle.model)
        stream.read(ids)
        trials = roll_out(stream.fork(count), sampler, over, dice)[0]
        found |= {i: trials[k * count: (k + 1) * count] for k, i in enumerate(where)}
    return [found[i] for i in range(len(prompts))]


def beam_search(bundle, prompts: Sequence[str], beams: int, length: int) -> list[Trial]:
    """The library's own beam search."""
    found = {}
    for where, rows in alike(bundle, prompts, length):
        ids = torch.tensor(rows, device=bundle.model.device)
        with torch.inference_mode():
            made = bundle.model.generate(ids, attention_mask=torch.ones_like(ids), num_beams=beams, do_sample=False,
                                         max_new_tokens=length, pad_token_id=bundle.tokenizer.pad_token_id)
        found |= {i: Trial(ids=row) for i, row in zip(where, made[:, ids.shape[1]:].tolist())}
    return [found[i] for i in range(len(prompts))]


def best_of(samples: Sequence[Trial], budget: int) -> tuple[Trial, int]:
    """The least perplexing of the first samples that together reach the budget, and the tokens they took."""
    ends = np.cumsum([len(sample.ids) for sample in samples])
    count = min(int(np.searchsorted(ends, budget)) + 1, len(samples))
    return min(samples[:count], key=lambda sample: sample.perplexity), int(ends[count - 1])


def alike(bundle, prompts: Sequence[str], room: int) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Problems in groups of as many tokens, which need no padding: (their places, their ids)."""
    rows = [Reader(bundle, Subject("problem", text=text), room).prompt for text in prompts]
    for length in sorted(set(map(len, rows))):
        places = [i for i, ids in enumerate(rows) if len(ids) == length]
        yield places, [rows[i] for i in places]
