"""Raster decoding as it is shown: a row of codes per step, every pass counted, the rest of the picture still open."""

from dataclasses import replace

import numpy as np
import pytest

from models.engine.method import prepare, run, twin
from models.trace import Cost
from tests.traps import caught

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_row_is_as_many_passes_as_it_has_codes(tiny):
    found = run("raster", seed=2).traces["unmask"]

    def counted(steps):
        assert [step.cost.calls for step in steps] == [8] * 8
        assert all(step.cost.macs > 0 and step.cost.ms > 0 for step in steps)
        assert sum((step.cost for step in steps), Cost()).rows == 2 * 2 * (64 + 5), "layers, branches, the caption once"

    caught(counted, list(found.steps), [replace(step, cost=Cost()) for step in found.steps])
    for row, step in enumerate(found.steps):
        assert np.array_equal(step.where("new"), np.arange(8 * row, 8 * row + 8))
        assert np.array_equal(step.where("unknown"), np.arange(8 * row + 8, 64))
    assert found.facts["passes"].value == 64 and found.cost.calls == 64


def test_it_stands_beside_var_in_as_many_branches(tiny):
    assert twin(prepare("var")).params.guidance > 0
    assert twin(prepare("var", params={"guidance": 0})).params.guidance == 0
