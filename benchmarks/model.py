"""Whole models under observe() against transformers' output_attentions with the same statistics, random weights."""

from __future__ import annotations

import torch

from benchmarks.timing import extra_memory, interleave, judged, row
from models.instrument import observe


def gpt2(length):
    """GPT-2 small; returns the model and its inputs."""
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    return GPT2Model(GPT2Config(n_positions=2048)).eval(), {"input_ids": torch.randint(0, 50257, (1, length))}


def vit(length):
    """ViT-B with 16-pixel patches, on the square picture that has `length` tokens."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    side = round((length - 1) ** 0.5) * 16
    model = ViTModel(ViTConfig(image_size=side), add_pooling_layer=False).eval()
    return model, {"pixel_values": torch.randn(1, 3, side, side)}


def with_maps(model, inputs):
    """Eager attention with all maps kept, then the statistics of each."""
    out = model(**inputs, output_attentions=True)
    assert len(out.attentions) == model.config.num_hidden_layers
    return out.last_hidden_state, [
        (torch.special.entr(maps).sum(-1), maps.amax(-1), maps.sum(2)) for maps in out.attentions
    ]


def observed(model, inputs):
    with observe(model) as seen:
        return model(**inputs).last_hidden_state, seen


def run(device: str, quick: bool) -> list[dict]:
    cases = [(gpt2, 64), (vit, 197)] if quick else [
        (gpt2, 197), (vit, 197), (gpt2, 512), (vit, 577), (gpt2, 1024), (vit, 1025), (gpt2, 2048), (vit, 2026)]
    return [found for make, length in cases for found in compared(make, length, device, quick)]


def compared(make, length, device, quick):
    plain, inputs = make(length)
    eager, _ = make(length)
    plain.to(device).set_attn_implementation("sdpa")
    eager.to(device).set_attn_implementation("eager")
    inputs = {name: value.to(device) for name, value in inputs.items()}
    (out, seen), (expected, statistics) = observed(plain, inputs), with_maps(eager, inputs)
    torch.testing.assert_close(out, expected, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(seen[0].entropy, statistics[0][0], atol=1e-3, rtol=1e-3)
    path = seen.path
    del out, seen, expected, statistics
    times = interleave({
        "ours": lambda: observed(plain, inputs), "maps": lambda: with_maps(eager, inputs),
        "bare": lambda: plain(**inputs)}, 3 if quick or length > 1100 else 7, device)
    return rows_of(f"{make.__name__} N {length}", length, times, plain, eager, inputs, device, path)


def rows_of(label, length, times, plain, eager, inputs, device, path):
    long = length >= 2000
    rows = [row(f"{label}: observed / bare sdpa", times, "ours", "bare", path=path)]
    if length <= 256:
        rows.append(row(f"{label}: observed / maps + statistics", times, "ours", "maps", floor=1.05, target=1.0,
                        path=path))
    else:
        need = {"floor": 5 if device == "cuda" else 3, "target": 5 if device == "cuda" else 3} if long else {}
        rows.append(row(f"{label}: maps + statistics / observed", times, "maps", "ours", better="higher", path=path,
                        **need))
    ours = extra_memory(lambda: observed(plain, inputs), device)
    maps = extra_memory(lambda: with_maps(eager, inputs), device)
    if ours:
        need = 6 if long else None
        rows.append(judged({"what": f"{label}: extra memory, maps / observed", "ours_mb": round(ours, 1),
                            "maps_mb": round(maps, 1)}, maps / ours, need, need, "higher"))
    return rows
