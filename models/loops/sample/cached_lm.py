"""A causal LM at the end of a text: its KV cache, the logits of what comes next, and an honest count of what it cost.

Streams are forked for trials: every copy has its own cache, so nothing one trial does can reach another. Works on any
transformers causal LM whose cache is a DynamicCache. Letters: B texts of equal length, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

import kernels
from models.backbones.one_token import next_logits
from models.backbones.text import fitting, names, read, room
from models.trace import Cost
from models.trace.interventions import NOTHING
from models.trace.subject import Subject, SubjectError
from models.worlds.world import PAD


class Meter:
    """Adds up model calls, token rows (summed over layers), multiply-adds, cache bytes (peak) and milliseconds.

    head: the output projection of a model without one of its own.
    """

    def __init__(self, model, head: torch.nn.Module | None = None):
        self.layers, self.width = model.config.num_hidden_layers, model.config.hidden_size
        self.head, self.body, self.cost = head or model.get_output_embeddings(), 0, Cost()
        for module in model.modules():  # every matrix a token is multiplied with; GPT-2 calls its linear layers Conv1D
            matrix = getattr(getattr(module, "weight", None), "ndim", 0) == 2
            if matrix and not isinstance(module, torch.nn.Embedding) and module is not self.head:
                self.body += module.weight.numel()

    def add(self, rows: int, past: int, each: int, heads: int, cache_bytes: int, ms: float,
            attended: int | None = None) -> None:
        """`rows` texts read `each` tokens after `past` ones; `heads` positions went through the output projection.
        attended: pairs of tokens that may see each other in a text, where the mask is not the causal one."""
        attended = each * past + each * (each + 1) // 2 if attended is None else attended
        macs = rows * (each * self.body + 2 * self.layers * self.width * attended) + heads * self.head.weight.numel()
        self.cost = self.cost + Cost(1, rows * each * self.layers, macs, cache_bytes, ms)

    def lap(self) -> Cost:
        """The cost since the last lap."""
        cost, self.cost = self.cost, Cost()
        return cost


class Stream:
    """Where a model stands: the cache of `length` tokens, and the logits [B, V] of the next one."""

    def __init__(self, model, meter: Meter | None = None):
        self.model, self.meter = model, meter or Meter(model)
        self.cache, self.logits, self.length = None, None, 0

    @torch.inference_mode()
    def read(self, ids: Tensor | Sequence[Sequence[int]], every: bool = False) -> Tensor:
        """Reads ids [B, T] behind what was read so far; logits [B, T, V] of all of them, or [B, 1, V] of the last."""
        from transformers import DynamicCache
        began = time.perf_counter()
        ids = torch.as_tensor(ids, device=self.model.device)
        if self.cache is None:
            self.cache = DynamicCache()  # every layer in full, so that it can be cut back where a window is short
        logits = next_logits(self.model, ids, self.cache, 0 if every else 1)
        rows, each = ids.shape
        ms = (time.perf_counter() - began) * 1e3
        self.meter.add(rows, self.length, each, rows * (each if every else 1), self.cache_bytes, ms)
        self.logits, self.length = logits[:, -1].float(), self.length + each
        return logits

    def push(self, ids: Tensor | Sequence[int]) -> None:
        """One more token [B] for each text."""
        self.read(torch.as_tensor(ids)[:, None])

    def fork(self, count: int) -> Stream:
        """`count` independent copies of each text, as one batch; this stream stays as it is."""
        return self._copy(lambda layer: layer.batch_repeat_interleave(count), self.logits.repeat_interleave(count, 0))

    def select(self, rows: Sequence[int]) -> Stream:
        """An independent stream of some of the texts."""
        index = torch.as_tensor(rows, device=self.logits.device)
        return self._copy(lambda layer: layer.batch_select_indices(index), self.logits[index])

    def crop(self, length: int) -> None:
        """Forgets what was read after `length` tokens; the logits are then unknown."""
        if length < self.length:
            rewind(self.cache, length)
            self.length, self.logits = length, None

    @property
    def cache_bytes(self) -> int:
        return held_bytes(self.cache)

    def _copy(self, change, logits: Tensor) -> Stream:
        """A stream on new tensors: layers are copied before they are changed, so the original never moves."""
        twin = Stream(self.model, self.meter)
        twin.cache, twin.length, twin.logits = copy.copy(self.cache), self.length, logits
        twin.cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        for layer in twin.cache.layers:
            change(layer)
        return twin


def held_bytes(cache) -> int:
    """Bytes of the keys and values that a cache holds."""
    return sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))


def log_probabilities(logits: Tensor) -> Tensor:
    """Of every token [..., V], where all of them are wanted."""
    return logits.float() - kernels.vocab_stats(logits, top_k=1).lse[..., None]


def nats(logits: Tensor, ids: Tensor) -> Tensor:
    """What each of ids [...] costs by its logits [..., V], -log p; it can be differentiated."""
    return cross_entropy(logits.float().flatten(0, -2), ids.flatten(), reduction="none").view(ids.shape)


def divergence(true: Tensor, other: Tensor) -> Tensor:
    """KL(true || other) [...] in nats of two distributions, from their logits [..., V], -inf in the same places."""
    p, q = true.float().log_softmax(-1), other.float().log_softmax(-1)
    return (p.exp() * (p - q).masked_fill(p == -torch.inf, 0)).sum(-1)


def batched(rows: Sequence[Sequence[int]], prompt: int) -> tuple[Tensor, Tensor]:
    """(ids [B, T] with padding behind each text, which of them belong to answers, bool [B, T]); the first `prompt`
    tokens of each text are told."""
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)
    at, ends = torch.arange(ids.shape[1]), torch.tensor([len(row) for row in rows])
    return ids, (at >= prompt) & (at < ends[:, None])


def answer_logp(model, ids: Tensor, answer: Tensor) -> Tensor:
    """Log-probability [B] of the answers: the sum over their tokens, not the mean; it can be differentiated. ids,
    answer (bool) [B, T]; padding stands behind."""
    logits = model(ids[:, :-1], use_cache=False).logits.float()
    losses = cross_entropy(logits.mT, ids[:, 1:], reduction="none")  # [B, T - 1]
    return -(losses * answer[:, 1:]).sum(-1)


def agreed(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many tokens both begin alike."""
    return next((k for k, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def rewind(cache, keep: int) -> None:
    """Forgets what a cache holds beyond its first `keep` tokens."""
    if cache.get_seq_length() > keep:
        cache.crop(keep - cache.get_seq_length())  # a negative number removes from the end


class Reader(Stream):
    """A stream over a visitor's text: what the loop needs to draw it (labels, ids, where it ends).

    A problem is a whole text, so it starts with the token that the training texts start with; other texts may be torn
    out of a book and do not, unless the method says `whole`. after: how many tokens will be written behind it; cut:
    characters left out at the end.
    """

    def __init__(self, bundle, subject: Subject, after: int, cut: int = 0, whole: bool = False):
        super().__init__(bundle.model)
        self.tokenizer = bundle.tokenizer
        found = read(self.tokenizer, cut_off(subject.text, cut)).before_more()
        bos = self.tokenizer.bos_token_id
        whole = whole or subject.kind == "problem"
        first = [bos] if whole and bos is not None and found.ids[0] != bos else []
        self.prompt = [*first, *found.ids]
        self.labels, self.roles = (*names(self.tokenizer, first), *found.labels), ("added",) * len(first) + found.roles
        fitting(len(self.prompt), room(bundle.model) - after)
        if whole and self.prompt == [bos]:  # a text that only its tokenizer's own sign stands in
            raise SubjectError("This text begins and has no words; please type some behind its start.")
        if "unknown" in self.roles:
            raise SubjectError(f"The checkpoint {bundle.name[:60]} does not know some of these words; "
                               "please use one of its examples as a pattern.")

    @cached_property
    def end(self) -> int | None:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def size(self) -> int:
        return self.model.config.vocab_size

    def start(self) -> tuple[dict[str, Tensor], dict]:
        """Reads the prompt; logits [T - 1, V] that the model had for each prompt token after the first."""
        return {"raw": self.read([self.prompt], every=True)[0, :-1].float()}, {}

    def texts(self, ids: Sequence[int]) -> list[str]:
        """How each token reads alone."""
        return list(names(self.tokenizer, ids))


def greedy(source: Reader, length: int, put: Mapping[int, int] = NOTHING) -> tuple[list[int], float]:
    """What a model writes behind a source's prompt, always its likeliest token, and the milliseconds it took. Where
    the source itself stands does not matter. put: place in the whole text -> the token that a visitor wants there."""
    stream, ids = Stream(source.model), []
    stream.read([source.prompt])
    while True:
        ids.append(put.get(len(source.prompt) + len(ids), int(stream.logits.argmax())))
        if len(ids) == length or ids[-1] == source.end:
            return ids, stream.meter.lap().ms
        stream.push(ids[-1:])


def cut_off(text: str, count: int) -> str:
    """The text without its last `count` characters; SubjectError when nothing is left."""
    if count >= len(text):
        raise SubjectError(f"This text has {len(text)} characters; please cut off fewer than that.")
    return text[: len(text) - count]
