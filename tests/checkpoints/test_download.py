"""Fetching from a loopback Hub: once for all who wait, every fault a sentence, the disk kept free."""

import errno
import os
import threading
import time
from dataclasses import replace

import pytest

from models.checkpoints import download, hub, store
from models.checkpoints.store import CheckpointError
from models.engine.method import find, prepare
from models.trace import limits
from tests import fake_hub
from tests.checkpoints.public import BERT, GPT2, SMOL, fetch, refused


def test_only_what_is_needed_is_fetched_once_and_without_a_token(here, layouts, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (layouts[GPT2] / "pytorch_model.bin").write_bytes(b"pickle")
    (layouts[GPT2] / "modeling.py").write_text("raise SystemExit")
    try:
        fetch(GPT2)
    finally:
        for extra in ("pytorch_model.bin", "modeling.py"):
            (layouts[GPT2] / extra).unlink()
    got = {path.rpartition("/")[2] for verb, path in here.asked if verb == "GET" and "/resolve/" in path}
    assert got == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(here.tokens) == {None}
    before = len(here.asked)
    assert fetch(GPT2) == [] and store.load(GPT2).folder == hub.folder(GPT2) and len(here.asked) == before


def test_two_visitors_share_one_download_and_a_shipped_model_loads_meanwhile(here):
    """Mutant: a lock held while downloading; the shipped model would wait for the whole hold."""
    here.hold, seen = 1.0, {}
    both = [threading.Thread(target=lambda n=n: seen.update({n: fetch(GPT2)})) for n in range(2)]
    for one in both:
        one.start()
    while not any("safetensors" in path for _, path in here.asked):
        time.sleep(0.01)
    began = time.monotonic()
    store.load("scene-vq-2")
    took = time.monotonic() - began
    for one in both:
        one.join()
    assert sum(verb == "GET" and path.endswith("safetensors") for verb, path in here.asked) == 1
    assert took < 0.8 and hub.folder(GPT2)
    total = hub.TABLE[GPT2].bytes
    assert all(0 <= done <= whole == total for steps in seen.values() for done, whole in steps) and seen[0]


def test_a_download_goes_on_when_the_visitor_leaves(here):
    here.hold = 0.3
    visit = download.fetch(GPT2)
    next(visit)
    visit.close()
    until = time.monotonic() + 5
    while not hub.folder(GPT2) and time.monotonic() < until:
        time.sleep(0.02)
    assert hub.folder(GPT2)


def test_a_run_without_the_files_says_where_to_get_them(here):
    with pytest.raises(CheckpointError, match="choose it in the menu Checkpoint"):
        prepare("sampling", checkpoint=GPT2)
    assert not here.asked  # a link or a run never begins a download


@pytest.mark.parametrize("status, code, word", [
    (403, "GatedRepo", "agreement"), (401, "GatedRepo", "agreement"), (401, "", "not open"),
    (404, "RepoNotFound", "gone from the Hub"), (404, "RevisionNotFound", "revision"),
    (403, "", "not open"), (429, "", "try again"), (500, "", "try again")])
def test_what_the_hub_refuses_is_said(here, status, code, word):
    here.status, here.error = status, code
    assert word in refused(GPT2)
    here.status = 200
    fetch(GPT2)
    assert hub.folder(GPT2)


def test_a_revision_or_a_file_that_is_gone(here, layouts, monkeypatch):
    other = replace(hub.TABLE[GPT2], revision="0" * 40)
    monkeypatch.setitem(hub.TABLE, GPT2, other)
    assert "revision" in refused(GPT2)


def test_a_hub_that_cannot_be_reached(here, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "could not be reached" in refused(GPT2)


def test_offline_or_switched_off_nothing_is_offered_unless_it_is_here(here, monkeypatch):
    fetch(GPT2)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.offered("sampling") == (GPT2,) and "may not ask the Hub" in refused(SMOL)
    monkeypatch.setattr(limits, "HUB", False)
    assert hub.offered("sampling") == () and find("sampling").choices == find("sampling").checkpoints
    with pytest.raises(CheckpointError, match="no checkpoint"):
        prepare("sampling", checkpoint=GPT2)


def test_one_that_is_too_large_for_this_server_is_not_offered(here, monkeypatch):
    monkeypatch.setattr(limits, "DOWNLOAD_BYTES", hub.TABLE[GPT2].bytes - 1)
    assert GPT2 not in hub.offered("sampling") and "larger than" in refused(GPT2)


@pytest.mark.parametrize("fault", [{"short": 100}, {"flip": True}], ids=str)
def test_a_broken_or_changed_download_is_deleted_and_can_be_tried_again(here, fault):
    """Mutant: without the sha256 a flipped byte loads as a slightly wrong model."""
    for key, value in fault.items():
        setattr(here, key, value)
    refused(GPT2)
    assert not list((hub.storage(hub.TABLE[GPT2]) / "blobs").glob("*.incomplete"))
    here.short, here.flip = 0, False
    fetch(GPT2)
    assert store.load(GPT2).model is not None


def test_a_changed_file_without_a_stated_sha256_is_found_by_the_name_that_the_hub_gave_it(here):
    here.flip = True
    assert "sha256" in refused("google/vit-base-patch16-224")


@pytest.mark.parametrize("change", [{"bytes": 1}, {"sha256": "0" * 64}], ids=str)
def test_other_weights_than_the_table_says_are_refused(here, change, monkeypatch):
    one = hub.TABLE[GPT2].weights["model.safetensors"]._replace(**change)
    monkeypatch.setitem(hub.TABLE, GPT2, replace(hub.TABLE[GPT2], weights={"model.safetensors": one}))
    assert "deleted" in refused(GPT2)


def test_a_repository_of_pickles_is_refused(here, layouts, tmp_path, monkeypatch):
    folder = tmp_path / "pickles"
    folder.mkdir()
    (folder / "config.json").write_text((layouts[GPT2] / "config.json").read_text())
    (folder / "pytorch_model.bin").write_bytes(b"x" * 100)
    with fake_hub.serving({(GPT2, hub.TABLE[GPT2].revision): folder}) as (address, faults):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert "safetensors" in refused(GPT2)
        assert not any(path.endswith(".bin") for _, path in faults.asked)
    with pytest.raises(CheckpointError, match="can run code"):
        store.load(str(folder))


def test_a_full_disk_is_said_before_and_while(here, monkeypatch):
    monkeypatch.setattr(limits, "DISK_FREE", 1 << 60)
    assert "disk is too full" in refused(GPT2) and not here.asked
    monkeypatch.setattr(limits, "DISK_FREE", 0)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        assert "disk is too full" in refused(GPT2)
    fetch(GPT2)


def test_a_cache_that_cannot_be_written_is_said(here, monkeypatch):
    def closed(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr("huggingface_hub.file_download.http_get", closed)
    assert "may not write" in refused(GPT2)


def test_a_visitor_is_not_kept_waiting_for_ever(here, monkeypatch):
    here.hold = 0.5
    monkeypatch.setattr(limits, "FETCH_SECONDS", 0.1)
    with pytest.raises(CheckpointError, match="still on its way"):
        fetch(GPT2)
    monkeypatch.setattr(limits, "FETCH_SECONDS", 60)
    fetch(GPT2)  # joins the same download
    assert hub.folder(GPT2) and sum(verb == "GET" and "safetensors" in path for verb, path in here.asked) == 1


def test_progress_leaves_out_what_another_revision_left_in_the_cache(here):
    blobs = hub.storage(hub.TABLE[GPT2]) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "of-another-revision").write_bytes(b"x" * 10_000_000)
    here.hold = 0.2
    assert fetch(GPT2)[0][0] < 1_000_000


def test_old_downloads_of_ours_make_room_and_nobody_elses(here, monkeypatch):
    """Mutant: by name or by age alone; a file of another program in the same cache would be deleted."""
    for name in (GPT2, SMOL, BERT):
        fetch(name)
    (hub.snapshot(hub.TABLE[BERT]) / hub.MARK).unlink()  # as if another program had fetched it
    for days, name in ((9, SMOL), (5, GPT2)):
        os.utime(hub.snapshot(hub.TABLE[name]) / hub.MARK, (time.time() - days * 86400,) * 2)
    store.load(SMOL)  # used just now, so GPT-2 goes
    sizes = {name: hub.TABLE[name].bytes for name in (GPT2, SMOL, "facebook/dinov2-small")}
    monkeypatch.setattr(limits, "DISK_BYTES", sum(sizes.values()) + download.BESIDE - sizes[GPT2])
    fetch("facebook/dinov2-small")
    assert not hub.folder(GPT2) and hub.folder(SMOL) and hub.folder(BERT) and hub.folder("facebook/dinov2-small")
    assert {entry.repo for entry in download.fetched()} == {SMOL, "facebook/dinov2-small"}
