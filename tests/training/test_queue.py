"""The training queue: lanes, order, what is skipped, what is lost with what it starts from, and the table."""

import json
import subprocess
import sys

import pytest

from training import queue
from training.queue import Run, finished, read, table, work

LONG, SHORT = "import time; time.sleep(0.4)", "pass"


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """No recipe's name is taken, nothing is shipped."""
    monkeypatch.setattr(queue, "SHIPPED", tmp_path)
    return tmp_path


def ship(shelf, name: str, command: str, **more) -> None:
    (shelf / name).mkdir()
    (shelf / name / "card.json").write_text(json.dumps({"recipe": command, "minutes": 3.0, "steps": 9, **more}))


class Lanes:
    """Begins tiny processes in the runs' place and keeps who was going at the same time."""

    def __init__(self, code=lambda run: SHORT):
        self.code, self.begun, self.most, self.going = code, [], 0, []

    def __call__(self, run, runs):
        self.begun.append(run.name)
        self.going = [one for one in self.going if one.poll() is None]
        self.going.append(subprocess.Popen([sys.executable, "-c", self.code(run)]))
        self.most = max(self.most, len(self.going))
        return self.going[-1]


def worked(names, lanes=2, code=lambda run: SHORT, monkeypatch=None):
    made = Lanes(code)
    return work([Run(name) for name in names], lanes, "", lambda line: None, 0.01, made), made


def test_a_queue_is_read_from_a_file_or_from_names(tmp_path):
    path = tmp_path / "wave.txt"
    path.write_text("# first\ntext-mdm-2 --warm --seed 5 --minutes 100\n\nscene-vq-1 # quick\n")
    assert [run.command for run in read(str(path))] == ["text-mdm-2 --warm --seed 5 --minutes 100", "scene-vq-1"]
    assert [run.name for run in read("scene-vq-1,text-ar-1")] == ["scene-vq-1", "text-ar-1"]
    with pytest.raises(ValueError, match="no recipe no-such-1"):
        read("scene-vq-1,no-such-1")


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_never_more_at_a_time_than_there_are_lanes(lanes):
    done, made = worked(["scene-vq-1", "scene-vq-2", "text-ar-1", "photo-mae-1"], lanes, lambda run: LONG)
    assert made.most == lanes and made.begun == ["scene-vq-1", "scene-vq-2", "text-ar-1", "photo-mae-1"]
    assert all(run.state == queue.DONE for run in done)


def test_what_is_finished_is_skipped_and_another_budget_is_not(shelf):
    ship(shelf, "text-mdm-2", "python -m training text-mdm-1 --seed 0 --minutes 4.2, then "
                              "python -m training text-mdm-2 --seed 5 --minutes 100 --warm")
    assert finished(Run("text-mdm-2", ("--warm", "--seed", "5", "--minutes", "100.0")))
    for other in (("--warm", "--seed", "5", "--minutes", "120"), ("--seed", "5", "--minutes", "100"),
                  ("--warm", "--minutes", "100"), ("--warm", "--seed", "5")):
        assert not finished(Run("text-mdm-2", other)), other
    usual = queue.recipe("scene-vq-1").minutes
    ship(shelf, "scene-vq-1", f"python -m training scene-vq-1 --seed 0 --minutes {usual:g}")
    done, made = worked(["scene-vq-1", "scene-vq-2"])
    assert made.begun == ["scene-vq-2"] and [run.state for run in done] == [queue.SKIPPED, queue.DONE]


def test_a_run_waits_for_what_it_starts_from_and_goes_down_with_it(monkeypatch):
    monkeypatch.setattr(queue, "needs", lambda run: {"text-ar-1k-2": {"text-mdm-2"}}.get(run.name, set()))
    names = ["text-ar-1k-2", "text-mdm-2", "scene-vq-1"]
    done, made = worked(names, 2, lambda run: LONG if run.name == "text-mdm-2" else SHORT)
    assert made.begun == ["text-mdm-2", "scene-vq-1", "text-ar-1k-2"]
    done, made = worked(names, 2, lambda run: "raise SystemExit(3)" if run.name == "text-mdm-2" else SHORT)
    assert {run.name: run.state for run in done} == {"text-ar-1k-2": queue.WAITED, "text-mdm-2": queue.FAILED,
                                                     "scene-vq-1": queue.DONE}
    assert "not run (without text-mdm-2)" in table(done) and "failed (exit code 3" in table(done)


def test_version_2_needs_version_1_and_not_itself():
    assert queue.needs(Run("text-mdm-2")) == {"text-mdm-1"}


def test_the_table_says_minutes_steps_and_what_was_reached(shelf):
    ship(shelf, "scene-vq-2", "", metrics={"score": {"value": 0.9, "unit": "0-1", "n": 3}})
    done, _ = worked(["scene-vq-2"])
    assert table(done).splitlines()[-1] == "| scene-vq-2 | done | 3.0 | 9 | score: 0.9 0-1 |"


def test_a_real_run_has_one_thread_low_priority_and_a_log(tmp_path, monkeypatch):
    code = ("import os, sys, torch; print(os.nice(0), torch.get_num_threads(), "
            "'--threads 1' in ' '.join(sys.argv))")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__main__.py").write_text(code)
    monkeypatch.setattr(queue, "ROOT", tmp_path)
    assert queue.start(Run("scene-vq-1"), str(tmp_path / "runs")).wait() == 0
    said = (tmp_path / "runs" / "logs" / "scene-vq-1.log").read_text()
    assert said.split() == ["19", "1", "True"]
