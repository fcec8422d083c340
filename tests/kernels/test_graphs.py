"""Recording and replaying, on the CPU with a stand-in for the device's graph; and what a loop must not do."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

import kernels
from kernels import Sampler, dispatch, graphs, revealing
from kernels.dispatch import notes


class StandIn:
    """A CUDA graph without a device: replaying runs the work again and writes its results where the first ones lie."""

    def register_generator_state(self, generator):
        self.generator = generator

    def replay(self):
        with torch.inference_mode():  # a device's graph writes results of either mode
            overwrite(self.results, self.work())


def overwrite(old, new):
    if isinstance(old, torch.Tensor):
        old.copy_(new)
    elif isinstance(old, (tuple, list)):
        for one, two in zip(old, new, strict=True):
            overwrite(one, two)
    elif isinstance(old, dict):
        overwrite(list(old.values()), list(new.values()))


def stand_in_record(graph, work):
    graph.work, graph.results = work, work()
    return graph.results


@pytest.fixture
def device(monkeypatch):
    """CPU tensors count as a device's."""
    first = lambda inputs: next((x for x in inputs if isinstance(x, torch.Tensor)), None)  # noqa: E731
    monkeypatch.setattr(graphs, "on_device", first)
    monkeypatch.setattr(graphs, "new_graph", StandIn)
    monkeypatch.setattr(graphs, "warm_up", lambda work: [work() for _ in range(graphs.WARM_UPS)])
    monkeypatch.setattr(graphs, "record", stand_in_record)
    monkeypatch.setattr(dispatch, "NOTES", {})


def predict(ids):
    """Logits [B, N, 12] that depend on all ids, as a model's do."""
    around = torch.nn.functional.one_hot(ids, 13).float().cumsum(1)
    return (around @ torch.sin(torch.arange(13 * 12.0)).view(13, 12)) * 0.7


def test_without_a_device_the_call_is_the_plain_one():
    calls = []
    step = graphs.captured(lambda x: calls.append(1) or x + 1)
    assert step(torch.zeros(3)).tolist() == [1, 1, 1] and step.path == "plain"
    assert len(calls) == 1 and not step.kept  # not warmed up, nothing kept


def test_replays_copy_inputs_in_and_results_out(device):
    step = graphs.captured(lambda x, sign: {"sum": (x + 1, [sign * x]), "name": "kept"})
    first, second = step(torch.zeros(2), 1), step(torch.ones(2), 1)
    assert step.path == "cuda-graph" and len(step.kept) == 1
    assert first["sum"][0].tolist() == [1, 1] and second["sum"][0].tolist() == [2, 2]  # the first result still stands
    assert second["sum"][1][0].tolist() == [1, 1] and second["name"] == "kept"
    given = torch.zeros(2)
    step(given, -1)
    assert given.tolist() == [0, 0] and len(step.kept) == 2


def test_one_recording_per_shape_type_and_setting_up_to_the_bound(device):
    step = graphs.captured(lambda x, *rest: x * 2, bound=3)
    kinds = [(torch.zeros(2),), (torch.zeros(3),), (torch.zeros(2, dtype=torch.float64),)]
    for kind in kinds + kinds:
        assert torch.equal(step(*kind), kind[0] * 2)
    assert len(step.kept) == 3
    step(*kinds[0])  # used again, so the next one to go is the second
    for new in ((torch.zeros(2, 2),), (torch.zeros(2), 1.0)):
        step(*new)
    assert [graphs.signature(kind) in step.kept for kind in kinds] == [True, False, False] and len(step.kept) == 3
    assert graphs.signature((torch.zeros(2), 1)) != graphs.signature((torch.zeros(2), True))
    assert graphs.signature((torch.zeros(2, 3),)) != graphs.signature((torch.zeros(3, 2).T,))


@pytest.mark.parametrize("where", ["warm_up", "record"])
def test_what_cannot_be_recorded_runs_plainly_and_says_so_once(device, where, monkeypatch):
    tries = []

    def refuse(*_):
        tries.append(where)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, where, refuse)

    def decode(x):
        return x + 1

    step = graphs.captured(decode)
    for _ in range(3):
        assert step(torch.zeros(2)).tolist() == [1, 1] and step.path == "plain"
    assert len(tries) == 1 and len(notes()) == 1
    assert notes()[0] == "decode could not be recorded as a CUDA graph (RuntimeError), so it runs step by step."


def test_errors_of_the_step_itself_reach_the_caller(device):
    def wrong(x):
        raise ValueError("steps must be positive.")

    with pytest.raises(ValueError, match="positive"):
        graphs.captured(wrong)(torch.zeros(2))


