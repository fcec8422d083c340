"""One live step of fine-tuning, and what it keeps in memory for its backward pass: measured, never from a formula.

Autograd shows every tensor that it keeps to a pair of hooks. Each storage is counted once, however many operations keep
it, the weights themselves are left out, and what is let go is subtracted, so that the peak is known too.

Letters: N tokens, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones import lora
from models.backbones.around import around
from models.papers.lemo.elimination import LOSS, Chooses, everything, read

RANK, ALPHA = 16, 32.0
TUNED = ("q_proj", "v_proj", "gate_proj", "up_proj", "down_proj")


class SavedForBackward:
    """Counts while it is entered. saved: bytes by (layer, part), each where it was first kept; peak: the most that was
    alive at one moment."""

    def __init__(self, model: nn.Module):
        self.weights = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
        self.saved, self.alive, self.where = Counter[tuple[int, str]](), Counter[int](), LOSS
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0
        self.hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: HeldTensor(self, tensor.detach()),
                                                              lambda held: held.tensor)

    def __enter__(self) -> SavedForBackward:
        self.hooks.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.hooks.__exit__(*error)

    def enter(self, index: int, part: str) -> None:
        """What is kept from now on belongs to this part of a layer."""
        self.where = index, part

    def keep(self, storage: int, size: int) -> None:
        self.alive[storage] += 1
        if self.alive[storage] == 1 and storage not in self.weights:
            self.sizes[storage] = size
            self.saved[self.where] += size
            self.now += size
            self.peak = max(self.peak, self.now)

    def let_go(self, storage: int) -> None:
        self.alive[storage] -= 1
        if not self.alive[storage]:
            self.now -= self.sizes.pop(storage, 0)


class HeldTensor:
    """A kept tensor; it is let go when autograd drops it."""

    def __init__(self, meter: SavedForBackward, tensor: Tensor):
        self.meter, self.tensor, storage = meter, tensor, tensor.untyped_storage()
        self.storage = storage.data_ptr()
        meter.keep(self.storage, storage.nbytes())

    def __del__(self):
        self.meter.let_go(self.storage)


def learner(model: nn.Module) -> nn.Module:
    """A model whose low-rank changes can be trained; every other number is shared with the one it is made of, which
    other visitors run at the same moment and which is not touched."""
    with torch.inference_mode(False), torch.random.fork_rng():
        torch.manual_seed(0)
        return lora.adapt(around(model), RANK, ALPHA, TUNED).train()


def step(model: nn.Module, ids: Tensor, choose: Chooses = everything, segments: int = 1, learns: bool = True
         ) -> tuple[Tensor, SavedForBackward]:
    """Loss of every token [N] and what was measured: a text [N + 1] forward and backward."""
    meter, ended = forward(model, ids, choose)
    return ended(segments, learns), meter


@torch.enable_grad()
def forward(model: nn.Module, ids: Tensor, choose: Chooses = everything
            ) -> tuple[SavedForBackward, Callable[..., Tensor]]:
    """The way forward through the layers: what they keep, and the rest of the step, to be called when its losses [N] or
    the peak are wanted. There, the words' logits, which are the widest of all, are made and let go in so many segments.
    learns: whether the way back through the layers is gone, too, where what is kept is only let go."""
    with SavedForBackward(model) as meter:
        states = read(model, ids[:-1], choose, meter.enter)[0]

    @torch.enable_grad()
    def ended(segments: int = 1, learns: bool = True) -> Tensor:
        with meter:
            top = states.detach().requires_grad_()  # [N, D]
            losses = []
            for some, words in zip(top.tensor_split(segments), ids[1:].tensor_split(segments), strict=True):
                loss = F.cross_entropy(model.lm_head(some).float(), words, reduction="none")
                (loss.sum() / len(top)).backward()
                losses.append(loss.detach())
            if learns:
                states.backward(top.grad)
        return torch.cat(losses)

    return meter, ended
