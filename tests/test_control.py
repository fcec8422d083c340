"""A control arm: the same method on another checkpoint or with other parameters, beside the method, nowhere else."""

from dataclasses import replace

import pytest

from models.engine import method as methods
from models.engine.method import Control, atlas, find, follow, prepare, twin
from models.serving import session
from models.serving.session import Ask
from models.trace.params import ParamError


@pytest.fixture
def declare(tiny, monkeypatch):
    """Gives a method of the atlas a control arm for the length of a test."""
    def change(id, control, **options):
        changed = {**atlas(), id: replace(atlas()[id], control=control, **options)}
        monkeypatch.setattr(methods, "atlas", lambda: changed)
        return changed[id]
    return change


def test_a_control_is_the_baseline_where_no_other_is_named(declare):
    arm = Control("scene-mgm-1", {"reuse": False})
    assert declare("enat", arm, baseline=None).baseline == "enat-control"
    assert declare("enat", arm).baseline == "maskgit" and find("enat-control").card.title.endswith("(control)")
    assert declare("enat", replace(arm, title="Without reuse")).arm.card.title == "Without reuse"


def test_the_twin_differs_in_what_the_control_says_and_in_nothing_else(declare):
    declare("enat", Control(params={"reuse": False}), baseline=None)
    mine = prepare("enat", params={"steps": 7, "noise": 3.0}, seed=5)
    other = twin(mine)
    assert other.params == replace(mine.params, reuse=False) and other.seed == 5 and other.subject is mine.subject
    assert other.bundle.name == mine.bundle.name and other.method.run is mine.method.run
    ours, theirs = ([*follow(job)][-1].traces["unmask"] for job in (mine, other))
    assert theirs.method == "enat-control" and theirs.provenance.params["reuse"] is False
    assert theirs.facts["encoded"].value > ours.facts["encoded"].value


def test_the_control_runs_on_its_own_checkpoint(declare):
    declare("mtp-future", Control("algo-arithmetic-1"))
    mine = prepare("mtp-future")
    assert twin(mine).bundle.name == mine.bundle.name, "the baseline is still the one that was named"
    assert find("mtp-future-control").checkpoints[0] == "algo-arithmetic-1" != mine.method.checkpoints[0]


def test_the_page_lists_it_behind_the_baseline_and_runs_it(declare):
    declare("enat", Control(params={"reuse": False}))
    assert session.comparable(find("enat"), "unmask", "caption")[:2] == ["maskgit", "enat-control"]
    assert session.default_beside(find("enat"), "unmask", "caption") == ("maskgit",)
    *_, last = session.play(Ask("enat", "unmask", {"steps": 4}, beside=("enat-control", "maskgit")))
    assert [take.trace.method for take in last.takes] == ["enat", "enat-control", "maskgit"]
    declare("enat", Control("not-trained-yet"))
    assert "enat-control" not in session.comparable(find("enat"), "unmask", "caption")


def test_it_is_no_method_of_the_gallery(declare):
    declare("enat", Control(params={"reuse": False}))
    assert "enat-control" not in methods.offered() and "enat-control" not in methods.atlas()
    for id in ("var-control", "nobody-control", "enat-control-control"):
        with pytest.raises(ParamError, match="no method"):
            find(id)
