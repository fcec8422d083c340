"""Forgets visitors who left: what their session held, and every uploaded file, within a minute.

Gradio keeps the session of a closed page for an hour, and a file whose upload broke off for ever. Here the end of a
page is the end of its connection; a laptop that only slept finds its page again, but not the data behind its picture.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from pathlib import Path

import gradio as gr

from visualizers.server import gradio_patches

AWAY = 20.0  # seconds without a connection before a session is dropped; a page that reloads is back sooner
KEEP = 40.0  # seconds that an uploaded file may lie on the disk; it is read and deleted at once if all goes well
EVERY = 5.0
log = logging.getLogger("tokenscope")


def own_folder() -> Path:
    """Where uploads lie while they are read: a folder of this user and this app alone, so that it may be swept."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / f"tokenscope-{user}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != user:
            folder = Path(tempfile.mkdtemp(prefix="tokenscope-"))  # somebody else made it first, to read what comes
    except OSError as error:  # a full or read-only disk: everything but uploads works
        log.error("no folder for uploads: %s", type(error).__name__)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def after_leaving(page: gr.Blocks) -> Forgetting:
    """Inside the Blocks that is being built: forgets those who leave it. Nothing here is an endpoint for programs."""
    found = Forgetting(page, own_folder())
    page.unload(found.note)
    gradio_patches.unlisted(page)
    return found


class Forgetting:
    """Notes who left, and clears up every few seconds from then on.

    left: session -> when its page's connection ended. A session that was used again afterwards is not dropped.
    """

    def __init__(self, page: gr.Blocks, folder: Path):
        self.page, self.folder, self.begun = page, folder, threading.Lock()
        self.left: dict[str, float] = {}
        sweep(folder, time.time() - KEEP)  # what a killed process left behind

    def note(self, request: gr.Request) -> None:
        """A page was closed; the first time this starts the clearing up."""
        self.left[request.session_hash] = time.time()
        if self.begun.acquire(blocking=False):
            threading.Thread(target=self._work, daemon=True, name="forgetting").start()

    def _work(self) -> None:
        while True:
            time.sleep(EVERY)
            try:
                self.tidy(time.time())
            except Exception as error:  # a full disk today must not keep tomorrow's files
                log.error("clearing up failed and is tried again: %s", type(error).__name__)

    def tidy(self, now: float) -> None:
        """Drops the sessions that were left long enough ago, and old files."""
        for session, since in list(self.left.items()):
            if now - since >= AWAY:
                del self.left[session]
                if not gradio_patches.used_since(self.page, session, since):
                    gradio_patches.drop(self.page, session)
        sweep(self.folder, now - KEEP)
        gradio_patches.uploads(self.page)


def sweep(folder: Path, before: float) -> None:
    """Deletes every file below `folder` that was last changed before this time, and the folders that are then empty."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is inside comes first
        try:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path.lstat().st_mtime < before:
                path.unlink()
        except OSError:
            continue  # not empty, or already gone
