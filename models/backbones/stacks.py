"""The parts of a causal language model that a machine over layers needs, whatever its family calls them, and one layer
of it on chosen tokens only.

Layers made as Llama's go through models/backbones/rows.py. The others' own forward is called, so that what is theirs
(joined projections, parallel branches, partly turned heads, norms at other places) stays the library's: it gets a cache
that writes and reads rows by identity, and is watched for the newest query.

Letters as in rows.py: R rows computed, M tokens attended to, N capacity, D width, V vocabulary.
"""
from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache, partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.instrument import observe
from models.backbones.rows import RowsOut, RowStore, allowed, layer_rows, visible
from models.checkpoints import families

# Where a family keeps its parts: the body, and in it the layers, words, places and last norm.
PARTS = {"GPT2LMHeadModel": ("transformer", "h", "wte", "wpe", "ln_f"),
         "GPTNeoXForCausalLM": ("gpt_neox", "layers", "embed_in", "rotary_emb", "final_layer_norm"),
         "OPTForCausalLM": ("model.decoder", "layers", "embed_tokens", "embed_positions", "final_layer_norm"),
         "PhiForCausalLM": ("model", "layers", "embed_tokens", "rotary_emb", "final_layernorm")}
USUAL = ("model", "layers", "embed_tokens", "rotary_emb", "norm")
LEARNED = ("wpe", "embed_positions")  # places that are added to the words instead of turning the heads


@dataclass(frozen=True)
class Stack:
    """A causal model by its parts. places: rotary, or learned ones that are added; rowwise: its layers are Llama's."""

    model: nn.Module
    body: nn.Module
    layers: nn.ModuleList
    words: nn.Module
    places: nn.Module
    norm: nn.Module | None
    turns: bool
    rowwise: bool

    def embed(self, ids: Tensor, rows: Tensor) -> Tensor:
        """Inputs [1, R, D] of the first layer, of ids [1, R] at their places [R]."""
        words = self.words(ids)
        if self.turns:
            return words
        widen, at = getattr(self.body, "project_in", None), rows.to(ids.device)[None]
        added = self.places(None, position_ids=at) if hasattr(self.places, "offset") else self.places(at)
        return (widen(words) if widen is not None else words) + added

    def angles(self, capacity: int) -> tuple[Tensor, ...]:
        """Cosine and sine, each [1, N, W], of every place; nothing where places are learned."""
        weight = self.words.weight
        at = torch.arange(capacity, device=weight.device)[None]
        return tuple(self.places(weight[None, :1], at)) if self.turns else ()

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., V] of the last layer's outputs [..., D]."""
        hidden = self.norm(hidden) if self.norm is not None else hidden
        narrow = getattr(self.body, "project_out", None)
        return self.model.get_output_embeddings()(narrow(hidden) if narrow is not None else hidden)

    def layer(self, index: int, hidden: Tensor, rows: Tensor, turned: tuple[Tensor, ...], store: RowStore,
              attend_to: Tensor, want_last: bool) -> RowsOut:
        """One layer on R rows [1, R, D], as rows.layer_rows describes it; the query is left out."""
        run = layer_rows if self.rowwise else partial(library_rows, self.model)
        return run(self.layers[index], hidden, rows, turned, store, index, attend_to=attend_to, want_last=want_last)

    def store(self, capacity: int) -> RowStore:
        """An empty store of its keys and values."""
        config = self.model.config
        heads = config.num_attention_heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return RowStore.shaped(self.layers, capacity, heads, groups, width)


def stack(model: nn.Module) -> Stack:
    """The parts of a causal model of one of families.PRUNED."""
    named = type(model).__name__
    body, *parts = PARTS.get(named, USUAL)
    trunk = attrgetter(body)(model)
    return Stack(model, trunk, *(getattr(trunk, name) for name in parts), parts[2] not in LEARNED,
                 named not in families.LAYERED)


class StoredRows:
    """What a layer of the library takes for its cache: new keys and values go into a RowStore, and those of the tokens
    that may be attended to come out."""

    def __init__(self, store: RowStore, index: int, rows: Tensor, attend_to: Tensor):
        self.store, self.index, self.rows, self.attend_to = store, index, rows, attend_to

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.store.write(self.index, self.rows, keys, values)
        return self.store.read(self.index, self.attend_to)


@cache
def takes_cache(layer: type) -> str:
    """What a layer's forward calls its cache."""
    return "layer_past" if "layer_past" in inspect.signature(layer.forward).parameters else "past_key_values"


def library_rows(model: nn.Module, layer: nn.Module, hidden: Tensor, rows: Tensor, turned: tuple[Tensor, ...],
                 store: RowStore, index: int, *, attend_to: Tensor, want_last: bool = False) -> RowsOut:
    """One layer of the library on R tokens only; arguments and result as in rows.layer_rows."""
    alone = len(rows) == len(attend_to) or len(rows) == 1 and int(rows[0]) == int(attend_to[-1])
    mask = None if alone else allowed(rows, attend_to)[None, None].to(hidden.device)
    given = {"attention_mask": mask, "use_cache": True,
             takes_cache(type(layer)): StoredRows(store, index, rows, attend_to)}
    given |= {"position_embeddings": turned, "position_ids": rows[None].to(hidden.device)} if turned else {}
    last = None
    if want_last:
        with observe(model, [index], {"rows"}, rows=[-1]) as seen:
            out = layer(hidden, **given)
        last = seen[index].rows[:, :, 0]
    else:
        out = layer(hidden, **given)
    store.macs += store.cost(index, len(rows), visible(rows, attend_to))
    return RowsOut(out[0] if isinstance(out, tuple) else out, None, last, None)
