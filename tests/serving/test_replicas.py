"""Replicas on Ray Serve: one is killed in the midst of a run, and all get the answer that they would get alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("ray", reason="needs requirements-ray.txt")


def test_every_accepted_run_is_answered_when_a_replica_is_lost():
    """Mutants: no second try (an answer is missing); errors raised in the replica (Ray's text reaches the visitor)."""
    env = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(ROOT / "tests/lost_replica.py")], env=env, cwd=ROOT, timeout=400,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["replicas"] == 2 and found["same"] and found["retries"] >= 1 and found["closed"]
    assert found["refused"].startswith("mask_ratio must be a number from 0.25") and "\n" not in found["refused"]


def test_without_ray_or_replicas_runs_stay_here():
    from models.serving import replicas
    assert not replicas.deployed()
