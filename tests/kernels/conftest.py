"""What the tests of the kernels share."""

import shutil

import pytest
import torch

from kernels import native

COMPILED = ("cpu-compiled",) if any(map(shutil.which, ("cc", "gcc", "clang"))) else ()


@pytest.fixture(scope="session")
def library():
    """The C kernels, where a compiler is found."""
    return native.load(native.library()) if COMPILED else None


@pytest.fixture(autouse=True)
def small(one_thread):
    """Every test of this folder."""


@pytest.fixture
def two_threads(one_thread):
    """For tests of the kernels' own threads."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)
