"""Every place where Gradio is made to behave otherwise than it does, in one file.

Gradio is pinned exactly. Before another version is pinned, tests/app/test_gradio_patches.py says patch by patch whether
Gradio still does what the patch is for: a test that fails there means that the patch can go.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import gradio as gr
import gradio.queueing
from gradio.blocks import BlocksConfig

from models.serving.errors import trail

log = logging.getLogger("tokenscope")


class Patch(NamedTuple):
    """What Gradio 6.31 does, and where its project speaks of it ("" where nothing was found, 2026-11-29)."""

    gradio: str
    upstream: str


GITHUB = "https://github.com/gradio-app/gradio/"
PATCHES = {
    "insist": Patch("A call with too few values gets no answer, and the log what was sent.", GITHUB + "issues/5908"),
    "quiet": Patch("It prints every error with its message, which quotes the value that a menu refused; since 5.9 a "
                   "raiser may say print_exception=False, but here Gradio raises.", GITHUB + "issues/10136"),
    "drop": Patch("It keeps the session of a closed page for an hour.", GITHUB + "pull/7829"),
    "uploads": Patch("It forgets no upload's name as long as the process lives.", GITHUB + "issues/8098"),
    "stream": Patch("Its client takes a stream for open until it has read its end; what is asked meanwhile is never "
                    "answered. Other races of that kind were mended.", GITHUB + "pull/7926"),
    "lost": Patch("When the server is back it loads the page again, on the first tab and without a word.",
                  GITHUB + "pull/12907"),
    "RENDERS": Patch("Two renders at a time walk through a session's components while the other adds some.",
                     GITHUB + "issues/9991"),
    "walk": Patch("It walks through a session's blocks and functions while another event of it adds some; then a "
                  "render is lost, and the page keeps the controls of the method before.", GITHUB + "issues/9410"),
    "LAUNCH": Patch("It ends an app that, on a busy machine, answers itself later than after 3 s.",
                    GITHUB + "issues/3517"),
}

RENDERS = {"concurrency_id": "controls", "concurrency_limit": 1}  # for every gr.render: one after the other
LAUNCH = {"_frontend": False}


class Walked(dict):
    """May be added to while somebody walks through it: a walk sees what was there when it began."""

    def values(self) -> list:  # type: ignore[override]
        return list(super().values())

    def items(self) -> list:  # type: ignore[override]
        return list(super().items())


def walk() -> None:
    """Every session's own copy of the page can be walked through while it grows."""
    if getattr(BlocksConfig.__copy__, "walked", False):
        return
    copied = BlocksConfig.__copy__

    def copy(self: BlocksConfig) -> BlocksConfig:
        new = copied(self)
        new.blocks, new.fns = Walked(new.blocks), Walked(new.fns)
        return new
    copy.walked = True  # type: ignore[attr-defined]
    BlocksConfig.__copy__ = copy  # type: ignore[method-assign]


def insist(page: gr.Blocks) -> None:
    """A call with too few values is told so."""
    check = page.validate_inputs

    def validate(*call) -> None:
        try:
            check(*call)
        except ValueError:
            raise gr.Error("this call needs all its values, in their order", print_exception=False) from None
    page.validate_inputs = validate


def quiet() -> None:
    """Errors are logged by type and place, never by message."""
    gradio.queueing.traceback = SimpleNamespace(print_exc=say_where)


def say_where() -> None:
    log.error("a call failed: %s", trail(sys.exc_info()[1]))


def drop(page: gr.Blocks, session: str) -> None:
    """Deletes all that Gradio holds of a session."""
    holder, queue = page.state_holder, page._queue
    holder.session_data.pop(session, None)
    holder.time_last_used.pop(session, None)
    queue.pending_event_ids_session.pop(session, None)
    if session in queue.pending_messages_per_session:
        del queue.pending_messages_per_session[session]


def used_since(page: gr.Blocks, session: str, since: float) -> bool:
    used = page.state_holder.time_last_used.get(session)
    return used is not None and used.timestamp() > since + 1  # noting is itself a use


def uploads(page: gr.Blocks) -> None:
    """Forgets the names of uploads that are no longer on the disk."""
    known = page.upload_file_set
    known -= {path for path in list(known) if not os.path.exists(path)}


def unlisted(page: gr.Blocks) -> None:
    """Takes the event that was added last off the API, where Gradio offers no such option."""
    next(reversed(page.default_config.fns.values())).api_visibility = "private"


def stream() -> str:
    """For the page's head, because it must be there before the first request: no answer is lost between two streams."""
    return f"<script>(() => {{\n{_script('stream.js')}\n}})();</script>"


def lost() -> gr.HTML:
    """An empty place at the top of the page; lost.js fills it when a restart of the server made the page load again."""
    return gr.HTML(html_template="<div class='lost'></div>", apply_default_css=False,
                   js_on_load=_script("lost.js"), elem_id="lost")


def _script(name: str) -> str:
    return (Path(__file__).parent / name).read_text("utf-8")
