"""What the tests of public checkpoints share: their names, fetching, and the sentence of a refusal."""

import time
from pathlib import Path

import pytest

from models.checkpoints import download, hub, store
from models.checkpoints.store import CheckpointError

GPT2, SMOL, BERT = "openai-community/gpt2", "HuggingFaceTB/SmolLM2-135M", "google-bert/bert-base-uncased"
AMUSED, ELECTRA, WRITER = "amused/amused-256", "google/electra-small-discriminator", "google/electra-small-generator"


class Hurried:
    """The clock without its pauses."""

    sleep = staticmethod(lambda *_: None)

    def __getattr__(self, name):
        return getattr(time, name)


def fetch(name: str) -> list[tuple[int, int]]:
    return list(download.fetch(name))


def refused(name: str) -> str:
    """The sentence with which a fetch ends; afterwards a shipped checkpoint still loads."""
    with pytest.raises(CheckpointError) as caught:
        fetch(name)
    said = str(caught.value)
    assert said.endswith(".") and "\n" not in said and len(said) < 300 and "/tmp" not in said
    assert not hub.folder(name) and name not in download._running
    assert store.load("scene-vq-2").model is not None
    return said


def copy_of(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target
