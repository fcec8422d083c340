"""What attention did inside any transformers model, seen while it runs at the speed of uninstrumented attention.

    with observe(model, want={"stats", "rows"}, rows=[-1]) as seen:
        model(ids)
    seen[3].entropy  # [B, H, N], nats, of layer 3

Works on every model that looks its attention up in transformers' AttentionInterface, and on plain modules made of such
layers. Layers are numbered by us, in the order of `model.modules()`, because BERT's modules carry no number.

How it stays safe with several threads on one model. Attention and its mask maker are registered once, under two names:
one twin of "sdpa" and one of "eager". A name only replaces the implementation whose masks it shares, and outside a
collector it calls that implementation, so swapping it in or out is harmless at any moment of another thread's forward.
(A name without a mask maker would silently lose the padding mask.) Results go to the collectors of the calling context.

Not covered: models set to flash or flex attention, soft-capped scores, attention sinks, paged caches. Do not `yield` to
a caller inside the block: a generator resumed in another context no longer sees its collector.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import kernels
from models.backbones.silence import quiet

WANTS = frozenset({"stats", "rows", "qk"})
TWINS = {"sdpa": "tokenscope", "eager": "tokenscope-eager", None: "tokenscope-eager"}
ACTIVE: ContextVar[tuple[Seen, ...]] = ContextVar("attention_collectors", default=())
LOCK = threading.Lock()
SWAPPED: dict[int, list] = {}  # id of a config -> [config, original implementation, how many observe it]


@dataclass(frozen=True, eq=False)
class LayerSeen:
    """One call of one attention layer. Fields that were not wanted are None. B H N queries, M keys, R rows, D width."""

    layer: int
    name: str  # the module's path in the model
    path: str = ""  # the kernel that ran
    lse: Tensor | None = None  # [B, H, N]
    entropy: Tensor | None = None  # [B, H, N], nats
    peak: Tensor | None = None  # [B, H, N]
    received: Tensor | None = None  # [B, H, M]
    rows: Tensor | None = None  # [B, H, R, M]
    q: Tensor | None = None  # [B, H, N, D], after rotary positions
    k: Tensor | None = None  # [B, Hkv, M, D]
    options: dict[str, Any] = field(default_factory=dict)  # scale, causal, mask

    def rows_for(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Exact attention [B, H, R, M] of the given queries, computed now; needs want={"qk"}."""
        if self.q is None:
            raise ValueError('No queries were kept; observe with want={"qk"} to ask for rows later.')
        return kernels.attention_rows(self.q, self.k, rows, **self.options)


@dataclass(eq=False)
class Seen:
    """What an `observe` block collected: `seen[layer]` is the last call of a layer, `seen.calls` all calls in order."""

    names: list[str]
    layers: frozenset[int]
    want: frozenset[str]
    rows: Any = None
    received_from: Any = None
    calls: list[LayerSeen] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)  # id of a module -> layer, only while observing

    def __getitem__(self, layer: int) -> LayerSeen:
        for call in reversed(self.calls):
            if call.layer == layer:
                return call
        raise KeyError(f"Layer {layer} was not seen; layers that ran: {sorted({call.layer for call in self.calls})}.")

    def __len__(self) -> int:
        return len({call.layer for call in self.calls})

    def __iter__(self) -> Iterator[LayerSeen]:
        """The last call of each layer, by layer."""
        return iter(self[layer] for layer in sorted({call.layer for call in self.calls}))

    @property
    def path(self) -> str:
        """The kernel paths taken, joined by + where layers differ."""
        return "+".join(sorted({call.path for call in self.calls if call.path}))


@contextmanager
def observe(
    model: nn.Module,
    layers: Sequence[int] | None = None,
    want: Collection[str] = frozenset({"stats"}),
    rows: Sequence[int] | Tensor | None = None,
    received_from: Sequence[int] | Tensor | None = None,
) -> Iterator[Seen]:
    """Collects attention statistics of `model` while the block runs, in this context only.

    layers: which to observe, all by default. want: "stats" (lse, entropy, peak, received), "rows" (exact rows of the
    query indices `rows`, negative from the end), "qk" (queries and keys, for rows asked later). received_from limits
    the queries whose attention counts as received. Raises ValueError for unknown wants or layers, and for models whose
    attention cannot be observed.
    """
    modules = attention_modules(model)
    chosen = frozenset(range(len(modules)) if layers is None else (layer % len(modules) for layer in layers))
    check(want, rows, layers, modules)
    seen = Seen([name for name, _ in modules], chosen, frozenset(want), rows, received_from)
    seen.numbers = {id(module): layer for layer, (_, module) in enumerate(modules)}
    configs = shared_configs(model)
    swap_in(configs)
    ACTIVE.set((*ACTIVE.get(), seen))
    try:
        yield seen
    finally:
        # Not ContextVar.reset: a generator closed from another context would raise there.
        ACTIVE.set(tuple(other for other in ACTIVE.get() if other is not seen))
        swap_out(configs)
        seen.numbers = {}


def check(want: Collection[str], rows: Any, layers: Sequence[int] | None, modules: list) -> None:
    if not modules:
        raise ValueError("This model has no attention that is looked up in transformers' AttentionInterface.")
    if isinstance(want, str) or not set(want) <= WANTS:
        raise ValueError(f"want must be a set of {', '.join(sorted(WANTS))}; got {want!r}.")
    if "rows" in want and rows is None:
        raise ValueError('want={"rows"} needs `rows`, the query indices.')
    beyond = [layer for layer in layers or () if not -len(modules) <= layer < len(modules)]
    if beyond:
        raise ValueError(f"The model has attention layers 0 to {len(modules) - 1}; there is no {beyond[0]}.")


