"""What an encoder learned, measured with few labels: fine-tuned as a plain dense network, and read by a linear probe.

No mask is used here and no decoder: the weights run in the dense network that they came from. Letters: K photos,
D features, C classes.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

BATCH, RATE, DECAY = 32, 1e-3, 0.05
RIDGE = 1e-2  # of the probe, on standardised features


class Classifier(nn.Module):
    """The encoder, the mean of its last map, and a linear head."""

    def __init__(self, encoder: nn.Module, classes: int):
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        width = encoder.stages[-1][-1].second.out_channels
        self.head = nn.Linear(width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.encoder(pixels)[-1].mean((2, 3)))


def fresh(encoder: nn.Module) -> nn.Module:
    """The same network with weights drawn anew: training from scratch."""
    torch.manual_seed(1)
    made = copy.deepcopy(encoder)
    for module in made.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return made


def tune(encoder: nn.Module, pixels: Tensor, labels: np.ndarray, epochs: int, seed: int = 0) -> Classifier:
    """Trains all weights on a few labelled photos: AdamW, flips, warm-up and a straight decay, bf16 products."""
    torch.manual_seed(seed)
    model, truth = Classifier(encoder, int(labels.max()) + 1).train(), torch.from_numpy(labels)
    adam = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    steps = epochs * -(-len(pixels) // BATCH)
    plan = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: min(10 * (step + 1) / steps, 1, (steps - step) / steps))
    for _ in range(epochs):
        for chosen in torch.randperm(len(pixels)).split(BATCH):
            some = pixels[chosen].flip(3) if torch.rand(()) < 0.5 else pixels[chosen]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                answers = model(some.contiguous(memory_format=torch.channels_last))
            cross_entropy(answers.float(), truth[chosen]).backward()
            adam.step()
            adam.zero_grad()
            plan.step()
    return model.eval()


@torch.no_grad()
def hits(model: nn.Module, pixels: Tensor, labels: np.ndarray) -> np.ndarray:
    """Right answers [K], 0 or 1 (bf16 products)."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.cat([model(part).argmax(1) for part in pixels.split(100)])
    return (found.numpy() == labels).astype(np.float64)


@torch.no_grad()
def features(encoder: nn.Module, pixels: Tensor) -> Tensor:
    """The mean of the dense network's last map [K, D], with the norms' statistics as they were stored."""
    return torch.cat([encoder(part)[-1].mean((2, 3)) for part in pixels.split(100)])


def probe(encoder: nn.Module, learn: tuple[Tensor, np.ndarray], ask: tuple[Tensor, np.ndarray]) -> np.ndarray:
    """Hits [K] of a logistic regression on frozen features."""
    known, asked = (features(encoder, pixels) for pixels, _ in (learn, ask))
    mean, spread = known.mean(0), known.std(0) + 1e-6
    known, asked = (known - mean) / spread, (asked - mean) / spread
    truth = torch.from_numpy(learn[1])
    head = nn.Linear(known.shape[1], int(learn[1].max()) + 1)
    nn.init.zeros_(head.weight)
    fit = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        fit.zero_grad()
        loss = cross_entropy(head(known), truth) + RIDGE * head.weight.pow(2).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        fit.step(closure)
    return (head(asked).argmax(1).numpy() == ask[1]).astype(np.float64)