def test_gradients_take_the_plain_call(device):
    step = graphs.captured(lambda x: (x * 3).sum())
    x = torch.ones(2, requires_grad=True)
    step(x).backward()
    assert step.path == "plain" and x.grad.tolist() == [3, 3]
    with torch.inference_mode():
        inside = step(torch.ones(2))
    assert step.path == "cuda-graph" and float(inside) == 6 and float(step(torch.zeros(2))) == 0


def test_the_unmasking_loop_replayed_is_the_loop(device):
    counts, start = kernels.schedule(10, 4), torch.full((2, 10), 12)
    start[:, 3] = 5
    make = torch.Generator().manual_seed(3)
    settings = {"sampler": Sampler(0.8), "gumbel_temperature": 0.3}
    loop = graphs.unmasking(predict, 12, counts, generator=make, **settings)
    replayed = graphs.captured(loop, generator=make)
    found = [replayed(start) for _ in range(2)]
    make.manual_seed(3)
    expected = [loop(start) for _ in range(2)]
    assert replayed.path == "cuda-graph"
    for one, two in zip(found, expected, strict=True):
        assert len(one) == 4 and (one[-1].ids != 12).all() and (one[-1].ids[:, 3] == 5).all()
        assert all(torch.equal(a.ids, b.ids) and torch.equal(a.entropy, b.entropy) for a, b in zip(one, two))
    assert not torch.equal(found[0][-1].ids, found[1][-1].ids)  # draws go on, they do not repeat


def test_the_decoding_loop_replayed_is_the_loop(device):
    cache = torch.zeros(2, 8, dtype=torch.long)

    def next_logits(ids, position):
        cache.scatter_(1, position[:, None], ids[:, None])
        seen = torch.arange(8) <= position[:, None]
        return predict(cache.masked_fill(~seen, 0))[:, -1]

    loop = graphs.decoding(next_logits, 5, sampler=Sampler(1.2), generator=(make := torch.Generator().manual_seed(1)))
    replayed = graphs.captured(loop, generator=make)
    begin = torch.tensor([3, 7]), torch.tensor([0, 2])
    ids, stats = replayed(*begin)
    cache.zero_()
    make.manual_seed(1)
    again, same = loop(*begin)
    assert ids.shape == (2, 5) and torch.equal(ids, again) and len(stats) == 5
    assert all(torch.equal(a.entropy, b.entropy) for a, b in zip(stats, same))
    greedy, found = graphs.decoding(next_logits, 3)(*begin)
    assert torch.equal(greedy[:, 1], found[1].top_ids[:, 0])


class Watch(TorchFunctionMode):
    """Refuses operations whose result or size the host must wait for, and tensors made from numbers of the host."""

    WAITING = {"item", "tolist", "__bool__", "__int__", "__float__", "nonzero", "argwhere", "masked_select", "unique",
               "equal", "repeat_interleave", "bincount", "tensor", "as_tensor"}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        places = args[1] if name in ("__getitem__", "__setitem__") else ()
        picks = any(isinstance(x, torch.Tensor) and x.dtype == torch.bool
                    for x in (places if isinstance(places, tuple) else (places,)))
        assert name not in self.WAITING and not picks, f"{name} makes the host wait"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("order", revealing.ORDERS)
def test_nothing_in_a_step_waits_for_the_device(order):
    logits, ids = torch.randn(2, 9, 12), torch.full((2, 9), 5)  # the mask token lies inside the vocabulary
    for sampler in (None, Sampler(), Sampler(0.7, top_k=3, top_p=0.9, min_p=0.1)):
        for number in (2, torch.tensor([1, 3])):
            with Watch(), kernels.override("reference"):
                kernels.unmask_step(logits, ids, 5, n_reveal=number, order=order, gumbel_temperature=0.5,
                                    sampler=sampler, allowed=ids == 5)


def mutant_counts_on_the_device(score, open_now, n_reveal):
    """Makes a tensor of the number: a copy to the device that the host waits for, and no recording allows."""
    counts = torch.as_tensor(n_reveal, device=score.device)
    return torch.arange(score.shape[1]).expand_as(open_now) < counts


def mutant_picks_rows(score, open_now, n_reveal):
    """Indexes by a bool tensor: the size of the result is known only on the device."""
    score[open_now] = 0
    return open_now


@pytest.mark.parametrize("mutant", [mutant_counts_on_the_device, mutant_picks_rows, lambda s, o, n: o.nonzero()])
def test_waiting_is_seen(mutant):
    with pytest.raises(AssertionError, match="wait"), Watch():
        mutant(torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool), 2)
