"""The cap on what a paper's tests may cost, and who a test belongs to."""

import pytest

from tests import costs

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
