"""Tiny tensors on one torch thread: on a busy machine two threads wait for each other longer than they work."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads(one_thread):
    """For tests of the kernels' own threads."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)
