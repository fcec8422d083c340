"""The trainer's optimisers, and the one schedule that their learning rates follow."""
from collections import defaultdict

import torch


def schedule(progress: float, warmup: float, decay: float) -> float:
    """Learning-rate factor: linear warm-up, flat, linear to exactly zero over the last `decay` of the budget."""
    return max(0.0, min(1.0, progress / warmup if warmup else 1.0, (1 - progress) / decay))


def optimisers(model, recipe) -> list:
    """Muon for matrices inside blocks, AdamW for all else (embeddings, heads, norms, biases, tokens)."""
    outside = ("embed", "wte", "wpe", "head", "classifier", "projection", "_pred", "to_codes", "from_codes", "latent")
    hidden, rest = defaultdict(list), defaultdict(list)  # learning rate -> parameters
    for name, p in model.named_parameters():
        if p.requires_grad:
            muon = recipe.lr and p.ndim == 2 and not any(word in name for word in outside)
            peak = (recipe.lr if muon else recipe.lr_adam) * recipe.rate(name)
            (hidden if muon else rest)[peak].append(p)
    made = [torch.optim.AdamW(_groups(rest), betas=(0.9, 0.98), weight_decay=0.0)] if rest else []
    if hidden:
        made.append(torch.optim.Muon(_groups(hidden), momentum=0.95, weight_decay=recipe.weight_decay))
    return made


def _groups(found: dict) -> list[dict]:
    """peak: what the schedule scales."""
    return [{"params": params, "lr": peak, "peak": peak} for peak, params in found.items()]
