"""What synthetic text is good for: a small language model that read public stories is taught one set of texts, and says
the next words of notes that it never saw."""
from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from models.worlds.world import END, PAD

WIDTH, LAYERS, ROWS = 64, 2, 32
ADAPT, TEACH = (300, 4e-3), (80, 2e-3)  # steps and rate, on public stories and on a set of texts


def small(vocabulary: int, texts: Sequence[Sequence[int]], steps: int = ADAPT[0]):
    """The small model, taught public stories."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=3 * WIDTH, num_hidden_layers=LAYERS,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64, tie_word_embeddings=True,
            pad_token_id=PAD, bos_token_id=END, eos_token_id=END))
    return taught(model, texts, 0, steps, ADAPT[1])


def taught(model, texts: Sequence[Sequence[int]], seed: int, steps: int = TEACH[0], rate: float = TEACH[1]):
    """A copy of it that read these texts for so many steps; the rate falls to zero."""
    model, rng = copy.deepcopy(model), np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.0)
    rates = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(steps):
        ids = batch([texts[i] for i in rng.integers(len(texts), size=ROWS)])
        logits = model(ids[:, :-1], use_cache=False).logits
        cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        rates.step()
    return model


@torch.no_grad()
def accuracy(model, clients: Sequence[Sequence[Sequence[int]]], asked: int) -> np.ndarray:
    """Of each client [K], in percent: how often the likeliest word is the next one of its notes, behind the first
    `asked` words."""
    found = []
    for notes in clients:
        ids = batch(notes)
        right = model(ids[:, :-1], use_cache=False).logits.argmax(-1) == ids[:, 1:]
        counted = ids[:, 1:] != PAD
        counted[:, :asked] = False
        found.append(100 * float(right[counted].float().mean()))
    return np.array(found)


def batch(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """[B, T], each behind the sign that begins a text."""
    return pad_sequence([torch.tensor([END, *row]) for row in rows], batch_first=True, padding_value=PAD)
