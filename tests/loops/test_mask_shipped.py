"""What the shipped networks must do on the free example photos; the claims measure it on held-out ones."""

import time

import numpy as np
import pytest

from models.engine.method import find, prepare, run
from models.trace.subject import from_example

pytestmark = pytest.mark.weights


def traces(id, seeds=(0, 1, 2), **params):
    method = find(id)
    return [run(id, from_example(example, "photo"), params, seed=seed).traces["mask"]
            for example in method.examples for seed in seeds]


def test_the_network_beats_the_mean_colour(shipped):
    shipped("photo-mae-1", "photo-hpm-1")
    facts = [trace.facts for trace in traces("mae")]
    assert np.mean([f["error"].value for f in facts]) < 0.8 * np.mean([f["mean_colour"].value for f in facts])


def test_blocks_are_harder_than_a_grid(shipped):
    shipped("photo-mae-1", "photo-hpm-1")
    grid, block = ([t.facts["error"].value for t in traces("mae", rule=rule)] for rule in ("grid", "block"))
    assert np.mean(block) > np.mean(grid)


def test_predictions_of_difficulty_are_worth_something(shipped):
    shipped("photo-mae-1", "photo-hpm-1")
    facts = [trace.facts for trace in traces("hpm", seeds=(0,))]
    assert np.mean([f["rho"].value for f in facts]) > 0.2
    assert np.mean([f["harder"].value for f in facts]) > 0


def test_both_convnets_beat_inpainting_and_only_one_keeps_its_holes(shipped):
    shipped("photo-spark-1", "photo-spark-zero-1")
    for id, covered in (("spark", 40.625), ("zero-fill", 100)):
        facts = [trace.facts for trace in traces(id, seeds=(0, 1))]
        assert np.mean([f["error"].value for f in facts]) < np.mean([f["inpaint"].value for f in facts])
        assert {f["covered"].value for f in facts} == {covered}


def test_defaults_answer_in_time(shipped, one_thread):
    """Processor time on one core, because a shared machine's wall clock says little."""
    shipped("photo-mae-1", "photo-hpm-1", "photo-spark-1", "photo-spark-zero-1")
    for id in ("mae", "hpm", "spark", "zero-fill"):
        job = prepare(id)
        list(job.method.run(job))  # warm
        began = time.process_time()
        list(job.method.run(job))
        assert time.process_time() - began < 1.5
