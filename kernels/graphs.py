"""Steps and whole loops recorded as CUDA graphs: the same work without launching its kernels one by one.

A small model spends more time launching kernels than running them. `captured(loop)` runs the loop once per shape of its
inputs while the device records it; later calls copy their inputs in, replay the recording and copy the results out.
Anywhere else, and wherever recording fails, the call is the plain one: the loop itself stays the definition of correct.

A loop can be recorded when its shapes follow from its inputs' and nothing in it waits for the device (no .item(), no
nonzero, no bool index). It must not change its inputs, and what else it writes (a static KV cache, say) must come out
the same when it is run again, because warming up and recording run it, too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kernels.dispatch import differentiable, note
from kernels.records import UnmaskStep
from kernels.sampling import Sampler
from kernels.unmasking import unmask_step
from kernels.vocabulary import vocab_stats

BOUND = 8  # recordings kept per callable; each holds the memory of one run
WARM_UPS = 2  # libraries choose kernels and take workspace in their first runs, which must not happen while recording


def captured(step: Callable, *, generator: torch.Generator | None = None, bound: int = BOUND) -> Captured:
    """`step(*inputs)` as a callable that replays a CUDA graph where it can.

    Tensors among the inputs may change between calls; everything else belongs to what is recorded and must be hashable.
    generator: the one `step` draws from, if it is not the default one; draws go on from its state as in the plain call.
    Results are tensors of their own, in the tuples, lists, dicts and records that `step` returns. Not differentiable:
    with gradients wanted the call is the plain one.
    """
    return Captured(step, generator, bound)


class Captured:
    """See `captured`. `path` says how the last call ran: "cuda-graph" or "plain"."""

    def __init__(self, step: Callable, generator: torch.Generator | None, bound: int) -> None:
        self.step, self.generator, self.bound = step, generator, bound
        self.kept: OrderedDict[Hashable, Recording | None] = OrderedDict()  # None: could not be recorded
        self.lock = threading.Lock()  # a recording has one set of inputs and results
        self.path = "plain"

    def __call__(self, *inputs: Any) -> Any:
        first = on_device(inputs)
        if first is None or differentiable(*(x for x in inputs if isinstance(x, Tensor))):
            self.path = "plain"
            return self.step(*inputs)
        with self.lock, torch.cuda.device_of(first):
            recording = self.recording(inputs, first.device)
            self.path = "plain" if recording is None else "cuda-graph"
            return self.step(*inputs) if recording is None else recording.replay(inputs)

    def recording(self, inputs: Sequence, device: torch.device) -> Recording | None:
        """The recording for inputs like these, made at the first call; the one not used for longest makes room."""
        key = signature(inputs)
        if key not in self.kept:
            while len(self.kept) >= self.bound:
                self.kept.popitem(last=False)
            self.kept[key] = self.tried(inputs, device)
        self.kept.move_to_end(key)
        return self.kept[key]

    def tried(self, inputs: Sequence, device: torch.device) -> Recording | None:
        try:
            with keeping(self.generator, device):
                return Recording(self.step, inputs, self.generator)
        except Exception as error:  # whatever cannot be recorded can still be run
            name = getattr(self.step, "__name__", type(self.step).__name__)
            note(f"{name} could not be recorded as a CUDA graph ({type(error).__name__}), so it runs step by step.")
            return None


class Recording:
    """One CUDA graph with its own inputs and results."""

    def __init__(self, step: Callable, inputs: Sequence, generator: torch.Generator | None) -> None:
        with torch.inference_mode(False), torch.no_grad():  # buffers that any later call may write
            self.inputs = [x.detach().clone() if isinstance(x, Tensor) else x for x in inputs]
        self.graph = new_graph()
        if generator is not None:
            self.graph.register_generator_state(generator)
        warm_up(lambda: step(*self.inputs))
        self.results = record(self.graph, lambda: step(*self.inputs))

    def replay(self, inputs: Sequence) -> Any:
        with torch.no_grad():
            for mine, given in zip(self.inputs, inputs, strict=True):
                if isinstance(mine, Tensor):
                    mine.copy_(given)
            self.graph.replay()
            return copied(self.results)


def new_graph() -> torch.cuda.CUDAGraph:
    return torch.cuda.CUDAGraph()


def warm_up(work: Callable) -> None:
    """Runs on a side stream, as recording will."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad():
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()


def record(graph: torch.cuda.CUDAGraph, work: Callable) -> Any:
    """Results of `work`, which the graph fills at every replay; other threads may use the device meanwhile."""
    with torch.no_grad(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        return work()


@contextmanager
def keeping(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Gives the generators of draws their state back, so that warming up and recording draw nothing."""
    generators = [] if generator is None else [generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    states = [each.get_state() for each in generators]
    try:
        yield
    finally:
        for each, state in zip(generators, states, strict=True):
            each.set_state(state)


def on_device(inputs: Sequence) -> Tensor | None:
    """A tensor on the CUDA device where all inputs are, or None where there is nothing to record."""
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    together = tensors and all(x.device == tensors[0].device for x in tensors)
    return tensors[0] if together and tensors[0].device.type == "cuda" else None


def signature(inputs: Sequence) -> Hashable:
    """Equal for inputs that one recording serves."""
    return tuple((x.shape, x.stride(), x.dtype, x.device) if isinstance(x, Tensor) else (type(x), x) for x in inputs)


def copied(results: Any) -> Any:
    """Results with every tensor copied."""
    if isinstance(results, Tensor):
        return results.clone()
    if isinstance(results, dict):
        return {key: copied(value) for key, value in results.items()}
    if isinstance(results, tuple) and hasattr(results, "_make"):
        return results._make(map(copied, results))
    return type(results)(map(copied, results)) if isinstance(results, (tuple, list)) else results


def unmasking(predict: Callable[[Tensor], Tensor], mask_id: int, counts: Sequence[int], **settings) -> Callable:
    """A loop ids [B, N] -> one UnmaskStep per count: predict logits [B, N, V], reveal so many, again.

    `settings` are those of `unmask_step`.
    """
    def fill_in(ids: Tensor) -> list[UnmaskStep]:
        steps = []
        for count in counts:
            steps.append(unmask_step(predict(ids), ids, mask_id, n_reveal=count, **settings))
            ids = steps[-1].ids
        return steps

    return fill_in


def decoding(
    predict: Callable[[Tensor, Tensor], Tensor], length: int, *, sampler: Sampler | None = None,
    generator: torch.Generator | None = None, top_k: int = 8,
) -> Callable:
    """A loop (ids [B], position [B]) -> ids [B, length] and one VocabStats per step.

    `predict` maps the newest ids [B] and their positions [B] to the logits [B, V] of what follows; it keeps what came
    before in a static cache. The next token is the most probable one, or a draw when a sampler is given.
    """
    def decode(ids: Tensor, position: Tensor) -> tuple[Tensor, list]:
        found = []
        for step in range(length):
            stats = vocab_stats(predict(ids, position + step), top_k=top_k, sampler=sampler, generator=generator)
            ids = stats.top_ids[:, 0] if sampler is None else stats.sample
            found.append((ids, stats))
        return torch.stack([ids for ids, _ in found], 1), [stats for _, stats in found]

    return decode
