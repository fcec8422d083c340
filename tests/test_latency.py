"""The browserless latency benchmark: what counts as first, and that being late shows."""

import time

from benchmarks import latency
from models.engine import method as methods
from models.engine.method import follow


def test_the_first_record_of_each_tab_is_timed(tiny):
    mask, attend = (latency.watched("hpm", tab, "cpu") for tab in ("mask", "attend"))
    assert 0 < mask["first"][0] < mask["last"][0]
    assert mask["first"][0] / mask["last"][0] < attend["first"][0] / attend["last"][0], "attention comes after the mask"


def test_a_late_first_step_misses_its_limit(tiny, monkeypatch):
    def late(job):
        time.sleep(0.45)
        yield from follow(job)
    monkeypatch.setattr(methods, "follow", late)
    first, last = latency.rows("mae", "mask", "cpu", 1)
    assert first["holds"] is False and first["wall_ms"] > 400 and first["cpu_ms"] < first["wall_ms"]
    assert "first step" in first["what"] and "last step" in last["what"]