def attention_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Path and module of every attention that asks the AttentionInterface, in definition order."""
    def asks(module: nn.Module) -> bool:
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names

    return [(name, module) for name, module in model.named_modules() if asks(module)]


def shared_configs(model: nn.Module) -> list[Any]:
    """Every config in the model that names an attention implementation, once each."""
    found = (getattr(module, "config", None) for module in model.modules())
    return list({id(config): config for config in found if hasattr(config, "_attn_implementation")}.values())


def plain_attention(model: Any) -> str:
    """The attention implementation a model is set to, whoever observes it at the moment; "" if it names none."""
    now = getattr(getattr(model, "config", None), "_attn_implementation", None) or ""
    return next((original for original, twin in TWINS.items() if twin == now and original), now)


def swap_in(configs: list[Any]) -> None:
    """Sets our twin on each config, or counts one more observer of a config that has it."""
    register()
    with LOCK:
        names = {config._attn_implementation for config in configs if id(config) not in SWAPPED}
        if names - set(TWINS):
            raise ValueError(f"Attention {names - set(TWINS)} cannot be observed; use set_attn_implementation('sdpa').")
        for config in configs:
            entry = SWAPPED.setdefault(id(config), [config, config._attn_implementation, 0])
            entry[2] += 1
            # The internal name: the property would also overwrite the sub-configs.
            config._attn_implementation_internal = TWINS[entry[1]]


def swap_out(configs: list[Any]) -> None:
    """Restores the implementation of configs that nobody observes any more."""
    with LOCK:
        for config in configs:
            entry = SWAPPED[id(config)]
            entry[2] -= 1
            if entry[2] == 0:
                config._attn_implementation_internal = entry[1]
                del SWAPPED[id(config)]


def register() -> None:
    """Registers both twins with the attention and with the mask registry; doing it again changes nothing."""
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    for original, forward in (("sdpa", sdpa_twin), ("eager", eager_twin)):
        AttentionInterface.register(TWINS[original], forward)
        AttentionMaskInterface.register(TWINS[original], ALL_MASK_ATTENTION_FUNCTIONS[original])


def sdpa_twin(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options):
    """transformers' sdpa attention, with statistics for the collectors that watch this module."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    causal = bool(causal) and attention_mask is None and query.shape[2] > 1
    return attend(sdpa_attention_forward, causal, module, query, key, value, attention_mask, options)


def eager_twin(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options):
    """The model's own eager attention, whose masks always say everything, with statistics for the collectors."""
    plain = sys.modules[type(module).__module__].eager_attention_forward
    return attend(plain, False, module, query, key, value, attention_mask, options)


def attend(plain, causal: bool, module, query, key, value, mask, options: dict[str, Any]):
    """Runs `plain`, or our kernel in its place when a collector of this context watches the module."""
    watching = [seen for seen in ACTIVE.get() if seen.numbers.get(id(module)) in seen.layers]
    if not watching:
        out, *rest = plain(module, query, key, value, mask, **options)
        return quiet(module, out), *rest
    refuse(options)
    want = frozenset().union(*(seen.want for seen in watching))
    differentiable = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    out = None
    if want.isdisjoint({"stats"}) or differentiable or options.get("dropout"):
        out = plain(module, query, key, value, mask, **options)
    with torch.no_grad():
        mask = biased(mask, options, causal, query, key)
        causal = causal and options.get("position_bias") is None  # the bias then holds the causal mask
        settings = {"scale": options.get("scaling"), "causal": causal, "mask": mask}
        measured = [record(seen, module, query.detach(), key.detach(), value.detach(), settings) for seen in watching]
    if out is None:
        out = measured[0].transpose(1, 2).contiguous(), None  # [B, N, H, D]
    return quiet(module, out[0]), *out[1:]


def refuse(options: dict[str, Any]) -> None:
    for name in ("softcap", "s_aux", "cache"):
        if options.get(name) is not None:
            raise ValueError(f"Attention with {name} cannot be observed.")


def biased(mask: Tensor | None, options: dict[str, Any], causal: bool, query: Tensor, key: Tensor) -> Tensor | None:
    """The mask, with a learned position bias folded in where the model has one."""
    if options.get("position_bias") is None:
        return mask
    from transformers.integrations.sdpa_attention import create_position_bias_mask

    return create_position_bias_mask(options["position_bias"], mask, causal, query, key)


def record(seen: Seen, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, settings: dict[str, Any]) -> Tensor | None:
    """Measures one call for one collector; returns the attention output [B, H, N, D] if statistics were wanted."""
    keys, unused = k.shape[2], 0
    if settings["causal"] and keys > q.shape[2]:
        # An empty static cache: transformers means the first keys here, and leaves the rest unattended.
        unused = keys - q.shape[2]
        k, v = k[:, :, : q.shape[2]], v[:, :, : q.shape[2]]
    layer, found, out = seen.numbers[id(module)], {}, None
    if "stats" in seen.want:
        stats = kernels.attention_stats(q, k, v, received_from=seen.received_from, **settings)
        received = nn.functional.pad(stats.received, (0, unused))
        found.update(lse=stats.lse, entropy=stats.entropy, peak=stats.peak, received=received, path=stats.path)
        out = stats.out
    if "rows" in seen.want:
        rows = kernels.attention_rows(q, k, seen.rows, **settings)
        found["rows"] = nn.functional.pad(rows, (0, unused))
    if "qk" in seen.want:
        found.update(q=q, k=k, options=settings)
    seen.calls.append(LayerSeen(layer, seen.names[layer], **found))
    return out
