"""Shared fixtures. Environment first: no network, no telemetry, Triton's interpreter before any kernel is imported."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENSCOPE_PINS", os.devnull)  # not what this server pinned
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TOKENSCOPE_KEPT_BYTES", "0")  # every run of a test is a run
os.environ.setdefault("TOKENSCOPE_DTYPE", "float32")  # not what this machine would choose
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers wait for each other longer than they work
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.costs import Costs

PAPERS = Path(__file__).resolve().parents[1] / "models" / "papers"

if not torch.cuda.is_available():  # with a GPU the kernels are compiled and the tests marked cuda run them
    os.environ.setdefault("TRITON_INTERPRET", "1")


# Files that take longer than half a minute, in the order in which workers take them up: what is left for the end should
# be short. Page tests do not begin all at once, since a worker's browser and server want a processor for themselves.
LONGEST = ("app/test_page", "app/test_accessible", "serving/test_replicas", "test_load", "contract/test_methods",
           "serving/test_cores", "contract/test_scaffold", "app/test_bad_input", "app/test_privacy", "app/test_faults",
           "app/test_views", "app/test_api", "app/test_layout", "app/test_gallery")


def pytest_collection_modifyitems(items):
    """The longest files, then those with the most tests; a file's tests stay in their order."""
    rank = {f"tests/{name}.py": at for at, name in enumerate(LONGEST)}
    number = Counter(item.nodeid.partition("::")[0] for item in items)
    items.sort(key=lambda item: (rank.get(name := item.nodeid.partition("::")[0], len(rank)), -number[name], name))


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist knows only how many tests a file has, and ends on a long one
    names = frozenset(folder.name for folder in PAPERS.iterdir() if (folder / "method.py").is_file())
    config.pluginmanager.register(Costs(names), "paper-costs")


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Without the C kernels, which an app in the same process may have compiled; their own tests put them in."""
    monkeypatch.setattr("kernels.native._rows", None)


@pytest.fixture
def one_thread():
    """Tiny tensors on one torch thread: on a busy machine two threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny():
    """Every checkpoint is a tiny random stand-in for the length of a test."""
    from tests import tiny as stand_ins
    stand_ins.use()
    yield stand_ins
    stand_ins.forget()


@pytest.fixture
def arms(monkeypatch):
    """Kind of recipe -> one prepared with random weights where it would start from shipped ones."""
    import sys

    from tests import tiny as stand_ins

    def prepared(kind):
        for module in {sys.modules[one.__module__] for one in kind.__mro__}:
            if hasattr(module, "read_shipped"):
                monkeypatch.setattr(module, "read_shipped", lambda name: stand_ins.fresh(name).float())
        made = kind(0)
        made.prepare("")
        return made
    return prepared


@pytest.fixture
def photo_data(tmp_path):
    """A folder with the two files of photos that claims read, of noise."""
    import io

    import numpy as np
    import pyarrow as arrow
    import pyarrow.parquet as parquet
    from PIL import Image
    rng, pictures = np.random.default_rng(0), []
    for _ in range(32):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
        pictures.append(file.getvalue())
    boxes = [[8, 8, 40, 40]] * 31 + [[3, 3, 3, 3]]
    for name in ("train", "val"):
        parquet.write_table(arrow.table({"image": pictures, "label": [i % 5 for i in range(32)], "bbox": boxes}),
                            tmp_path / f"photos64_{name}.parquet")
    return tmp_path


@pytest.fixture
def shipped():
    """The shipped checkpoints, or a skip that says which one is missing."""
    from models.checkpoints import store
    store._makers.clear()

    def need(*names: str):
        missing = [name for name in names if not (store.SHIPPED / name / "config.json").is_file()]
        if missing:
            pytest.skip(f"checkpoint {', '.join(missing)} is not shipped yet")
    return need


@pytest.fixture(scope="session")
def public():
    """Makes real public models ("smollm2", "minilm") in the cache on first use, so that they may be asked for by name;
    a skip that says why where their packages cannot be had."""
    from tools.public_weights import PublicWeightsError, folder

    def need(name: str) -> str:
        try:
            folder(name)
            return name
        except PublicWeightsError as error:
            pytest.skip(str(error))
    return need
