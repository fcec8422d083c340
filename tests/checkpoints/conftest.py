"""A Hub on loopback that has tiny weights in the layouts of the real repositories."""


import pytest

from models.checkpoints import download, hub, store
from models.trace import limits
from tests import fake_hub
from tests.checkpoints.public import Hurried


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """name -> folder with tiny weights in the layout of the real repository."""
    root = tmp_path_factory.mktemp("layouts")
    return {name: make(root / name.replace("/", "--")) for name, make in fake_hub.LAYOUTS.items()}


@pytest.fixture
def here(layouts, tmp_path, monkeypatch):
    """A Hub on loopback that has these; nothing in its cache yet. Yields the Hub's faults."""
    table, served = fake_hub.served(layouts, pinned=True)
    with fake_hub.serving(served) as (address, faults):
        monkeypatch.setattr(hub, "TABLE", table)
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(limits, "DISK_FREE", 0)
        monkeypatch.setattr(limits, "CPU_MACS", float("inf"))
        monkeypatch.setenv("TOKENSCOPE_PINS", str(tmp_path / "pins.json"))
        monkeypatch.setattr(download, "POLL", 0.02)
        monkeypatch.setattr("huggingface_hub.utils._http.time", Hurried())  # it waits between tries
        monkeypatch.setattr(store, "_loaded", type(store._loaded)())
        yield faults


@pytest.fixture
def unpinned(here, layouts, monkeypatch):
    """A server that has pinned nothing yet."""
    monkeypatch.setattr(hub, "TABLE", fake_hub.served(layouts, pinned=False)[0])
    return here
