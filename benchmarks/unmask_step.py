"""Filling in: what a step adds to the forward; the same step, and on a GPU the whole loop, in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import nn

import kernels
from benchmarks.timing import interleave, row
from kernels import graphs

STEPS = 8  # of a whole loop, as MaskGIT needs for a picture


def backbone(width, layers, tokens, vocabulary, device, dtype=torch.float32):
    """A transformer of this size with random weights that maps ids [B, N] to logits [B, N, V]."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(width, width // 64, 4 * width, batch_first=True, norm_first=True, dropout=0.0)
    body = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
    model = nn.Sequential(nn.Embedding(vocabulary + 1, width), body, nn.Linear(width, vocabulary))
    return model.to(device, dtype).eval()


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


def plain_loop(model, ids, mask_id, counts, temperature, make):
    """All steps of it; returns the ids [B, N] after each."""
    found = []
    for count in counts:
        ids, _ = plain_step(model(ids), ids, mask_id, count, temperature, make)
        found.append(ids)
    return found


def run(device: str, quick: bool) -> list[dict]:
    """A ViT-B-sized network over 256 codes of 1024, and a smaller one over text tokens, in fp32 and bf16."""
    sizes = [(256, 4, 64, 1024, 1)] if quick else [(768, 12, 256, 1024, 1), (384, 8, 256, 4096, 2)]
    rows, rounds = [], 3 if quick else 9
    for width, layers, tokens, vocabulary, batch in sizes:
        for dtype in (torch.float32, torch.bfloat16):
            model = backbone(width, layers, tokens, vocabulary, device, dtype)
            ids = torch.full((batch, tokens), vocabulary, device=device)  # the id after the last word is the mask
            label = (f"width {width}, {layers} layers, N {tokens}, V {vocabulary}, B {batch}, "
                     f"{str(dtype).removeprefix('torch.')}")
            claimed = not quick and device == "cpu" and dtype == torch.float32
            rows += compared(label, model, ids, device, rounds, claimed)
            if device == "cuda":
                rows += loops(label, model, ids, device, rounds, not quick and width == 768)
    return rows


def compared(label, model, ids, device, rounds, claimed):
    """One step: beside the forward alone, and beside the plain step."""
    mask_id = int(ids[0, 0])
    make, sampler, logits = torch.Generator(device).manual_seed(0), kernels.Sampler(), model(ids)
    settings = {"n_reveal": 8, "gumbel_temperature": 1.0, "sampler": sampler, "generator": make}
    step = kernels.unmask_step(logits, ids, mask_id, **settings)
    assert int(step.revealed.sum()) == 8 * len(ids) and (step.ids[step.revealed] != mask_id).all()
    times = interleave({
        "forward": lambda: model(ids),
        "ours": lambda: kernels.unmask_step(model(ids), ids, mask_id, **settings),
        "plain": lambda: plain_step(model(ids), ids, mask_id, 8, 1.0, make),
        "step": lambda: kernels.unmask_step(logits, ids, mask_id, **settings),
        "plain_step": lambda: plain_step(logits, ids, mask_id, 8, 1.0, make),
    }, rounds, device)
    bound = {"floor": 1.05, "target": 1.05} if claimed else {}
    return [
        row(f"{label}: forward + step / forward", times, "ours", "forward", path=step.path, **bound),
        row(f"{label}: plain step / step", times, "plain_step", "step", better="higher", path=step.path),
        row(f"{label}: forward + plain / forward + step", times, "plain", "ours", better="higher", path=step.path),
    ]


def loops(label, model, ids, device, rounds, claimed):
    """Whole loops: ours replayed as one CUDA graph and ours step by step, beside the plain one."""
    mask_id, counts = int(ids[0, 0]), kernels.schedule(ids.shape[1], STEPS)
    make = torch.Generator(device)
    loop = graphs.unmasking(model, mask_id, counts, gumbel_temperature=1.0, sampler=kernels.Sampler(), generator=make)
    replayed = graphs.captured(loop, generator=make)
    path = check_loops(loop, replayed, ids, mask_id, counts, make)
    times = interleave({
        "replayed": lambda: replayed(ids), "loop": lambda: loop(ids),
        "plain": lambda: plain_loop(model, ids, mask_id, counts, 1.0, make),
    }, rounds, device)
    bound = {"floor": 3, "target": 3} if claimed else {}
    what = f"{label}: whole loop of {len(counts)} steps, plain"
    return [row(f"{what} / replayed", times, "plain", "replayed", better="higher", path=f"{replayed.path}, {path}",
                **bound),
            row(f"{what} / ours step by step", times, "plain", "loop", better="higher", path=path)]


def check_loops(loop, replayed, ids, mask_id, counts, make) -> str:
    """Every step reveals its count, no mask is left, and a replay begins as the loop does; our path.

    Later steps may part: libraries round differently when recorded, and one other draw changes all that follow.
    """
    replayed(ids)  # records, so that the next call is a replay
    make.manual_seed(1)
    found = replayed(ids)
    make.manual_seed(1)
    first = loop(ids)[0]
    assert [step.revealed.sum(1).unique().tolist() for step in found] == [[count] for count in counts], "wrong counts"
    assert bool((found[-1].ids != mask_id).all()), "a mask is left"
    torch.testing.assert_close(found[0].entropy, first.entropy, atol=2e-2, rtol=2e-2)
    assert float((found[0].sampled == first.sampled).float().mean()) > 0.95, "a replay draws other tokens than the loop"
    return found[0].path
