"""Runs at the same time: each gets its share of the cores, and none hears of another."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.engine.method import follow, offered, prepare
from models.serving import cores
from models.trace import limits
from tests.contract.test_methods import timeless


@pytest.fixture
def four():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_a_run_gives_cores_away_and_gets_them_back(four):
    with cores.shared() as fit:
        fit()
        assert torch.get_num_threads() == 4
        begun, end = threading.Event(), threading.Event()
        seen = []

        def second():
            with cores.shared() as own:
                own()
                seen.append(torch.get_num_threads())
                begun.set()
                end.wait(30)
        other = threading.Thread(target=second)
        other.start()
        begun.wait(30)
        fit()
        assert seen == [2] and torch.get_num_threads() == 2
        end.set()
        other.join()
        fit()
        assert torch.get_num_threads() == 4
        fit(small=True)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


def test_the_shipped_models_run_on_one_core_and_a_public_one_on_all():
    five, large = torch.nn.Linear(2_000, 2_500, device="meta"), torch.nn.Linear(10_000, 13_500, device="meta")
    assert cores.small(five) and not cores.small(large)


def test_a_run_that_breaks_off_gives_its_cores_back(four):
    with pytest.raises(ValueError), cores.shared():
        raise ValueError
    with cores.shared() as fit:
        fit()
        assert torch.get_num_threads() == 4


def test_as_many_runs_as_cores_but_one_on_a_gpu_and_one_per_replica(monkeypatch):
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cores.at_once() == limits.RUNS
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 1)
    assert cores.at_once() == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cores.at_once() == 1
    monkeypatch.setattr(limits, "REPLICAS", 3)
    assert cores.at_once() == 3


def test_runs_beside_each_other_give_what_each_gives_alone(tiny, one_thread):
    """Every method on the weights that others use at that moment: no hook, cache or draw reaches another run."""
    def run(id: str) -> dict:
        torch.set_num_threads(1)
        *_, last = follow(prepare(id, seed=3))
        return {tab: timeless(trace) for tab, trace in last.traces.items()}

    ids = list(offered())
    alone = {id: run(id) for id in ids}
    random.Random(0).shuffle(ids)
    with ThreadPoolExecutor(3) as room:
        beside = dict(zip(ids, room.map(run, ids)))
    assert [id for id in ids if beside[id] != alone[id]] == []
