"""The short versions of `make load` and `make soak`, and that both would notice what they look for."""

import sys

import pytest

from tests import load, soak
from tests.local_server import serving

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """The app on tiny weights, as `make soak` serves it."""
    with serving(tmp_path_factory.mktemp("load"), command=["-m", "tests.soak", "--tiny", "--serve", "PORT"]) as found:
        yield found


@pytest.mark.parametrize("caller", [load.by_api, load.by_page])
def test_six_visitors_get_their_own_results(busy, caller):
    """Seconds are left to `make load`: CI shares its cores."""
    found = load.summary(load.Classroom(busy.url, 6, 10, (0.5, 1.5), caller, examples=1).work())
    assert not found["wrong"], load.table(found)
    assert found["runs"]["all"]["n"] >= 6


def test_a_mixed_up_result_and_a_slow_one_are_noticed():
    """Mutants: the answer of another seed, a failure, one run in ten too slow."""
    assert load.misfit({"seed": 1}, {"seed": 2}) and not load.misfit({"seed": 1}, {"seed": 1})
    good = [load.Run(0, "mask", 1.0)] * 9
    assert load.summary(good)["holds"]
    assert not load.summary([*good, load.Run(1, "mask", 1.0, "asked for 1, got 2")])["holds"]
    assert not load.summary([*good, load.Run(1, "mask", 99.0)])["holds"]
    assert not load.summary([])["holds"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_thirty_runs_leave_the_memory_as_it_was(busy):
    found = soak.soak(busy.url, busy.process.pid, runs=30, switches=4, early=10)
    assert found["holds"], found["rows"]
    assert found["rows"][-1]["threads"] <= found["rows"][0]["threads"] + 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_leak_of_eight_megabytes_per_run_is_noticed(tmp_path):
    """Mutant: a server that keeps something of every run."""
    with serving(tmp_path, command=["-m", "tests.soak", "--tiny", "--leak", "--serve", "PORT"]) as server:
        found = soak.soak(server.url, server.process.pid, runs=20, switches=1, early=8)
    assert not found["holds"], found["rows"]
