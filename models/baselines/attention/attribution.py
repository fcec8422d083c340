"""Captum beside attention: which tokens the prediction depends on, measured by gradients and by leaving tokens out.

Integrated gradients (arXiv 1703.01365) on the input embeddings, from a text of blanks to the real one; feature
ablation replaces one token at a time by the blank. Both are in nats of the log-probability of the predicted token.

Not covered: texts over MOST tokens, and pictures.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from models.loops.attend.model_adapters import Sight

MOST = 64
POINTS = 16  # of the integral in one pass
MOST_POINTS = 256
WORK = 2e11  # parameters x tokens x points that one integral may cost: about ten seconds on two cores
ENOUGH = 0.05  # of the difference that is explained: what the integral may miss of it


@dataclass(frozen=True, eq=False)
class Attribution:
    """predicted float [1, V]: log-probabilities at the query; target: the most probable id; gradients, ablation float
    [S]; delta: what the integral misses of f(text) - f(blanks), all in nats; gap: f(text) - f(blanks); points: of the
    integral."""

    predicted: torch.Tensor
    target: int
    gradients: np.ndarray
    delta: float
    gap: float
    points: int
    ablation: np.ndarray | None = None

    @property
    def converged(self) -> bool:
        """Whether the gradients add up to the difference that they explain."""
        return abs(self.delta) <= ENOUGH * abs(self.gap)


def attribute(sight: Sight, steps: int) -> Attribution | None:
    """Both attributions of the token predicted at the query, or None when the text is too long or is a picture.

    steps: points of the integral (Gauss-Legendre) to begin with. Cost: a forward and backward pass per point and one
    forward per token, POINTS or MOST of them at once: on a small model many calls cost more than much work.
    """
    if sight.ids is None or sight.ids.shape[1] > MOST:
        return None
    blank = torch.full_like(sight.ids, sight.blank)
    with torch.no_grad():
        both = sight.predict(torch.cat([sight.ids, blank]))  # [2, V]
    target = int(both[0].argmax())
    gap = float(both[0, target] - both[1, target])
    found = Attribution(both[:1], target, *integrated(sight, blank, target, steps), gap, steps)
    while not found.converged and 2 * found.points <= most_points(sight):
        twice = 2 * found.points
        found = Attribution(both[:1], target, *integrated(sight, blank, target, twice), gap, twice)
    return replace(found, ablation=ablated(sight, target))


def most_points(sight: Sight) -> int:
    """How many points this model can afford for this text."""
    weights = sum(weight.numel() for weight in sight.observed.parameters())
    return int(min(MOST_POINTS, WORK / (weights * sight.ids.shape[1])))


def integrated(sight: Sight, blank: torch.Tensor, target: int, steps: int) -> tuple[np.ndarray, float]:
    """Integrated gradients [S], summed over the embedding's width, and their convergence delta."""
    from captum.attr import IntegratedGradients
    with torch.no_grad():
        text, nothing = sight.embedding(torch.cat([sight.ids, blank])).split(1)  # [1, S, D]
    with torch.enable_grad():
        found, delta = IntegratedGradients(partial(from_embeddings, sight)).attribute(
            text, baselines=nothing, target=target, n_steps=steps, internal_batch_size=POINTS,
            return_convergence_delta=True)
    return found[0].sum(-1).detach().float().cpu().numpy(), float(delta[0])


def from_embeddings(sight: Sight, embedded: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [B, V] at the query, of embeddings [B, S, D]. Captum's own way of putting them in would reach
    every run of this model that goes on at the same time; this one reaches its own thread."""
    here = threading.get_ident()
    hook = sight.embedding.register_forward_hook(
        lambda layer, given, made: embedded if threading.get_ident() == here else None)
    try:
        return sight.predict(sight.ids.expand(len(embedded), -1))
    finally:
        hook.remove()


def ablated(sight: Sight, target: int) -> np.ndarray:
    """Loss of log-probability [S] when each token is replaced by the blank, one at a time."""
    from captum.attr import FeatureAblation
    with torch.no_grad():
        found = FeatureAblation(sight.predict).attribute(sight.ids, baselines=sight.blank, target=target,
                                                         perturbations_per_eval=MOST)
    return found[0].float().cpu().numpy()
