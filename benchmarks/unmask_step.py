"""A step of filling in: what unmask_step adds to the forward, and the same step in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import nn

import kernels
from benchmarks.timing import interleave, row


def backbone(width, layers, tokens, vocabulary, device):
    """A transformer of this size with random weights that maps ids [B, N] to logits [B, N, V]."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(width, width // 64, 4 * width, batch_first=True, norm_first=True, dropout=0.0)
    body = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(vocabulary + 1, width), body, nn.Linear(width, vocabulary)).to(device).eval()


def plain_step(logits, ids, mask_id, reveal, temperature, make):
    """MaskGIT's step as it is usually written: a softmax table, multinomial, noise per token, a sort, a loop."""
    probs = logits.softmax(-1)
    sampled = probs.flatten(0, 1).multinomial(1, generator=make).view(ids.shape)
    known = ids != mask_id
    sampled = torch.where(known, ids, sampled)
    chosen = probs.gather(-1, sampled.clamp_max(logits.shape[-1] - 1)[..., None])[..., 0].log()
    noise = -torch.log(-torch.log(torch.rand(chosen.shape, generator=make, device=chosen.device)))
    score = (chosen + temperature * noise).masked_fill(known, -math.inf)
    entropy = -(probs * probs.clamp_min(1e-20).log()).sum(-1)
    out = ids.clone()
    for b in range(ids.shape[0]):
        best = score[b].argsort(descending=True)[:reveal]
        out[b, best] = sampled[b, best]
    return out, entropy


def run(device: str, quick: bool) -> list[dict]:
    """A ViT-B-sized network over 256 codes of 1024, and a smaller one over text tokens."""
    sizes = [(256, 4, 64, 1024, 1)] if quick else [(768, 12, 256, 1024, 1), (384, 8, 256, 4096, 2)]
    return [found for size in sizes for found in compared(*size, device, 3 if quick else 9, quick)]


def compared(width, layers, tokens, vocabulary, batch, device, rounds, quick):
    model, mask_id = backbone(width, layers, tokens, vocabulary, device), vocabulary
    ids = torch.full((batch, tokens), mask_id, device=device)
    make, sampler, logits = torch.Generator(device).manual_seed(0), kernels.Sampler(), model(ids)
    settings = {"n_reveal": 8, "gumbel_temperature": 1.0, "sampler": sampler, "generator": make}
    step = kernels.unmask_step(logits, ids, mask_id, **settings)
    assert int(step.revealed.sum()) == 8 * batch and (step.ids[step.revealed] != mask_id).all()
    times = interleave({
        "forward": lambda: model(ids),
        "ours": lambda: kernels.unmask_step(model(ids), ids, mask_id, **settings),
        "plain": lambda: plain_step(model(ids), ids, mask_id, 8, 1.0, make),
        "step": lambda: kernels.unmask_step(logits, ids, mask_id, **settings),
        "plain_step": lambda: plain_step(logits, ids, mask_id, 8, 1.0, make),
    }, rounds, device)
    label = f"width {width}, {layers} layers, N {tokens}, V {vocabulary}, B {batch}"
    bound = {} if quick or device == "cuda" else {"floor": 1.05, "target": 1.05}
    return [
        row(f"{label}: forward + step / forward", times, "ours", "forward", path=step.path, **bound),
        row(f"{label}: plain step / step", times, "plain_step", "step", better="higher", path=step.path),
        row(f"{label}: forward + plain / forward + step", times, "plain", "ours", better="higher", path=step.path),
    ]
