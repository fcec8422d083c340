"""The cap on what a paper's tests may cost, and who a test belongs to."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest, costs

ROOT = Path(__file__).resolve().parents[2]
PAPERS = frozenset({"cntp", "enat", "byte_level", "mtp_future"})


@pytest.mark.parametrize("nodeid, paper", [
    ("tests/papers/test_byte_level.py::test_a[x]", "byte_level"),
    ("tests/contract/test_methods.py::test_every_figure_renders[mtp-future]", "mtp_future"),
    ("tests/contract/test_methods.py::test_any_text_ends_in_a_trace_or_one_sentence[a-cntp]", ""),
    ("tests/serving/test_zerogpu.py::test_every_default_run_passes_through_a_forked_worker[enat-attend]", "enat"),
    ("tests/contract/test_methods.py::test_every_figure_renders[mae]", ""), ("tests/kernels/test_x.py::test_y", "")])
def test_a_test_belongs_to_its_paper(nodeid, paper):
    assert costs.paper_of(nodeid, PAPERS) == paper


def test_a_paper_beyond_its_cap_is_named_and_a_slow_machine_is_forgiven():
    limit = costs.CAP * costs.NOISE
    assert costs.over({"cntp": limit - 0.1, "enat": costs.HEAVY["enat"] + 0.1}) == {}
    assert costs.over({"cntp": limit + 0.1}) == {"cntp": round(limit + 0.1, 1)}
    assert costs.over({"cntp": limit + 0.1}, slowness=2.0) == {}


def test_the_list_of_exceptions_only_shrinks():
    assert len(costs.HEAVY) <= 7 and all(seconds > costs.CAP for seconds in costs.HEAVY.values())


def test_the_longest_files_come_first_and_all_of_them_exist(request):
    """Mutants: xdist's own order, by number of tests; a file that was moved and comes anywhere."""
    items = [SimpleNamespace(nodeid=f"tests/{name}.py::test_{at}") for name in ("worlds/test_a", "app/test_faults",
                                                                               "app/test_page") for at in range(2)]
    conftest.pytest_collection_modifyitems(items)
    assert [item.nodeid[6:] for item in items] == [
        f"{name}.py::test_{at}" for name in ("app/test_page", "app/test_faults", "worlds/test_a") for at in range(2)]
    assert request.config.option.loadscopereorder is False
    missing = [name for name in conftest.LONGEST if not (ROOT / "tests" / f"{name}.py").is_file()]
    assert not missing and len(set(conftest.LONGEST)) == len(conftest.LONGEST)
