"""The same model with and without pruning, scoring included: how much of the saved arithmetic is saved time.

ViT-B at 384 pixels (bidirectional; patches ranked by the attention they receive from all) and GPT-2 small (causal; a
prompt's tokens ranked by the attention of its last one), random weights. One cut after a quarter of the layers keeps
50 % or 25 % of the tokens. The figure is measured speed-up / ratio of multiply-adds, in which scoring counts as free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

import kernels
from benchmarks.timing import interleave, row
from models.backbones.instrument import observe
from models.trace.percent import percent

SHARE = 0.85  # of the ideal ratio


class PrunedModel(NamedTuple):
    """A model taken apart: its embedded input, its layers, and whose attention ranks the tokens."""

    name: str
    whole: Callable[[], Tensor]  # the library's forward -> [B, N, D]
    embed: Callable[[], Tensor]  # -> [B, N, D]
    layers: nn.ModuleList
    norm: nn.Module
    causal: bool
    rankers: list[int] | None  # queries that count, all by default
    stays: int  # must not leave: [CLS], or the token whose successor is wanted

    @property
    def cut(self) -> int:
        """How many layers see every token."""
        return max(1, len(self.layers) // 4)


def vit(side: int, layers: int, batch: int, device: str, dtype: torch.dtype, **shape: int) -> PrunedModel:
    """ViT-B with 16-pixel patches; `shape` changes its config."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(image_size=side, num_hidden_layers=layers, attn_implementation="sdpa", **shape)
    model = ViTModel(config, add_pooling_layer=False).to(device, dtype).eval()
    pixels = torch.randn(batch, 3, side, side).to(device, dtype)
    return PrunedModel(f"ViT-B, N {(side // 16) ** 2 + 1}", lambda: model(pixels).last_hidden_state,
                       lambda: model.embeddings(pixels), model.layers, model.layernorm, False, None, 0)


def gpt2(length: int, layers: int, batch: int, device: str, dtype: torch.dtype, **shape: int) -> PrunedModel:
    """GPT-2 small reading a prompt; `shape` changes its config."""
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, use_cache=False, attn_implementation="sdpa", **shape)
    model = GPT2Model(config).to(device, dtype).eval()
    ids = torch.randint(0, config.vocab_size, (batch, length), device=device)
    places = torch.arange(length, device=device)
    return PrunedModel(f"GPT-2 small, N {length}", lambda: model(ids).last_hidden_state,
                       lambda: model.wte(ids) + model.wpe(places), model.h, model.ln_f, True, [-1], -1)


def pruned(case: PrunedModel, keep: float) -> tuple[Tensor, kernels.Compacted]:
    """The model's output at the tokens it keeps [B, K, D], and which they are. `keep` is the share of tokens."""
    hidden, scores = scored(case)
    short = kernels.compact(hidden, (scores, round(keep * hidden.shape[1])))
    return case.norm(through(case.layers[case.cut :], short.states)), short


def scored(case: PrunedModel) -> tuple[Tensor, Tensor]:
    """States [B, N, D] at the cut, and the attention [B, N] received in the layer before it."""
    hidden, last = through(case.layers[: case.cut - 1], case.embed()), case.layers[case.cut - 1]
    with observe(last, received_from=case.rankers) as seen:
        hidden = last(hidden)
    scores = seen[0].received.sum(1)
    scores[:, case.stays] = float("inf")
    return hidden, scores


def through(layers: Iterable[nn.Module], hidden: Tensor) -> Tensor:
    for layer in layers:
        hidden = layer(hidden)
    return hidden


def multiply_adds(case: PrunedModel, tokens: int, kept: int) -> int:
    """Of all layers and one sample, when `kept` of the tokens pass the cut."""
    linear = sum(p.numel() for p in case.layers[0].parameters() if p.ndim == 2)
    width = case.norm.weight.numel()

    def layer(n: int) -> int:
        return n * linear + 2 * width * (n * (n + 1) // 2 if case.causal else n * n)

    return case.cut * layer(tokens) + (len(case.layers) - case.cut) * layer(kept)


def check(case: PrunedModel, keep: float, dtype: torch.dtype) -> None:
    """Keeping all changes nothing; keeping some keeps the ones with the highest true scores, in order."""
    tolerance = 1e-3 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(pruned(case, 1.0)[0], case.whole(), atol=tolerance, rtol=tolerance)
    with kernels.override("reference"):
        hidden, scores = scored(case)
    _, short = pruned(case, keep)
    assert bool((short.ids_keep.diff(dim=1) > 0).all()), "the order of the kept tokens changed"
    lowest, highest = scores.gather(1, short.ids_keep).amin(1), scores.gather(1, short.ids_dropped).amax(1)
    assert bool((lowest >= highest * (1 - tolerance)).all()), "a token was dropped for one with a lower score"
    states = hidden.gather(1, short.ids_keep[..., None].expand(-1, -1, hidden.shape[2]))
    torch.testing.assert_close(short.states, states, atol=tolerance, rtol=tolerance)


def run(device: str, quick: bool) -> list[dict]:
    """A vision and a language model, two keep ratios, fp32 and bf16 (on CUDA only that, in batches that fill it)."""
    sizes = [(vit, 224, 4), (gpt2, 256, 4)] if quick else [(vit, 384, 12), (gpt2, 1024, 12)]
    dtypes = (torch.float32, torch.bfloat16) if device == "cpu" else (torch.bfloat16,)
    batch = 1 if device == "cpu" else 32
    return [found for dtype in dtypes for make, size, layers in sizes
            for found in compared(make(size, layers, batch, device, dtype), device, dtype, quick)]


def compared(case: PrunedModel, device: str, dtype: torch.dtype, quick: bool) -> list[dict]:
    tokens, rows = case.embed().shape[1], []
    for keep in (0.5, 0.25):
        check(case, keep, dtype)
        times = interleave({"full": case.whole, "pruned": lambda keep=keep: pruned(case, keep)}, 3 if quick else 9,
                           device)
        ideal = multiply_adds(case, tokens, tokens) / multiply_adds(case, tokens, round(keep * tokens))
        bounds = {"floor": SHARE, "target": SHARE} if not quick and (dtype == torch.float32 or device == "cuda") else {}
        label = f"{case.name}, keep {percent(keep)}, {str(dtype).removeprefix('torch.')}"
        rows.append(row(f"{label}: speed-up / ideal {ideal:.2f}x", times, "full", "pruned", better="higher", per=ideal,
                        **bounds))
    return rows
