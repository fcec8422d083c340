"""How words are planted (ELECTRA, arXiv 2003.10555, steps 1 to 6), the same in training and on the page.

Letters: B texts, n tokens, k selected places, V vocabulary. The reference draws places with replacement; here they are
all different. Random numbers come from the given generator, or from torch's own while training.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASKED = 0.85  # of the selected tokens; the rest stays to be seen (reference code; the paper's text hides all)


def select(ids: Tensor, special: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Step 1: `count` different places [B, k] per text, in order, never a special token. special: bool [B, n]."""
    lottery = torch.rand(ids.shape, generator=generator).to(ids.device) + special
    return lottery.topk(count, dim=1, largest=False).indices.sort(1).values


def hide(ids: Tensor, places: Tensor, mask_id: int, generator: torch.Generator | None = None) -> Tensor:
    """Step 2: what the writer sees [B, n]: each selected token is the mask token with probability MASKED."""
    masked = torch.rand(places.shape, generator=generator).to(ids.device) < MASKED
    return ids.scatter(1, places, torch.where(masked, mask_id, ids.gather(1, places)))


def sample(logits: Tensor, temperature: float = 1.0, never: tuple[int, ...] = (),
           generator: torch.Generator | None = None) -> Tensor:
    """Step 4: token ids [...] drawn from softmax(logits [..., V] / temperature), by Gumbel noise: not the likeliest.

    never: ids that are not drawn, such as the mask token, which the discriminator must not see.
    """
    if never:
        logits = logits.index_fill(-1, torch.tensor(never, device=logits.device), -torch.inf)
    noise = torch.rand(logits.shape, generator=generator).to(logits.device).clamp(1e-9, 1 - 1e-7)
    return (logits / temperature - (-noise.log()).log()).argmax(-1)


def corrupt(ids: Tensor, places: Tensor, written: Tensor) -> tuple[Tensor, Tensor]:
    """Steps 5 and 6: the ORIGINAL text with the drawn tokens in their places [B, n], and which tokens differ [B, n].

    A draw that hits the original counts as original: comparing the texts says so by itself.
    """
    fake = ids.scatter(1, places, written)
    return fake, fake != ids
