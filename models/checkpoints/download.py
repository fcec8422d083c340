"""Brings a public checkpoint of models/checkpoints/hub.py into the Hub's cache: once for all who wait, or a sentence
why not.

The download runs in a thread of its own and holds no lock that a run needs. What arrived is compared with the table
before anyone may load it; what is wrong is deleted, so that the next try starts clean. Old downloads of ours make room
for new ones; what other programs put into the Hub's cache is never touched.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

from models.checkpoints import hub
from models.checkpoints.hub import Public
from models.checkpoints.registry import index
from models.checkpoints.verify import CheckpointError, WeightsError, checked, fingerprint
from models.trace import limits

POLL = 0.5  # seconds between two looks at how much has arrived
BESIDE = 5_000_000  # bytes at most of config and tokenizer
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def fetch(name: str) -> Iterator[tuple[int, int]]:
    """Bytes that are here and bytes in all, until a public checkpoint can be loaded; nothing for one that can be now.

    Several who want the same one share a download, and it goes on when one of them leaves. CheckpointError when it
    cannot be had.
    """
    if name not in hub.TABLE or hub.folder(name):
        return
    if why := hub.hindrance(name):
        raise CheckpointError(f"'{name}' cannot be fetched here: {why}; please choose a shipped checkpoint.")
    began, behind = time.monotonic(), 0
    for entry in hub.family(name):
        for done in () if hub.whole(entry) else _arriving(entry, began):
            yield behind + done, hub.size(name)
        behind += entry.bytes


def _arriving(entry: Public, began: float) -> Iterator[int]:
    """Bytes of one repository that are here, until all are."""
    download, before = _download(entry)
    while not wait([download], timeout=POLL).done:
        yield min(max(arrived(entry) - before, 0), entry.bytes)
        if time.monotonic() - began > limits.FETCH_SECONDS:
            raise CheckpointError(f"'{entry.repo}' is still on its way after {limits.FETCH_SECONDS:.0f} seconds; it "
                                  "will go on arriving, please choose it again in a few minutes.")
    download.result()


def arrived(entry: Public) -> int:
    """Bytes of this repository on the disk so far, finished or not; counted there, so any way of fetching shows."""
    total = 0
    for path in (hub.storage(entry) / "blobs").glob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:  # finished and renamed meanwhile
            continue
    return total


_running: dict[str, tuple[Future, int]] = {}  # each download, and what was there of its repository before
_lock = threading.Lock()


def _download(entry: Public) -> tuple[Future, int]:
    """The running download of this entry, begun now if there is none."""
    with _lock:
        if entry.repo not in _running:
            future: Future = Future()
            _running[entry.repo] = future, arrived(entry)
            # No ThreadPoolExecutor: Python waits for an executor's threads before it ends, so a server that is stopped
            # would go on until half a gigabyte has arrived.
            threading.Thread(target=_work, args=(entry, future), daemon=True).start()
        return _running[entry.repo]


def _work(entry: Public, future: Future) -> None:
    """A download from its beginning to what those who wait are told; over before they are, so that a new try is new."""
    failed = None
    try:
        _bring(entry)
    except CheckpointError as error:
        failed = error
    except BaseException as error:  # handed to those who wait; the cause stays behind the sentence
        clear(entry)
        failed = CheckpointError(sentence(entry, error))
        failed.__cause__ = error
    with _lock:
        del _running[entry.repo]
    future.set_result(None) if failed is None else future.set_exception(failed)


def _bring(entry: Public) -> None:
    """Room, download, comparison with the table, and our mark beside it."""
    from huggingface_hub import snapshot_download
    place = hub.snapshot(entry)
    if any(path.exists() for path in hub.cut(entry)):  # the Hub's library would take it for complete
        drop(entry)
    make_room(entry)
    snapshot_download(entry.repo, revision=entry.revision, allow_patterns=list(entry.files), token=False,
                      endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        compared(entry, place)
    except WeightsError as error:
        drop(entry)
        raise CheckpointError(f"What the Hub sent as '{entry.repo}' {error} It was deleted; please try again later or "
                              "choose another checkpoint.") from None
    (place / hub.MARK).touch()


def compared(entry: Public, place: Path) -> None:
    """WeightsError unless the files are those of the table."""
    for path, (size, sha256) in zip(checked(place, entry.prints), entry.weights.values()):
        if path.stat().st_size != size:
            raise WeightsError(f"has {path.stat().st_size:,} bytes of weights where {size:,} were promised.")
        named = path.resolve().name  # the Hub's cache names a large file by the sha256 that the Hub states
        if not sha256 and len(named) == 64 and fingerprint(path) != named:
            raise WeightsError("was changed on its way (its sha256 differs).")
    if not (place / index(entry.architecture)).is_file():
        raise WeightsError(f"has no {index(entry.architecture)}.")


def make_room(entry: Public) -> None:
    """Deletes our least recently used downloads until this one fits; CheckpointError where the disk is too full."""
    need, ours = entry.bytes + BESIDE, fetched()
    while ours and (sum(one.bytes for one in ours) + need > limits.DISK_BYTES or free() < need + limits.DISK_FREE):
        forget(ours.pop(0))
    if free() < need + limits.DISK_FREE:
        raise CheckpointError(_full(entry))


def fetched() -> list[Public]:
    """What we put into the cache and is still there, least recently used first."""
    marks = {entry.repo: hub.snapshot(entry) / hub.MARK for entry in hub.TABLE.values() if entry.revision}
    ours = {repo: mark.stat().st_mtime for repo, mark in marks.items() if mark.is_file()}
    return [hub.TABLE[repo] for repo in sorted(ours, key=ours.get)]


def used(name: str) -> None:
    """Notes that a public checkpoint was just loaded."""
    mark = hub.snapshot(hub.TABLE[name]) / hub.MARK
    try:
        if mark.exists():
            os.utime(mark)
    except OSError:
        pass  # a read-only cache


def forget(entry: Public) -> None:
    """Deletes this revision from the cache, and the files that no other revision shares."""
    from huggingface_hub import constants, scan_cache_dir
    scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(entry.revision).execute()


def drop(entry: Public) -> None:
    """Deletes the files of a damaged snapshot, whoever fetched them, so that the next fetch brings them again."""
    for name in entry.files:
        path = hub.snapshot(entry) / name
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def clear(entry: Public) -> None:
    """Deletes what an interrupted download left; the library starts over anyway."""
    for path in (hub.storage(entry) / "blobs").glob("*.incomplete"):
        path.unlink(missing_ok=True)


def free() -> int:
    """Bytes free where the Hub's cache is, or will be."""
    from huggingface_hub import constants
    place = Path(constants.HF_HUB_CACHE).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def sentence(entry: Public, error: BaseException) -> str:
    """What went wrong with a download, for a visitor."""
    from huggingface_hub import errors
    name, otherwise = f"'{entry.repo}'", "please choose another checkpoint"
    numbers = {one.errno for one in chain(error) if isinstance(one, OSError)}
    if numbers & FULL:
        return _full(entry)
    if numbers & CLOSED:
        return f"This server may not write to its folder for checkpoints, so {name} cannot be fetched; {otherwise}."
    causes = (
        (errors.GatedRepoError, f"{name} is behind an agreement on the Hub that a person has to accept; {otherwise}."),
        (errors.RevisionNotFoundError, f"The revision of {name} that this app is pinned to is gone from the Hub; "
                                       f"{otherwise}, and tell whoever runs this server."),
        (errors.DisabledRepoError, f"{name} was disabled on the Hub; {otherwise}."),
        (errors.RepositoryNotFoundError, f"{name} is gone from the Hub, or no longer public; {otherwise}."),
        (errors.RemoteEntryNotFoundError, f"A file of {name} is gone from the Hub; {otherwise}."))
    for one in chain(error):
        for kind, said in causes:
            if isinstance(one, kind):
                return said
        if isinstance(one, errors.HfHubHTTPError) and one.response.status_code in (401, 403):
            return f"{name} is not open to everyone on the Hub any more; {otherwise}."
    return (f"The Hub could not be reached, or broke off, while {name} was fetched; please try again in a few minutes "
            "or choose a shipped checkpoint.")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _full(entry: Public) -> str:
    return (f"The disk is too full for the {entry.bytes / 1e6:.0f} MB of '{entry.repo}'; please choose a smaller "
            "checkpoint or a shipped one.")
