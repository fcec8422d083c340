"""A world whose joint distribution is known: rows of two coins that must differ, heads tails or tails heads.

Every coin alone is fair, so two coins drawn independently are illegal half the time, whatever the model. text-mdm-1 has
never seen such pairs and its own joint is not known in closed form, so this world has its own small masked network,
trained here in seconds, and its own layer, taught by that network as text-joint-1 is by text-mdm-1.
"""

from __future__ import annotations

import numpy as np
import torch

from models.backbones.masked import MaskedTransformer
from models.claims.probe import fitted
from models.loops.unmask.loop import Plan, fill
from models.papers.joint_sampling import method as joint_sampling
from models.papers.joint_sampling.network import JointSampler, exact_round, lesson

PAIRS, WIDTH, TOGETHER = 6, 64, 4
SIZE = 2 * PAIRS


def coins(count: int, generator: torch.Generator) -> torch.Tensor:
    """Legal texts [count, SIZE]: 0 heads, 1 tails; the two of a pair differ."""
    first = torch.randint(0, 2, (count, PAIRS, 1), generator=generator)
    return torch.cat([first, 1 - first], 2).flatten(1)


def illegal(ids: torch.Tensor) -> np.ndarray:
    """Percent of illegal pairs [B] in each text [B, SIZE]."""
    pairs = ids.unflatten(1, (PAIRS, 2))
    return (100 * (pairs[..., 0] == pairs[..., 1]).float().mean(1)).cpu().numpy()


def trunk(steps: int, seed: int = 0) -> MaskedTransformer:
    """A masked network of this world, trained as LLaDA is: each text masked at its own rate."""
    torch.manual_seed(seed)
    model = MaskedTransformer(2, WIDTH, 2, 4, positions="2d", grid=(PAIRS, 2), absolute=True)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> torch.Tensor:
        ids, rate = coins(64, generator), torch.rand(64, 1, generator=generator).clamp_min(0.05)
        masked = torch.rand(ids.shape, generator=generator) < rate
        logits = model(torch.where(masked, model.mask_token_id, ids))
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
        return (each * masked.flatten()).sum() / masked.sum().clamp_min(1)

    return trained(model, loss, steps).requires_grad_(False)


def layer(model: MaskedTransformer, steps: int, seed: int = 0) -> JointSampler:
    """ADJUST's layer for it, taught by exact rounds of the network itself, which begin where the last ones ended."""
    torch.manual_seed(seed)
    sampler, generator = JointSampler.beside(model), torch.Generator().manual_seed(seed)
    empty = ids = torch.full((24, SIZE), model.mask_token_id)

    def loss() -> torch.Tensor:
        nonlocal ids
        found = exact_round(model, ids, TOGETHER, "random", generator, most=SIZE)
        ids = found.end if bool((found.end == model.mask_token_id).any()) else empty
        return lesson(model, sampler, **found.lessons()).sum() / found.counts.sum()

    return trained(sampler, loss, steps).requires_grad_(False)


def trained(model, loss, steps: int):
    fitted(list(model.train().parameters()), loss, steps, 3e-3, clip=1.0, falling=True)
    return model.eval()


def drawn(model, sampler, way: str, count: int, seed: int, order: str = "leftmost") -> torch.Tensor:
    """Texts [count, SIZE] by one sampler of the method; from the left both coins of a pair fall into one round."""
    plan = Plan(joint_sampling.rounds(SIZE, TOGETHER, way), joint_sampling.Adjust(model, sampler), order)
    *_, last = fill(torch.full((count, SIZE), model.mask_token_id), model.mask_token_id, plan,
                    torch.Generator().manual_seed(seed))
    return last.ids
