"""What a paper's tests cost: processor seconds of its own test file and of its share of the contract, with a cap.

At 89 papers the suite must still fit, so a paper may take CAP seconds of a processor, its contract tests included. A
slow machine gets more: seconds are divided by how much slower than REFERENCE it does a fixed piece of work. Counted in
the process of the test alone: browsers and forked workers are the page's cost, not a paper's.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict

import pytest

CAP = 5.0  # processor seconds of a paper
NOISE = 2.5  # beside other programs tests take longer, and the first of a process pays for its imports
REFERENCE = 0.038  # processor seconds that `work` takes on the machine on which the cap was set, idle
SPENT = pytest.StashKey[float]()
# Papers from before the cap, with what they took in a whole run of 2026-11-29 beside other programs. None may be added.
HEAVY = {"lantern": 12.3, "lazyllm": 9.7, "mtp_future": 9.5, "recap": 8.6, "enat": 7.7, "joint_sampling": 7.3,
         "electra": 5.7}


def work() -> float:
    """Processor seconds of a fixed piece of work like that of the tests: small tensors, one after the other."""
    import torch
    began, x = time.process_time(), torch.ones(16, 64)
    for _ in range(4000):
        x = torch.nn.functional.layer_norm(x @ x.T @ x, (64,))
    return time.process_time() - began


def paper_of(nodeid: str, papers: frozenset[str]) -> str:
    """The paper that a test belongs to: its own file, or a contract test with its id; "" for all others."""
    own = re.match(r"tests/papers/test_(\w+)\.py", nodeid)
    if own:
        return max((id for id in papers if own[1].startswith(id)), key=len, default="")
    shared = re.match(r"tests/(?:contract|serving)/.*\[([\w-]+?)(?:-[^\]]*)?\]$", nodeid)
    whole = re.search(r"\[([\w-]+)", nodeid) if shared else None
    found = whole[1].replace("-", "_") if whole else ""
    return max((id for id in papers if found.startswith(id)), key=len, default="")


def over(totals: dict[str, float], slowness: float = 1.0) -> dict[str, float]:
    """Papers beyond their cap, in seconds of the reference machine."""
    even = {paper: seconds / slowness for paper, seconds in totals.items()}
    return {paper: round(seconds, 1) for paper, seconds in even.items() if seconds > NOISE * HEAVY.get(paper, CAP)}


class Costs:
    """The plugin: every process counts its own tests, the one that reports adds them up and fails the session."""

    def __init__(self, papers: frozenset[str]):
        self.papers, self.totals = papers, defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        item.stash[SPENT] = time.process_time()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report, now = (yield), time.process_time()
        report.user_properties = [*report.user_properties, ("cpu", now - item.stash[SPENT])]
        item.stash[SPENT] = now
        return report

    def pytest_runtest_logreport(self, report):
        paper = paper_of(report.nodeid, self.papers)
        if paper:
            self.totals[paper] += sum(value for name, value in report.user_properties if name == "cpu")

    def pytest_terminal_summary(self, terminalreporter):
        if self.totals:
            told = ", ".join(f"{p} {s:.1f}" for p, s in sorted(self.totals.items(), key=lambda pair: -pair[1]))
            terminalreporter.write_line(f"processor seconds by paper: {told}")

    def pytest_sessionfinish(self, session):
        if self.totals and not hasattr(session.config, "workerinput"):  # the process that reports
            beyond = over(self.totals, max(1.0, work() / REFERENCE)) if over(self.totals) else {}
            if beyond:
                print(f"\nbeyond the cap of {CAP:g} processor seconds a paper: {beyond}; see tests/costs.py")
                session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
