"""The compiler accepts every kernel, on a machine without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).resolve().parents[2]
SHARED = 227 * 1024  # bytes of shared memory that a program may have on Hopper


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper_and_fits():
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    done = subprocess.run([sys.executable, "-m", "tests.kernels.compile_kernels"], cwd=ROOT, env=environment,
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, _ in found} == {"forward", "columns_received", "read", "project", "reveal"}
    assert all(int(shared) < SHARED for _, shared in found), found
