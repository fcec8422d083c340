"""What the tests of the kernels share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def small(one_thread):
    """Every test of this folder."""


@pytest.fixture
def two_threads(one_thread):
    """For tests of the kernels' own threads."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)
