"""Traps: the checks that many papers share, each with the mistake that it must catch.

    caught(hides_exactly, photos.noise_of, upside_down)          # right passes, every mutant is refused
    assert moved(logits, features, at=3)[3:].all()               # what does a change of token 3 move?
    assert np.array_equal(reaches(states, features), np.tri(9))  # who hears whom
    only_these_move(model, loss, ("adapters", "sampler"))        # which weights a training step may touch
    learns(model, lambda model: recipe.loss(model, batch, 0.0)[0])  # its loss falls on one batch
    learns_beside(recipe, model, batch)                          # both, beside a trunk that stays
    caught(speaks_of_the_next, targets, shifted(targets, 1))     # off by one
    work_is_counted(lambda: model(ids), model.work(64))          # multiply-adds, counted where they happen
    caught(block_causal, model, as_(Unmasked, model))            # a network with one step done wrong
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def as_(cls: type, model: nn.Module) -> nn.Module:
    """A copy of a network under another class: the mutant that overrides one of its steps, on the same weights."""
    other = copy.deepcopy(model)
    other.__class__ = cls
    return other


def caught(check: Callable, right, *mutants) -> None:
    """`check` holds for `right` and for none of the mutants. It asserts, or returns whether it holds; a mutant that
    crashes in any other way is no mutant. A tuple is given as several arguments."""
    assert mutants, "a check without a mutant shows nothing"
    _apply(check, right)
    for number, mutant in enumerate(mutants):
        try:
            _apply(check, mutant)
        except (AssertionError, pytest.fail.Exception):  # a check may hold a pytest.raises
            continue
        pytest.fail(f"{_name(check)} lets mutant {number + 1} pass: {_name(mutant)}")


def _apply(check: Callable, subject) -> None:
    held = check(*subject) if isinstance(subject, tuple) else check(subject)
    if isinstance(held, (bool, np.bool_, Tensor)):
        assert bool(held), f"{_name(check)} does not hold for {_name(subject)}"


def _name(thing) -> str:
    return str(getattr(thing, "__name__", None) or repr(thing))[:200]


@torch.no_grad()
def moved(f: Callable[[Tensor], Tensor], inputs: Tensor, at: int | slice | Sequence[int], *, size: int = 0,
          atol: float = 1e-6) -> np.ndarray:
    """Bool [outputs]: which outputs of f (dimension 1) differ once inputs [B, S, ...] are changed at some positions.

    Numbers are raised by one; ids become the next of `size` ids.
    """
    other = inputs.clone()
    other[:, at] = (other[:, at] + 1) % size if size else other[:, at] + 1
    before, after = f(inputs), f(other)
    change = (before.float() - after.float()).abs()  # [B, outputs, ...]
    assert not bool(change.isnan().any()), "what is not a number moves nothing and hides everything"
    return (change.transpose(0, 1).flatten(1).amax(1) > atol).cpu().numpy()


def reaches(f: Callable[[Tensor], Tensor], inputs: Tensor, *, size: int = 0, atol: float = 1e-6) -> np.ndarray:
    """Bool [outputs, S]: whether an output moves with an input; np.tri(S) for a causal network."""
    return np.stack([moved(f, inputs, [at], size=size, atol=atol) for at in range(inputs.shape[1])], 1)


def moving(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> set[str]:
    """Names of the weights that one step on this loss would move."""
    model.zero_grad(set_to_none=True)
    loss(model).sum().backward()
    found = {name for name, weight in model.named_parameters() if weight.grad is not None and bool(weight.grad.any())}
    model.zero_grad(set_to_none=True)
    return found


def only_these_move(model: nn.Module, loss: Callable[[nn.Module], Tensor], names: Collection[str]) -> None:
    """A step moves weights under every one of these names (beginnings of parameter names) and no others."""
    found = moving(model, loss)
    others = {name for name in found if not name.startswith(tuple(names))}
    still = [name for name in names if not any(one.startswith(name) for one in found)]
    assert not others, f"these must not move: {', '.join(sorted(others)[:5])}"
    assert not still, f"these must move: {', '.join(still)}"


def learns(model: nn.Module, loss: Callable[[nn.Module], Tensor], *, steps: int = 12, rate: float = 3e-3,
           below: float = 0.8) -> None:
    """A few steps bring the loss of one batch below a share of what it was, or something of it is cut off."""
    optimiser, losses = torch.optim.Adam(model.parameters(), rate), []
    for _ in range(steps):
        losses.append(loss(model))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    first, last = float(losses[0].detach()), float(losses[-1].detach())
    assert last < below * first, f"the loss went from {first:.4g} to {last:.4g}"


def learns_beside(recipe, model: nn.Module, batch, names: Collection[str] = ("",), *, progress: float = 0.0,
                  **options) -> None:
    """The loss of a recipe falls on one batch, a step moves weights under these names of the network that it trains,
    and none of the frozen trunk (`recipe.base`) beside it. options: of `learns`."""
    both = nn.ModuleDict({"base": recipe.base, "own": model})

    def loss(both: nn.Module) -> Tensor:
        return recipe.loss(both["own"], batch, progress)[0]

    learns(both, loss, **options)
    only_these_move(both, loss, [f"own.{name}" for name in names])


def dice(seed: int = 3) -> torch.Generator:
    """Draws of its own for each part of a test, the same in every run."""
    return torch.Generator().manual_seed(seed)


def shifted(f: Callable[..., Tensor], by: int = 1, dim: int = 1) -> Callable[..., Tensor]:
    """The mutant of f whose result speaks of another place: rolled by some positions."""
    def off(*args, **options):
        return torch.roll(f(*args, **options), by, dim)
    off.__name__ = f"{_name(f)} shifted by {by}"
    return off


def multiply_adds(run: Callable[[], object]) -> int:
    """Multiply-adds of all matrix products, convolutions and fused attention while `run` works; a masked product counts
    in full, as it is computed."""
    more = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused}  # torch counts those of other devices
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=more) as counter:
        run()
    return counter.get_total_flops() // 2


def _fused(q: torch.Size, k: torch.Size, v: torch.Size, *_, **__) -> int:
    """Floating point operations of fused attention."""
    return 2 * q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])


def work_is_counted(run: Callable[[], object], declared: int) -> None:
    """What a method says its work is, is what it computes."""
    found = multiply_adds(run)
    assert found == declared, f"declared {declared:,} multiply-adds, computed {found:,}"
