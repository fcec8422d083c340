"""Whole models under observe() against transformers' output_attentions with the same statistics, random weights."""

from __future__ import annotations

import torch

from benchmarks.timing import extra_memory, interleave, judged, row
from models.backbones.instrument import observe

LONG = 600  # tokens from which two cores take seconds per pass: fewer rounds, and no second, slower number format


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
    return [found for make, length in cases for dtype in (torch.float32, torch.bfloat16)
            if device == "cuda" or dtype == torch.float32 or length < LONG
            for found in compared(make, length, dtype, device, quick)]


def compared(make, length, dtype, device, quick):
    plain, inputs = make(length)
    eager, _ = make(length)
    plain.to(device, dtype).set_attn_implementation("sdpa")
    eager.to(device, dtype).set_attn_implementation("eager")
    inputs = {name: value.to(device, dtype if value.is_floating_point() else None) if torch.is_tensor(value) else value
              for name, value in inputs.items()}
    path = check(plain, eager, inputs, dtype)
    times = interleave({
        "ours": lambda: observed(plain, inputs), "maps": lambda: with_maps(eager, inputs),
        "bare": lambda: plain(**inputs)}, 3 if quick or length > LONG else 7, device)
    label = f"{make.__name__} N {length}, {str(dtype).removeprefix('torch.')}"
    claimed = dtype == torch.float32 or device == "cuda"
    return timed(label, length, times, device, path, claimed) + taken(
        label, extra_memory(lambda: observed(plain, inputs), device),
        extra_memory(lambda: with_maps(eager, inputs), device), 6 if claimed and length >= 2000 else None)


def check(plain, eager, inputs, dtype) -> str:
    """Both sides return the same states and see the same attention; our path."""
    (out, seen), (expected, statistics) = observed(plain, inputs), with_maps(eager, inputs)
    if dtype == torch.float32:
        torch.testing.assert_close(out, expected, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(seen[0].entropy, statistics[0][0], atol=1e-3, rtol=1e-3)
    else:  # twelve layers of rounding: single states differ more than the whole does
        for mine, theirs in ((out, expected), (seen[0].entropy, statistics[0][0])):
            apart = (mine.float() - theirs.float()).norm() / theirs.float().norm()
            assert apart < 2e-2, f"relative distance {apart:.3f}"
    return seen.path


def timed(label, length, times, device, path, claimed) -> list[dict]:
    rows = [row(f"{label}: observed / bare sdpa", times, "ours", "bare", path=path)]
    if length <= 256:
        bounds = {"floor": 1.05, "target": 1.0} if claimed else {}
        return rows + [row(f"{label}: observed / maps + statistics", times, "ours", "maps", path=path, **bounds)]
    need = (5 if device == "cuda" else 3) if claimed and length >= 2000 else None
    return rows + [row(f"{label}: maps + statistics / observed", times, "maps", "ours", better="higher", path=path,
                       floor=need, target=need)]


def taken(label, ours, maps, need) -> list[dict]:
    """The memory row, where the system tells (megabytes of both sides)."""
    if not ours:
        return []
    return [judged({"what": f"{label}: extra memory, maps / observed", "ours_mb": round(ours, 1),
                    "maps_mb": round(maps, 1)}, maps / ours, need, need, "higher")]
