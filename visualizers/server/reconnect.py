"""When the server went away: what the page says when it was loaded anew. And no answer is lost while it is there."""

from __future__ import annotations

from pathlib import Path

import gradio as gr


def notice() -> gr.HTML:
    """An empty place at the top of the page; lost.js fills it when a restart of the server made the page load again."""
    return gr.HTML(html_template="<div class='lost'></div>", apply_default_css=False,
                   js_on_load=_script("lost.js"), elem_id="lost")


def head() -> str:
    """For the page's head, because it must be there before the first request: no answer is lost between two streams."""
    return f"<script>(() => {{\n{_script('stream.js')}\n}})();</script>"


def _script(name: str) -> str:
    return (Path(__file__).parent / name).read_text("utf-8")
