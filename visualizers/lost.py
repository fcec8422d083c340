"""When the server went away: what the page says after it was loaded anew."""

from __future__ import annotations

from pathlib import Path

import gradio as gr


def notice() -> gr.HTML:
    """An empty place at the top of the page; lost.js fills it when a restart of the server made the page load again."""
    return gr.HTML(html_template="<div class='lost'></div>", apply_default_css=False,
                   js_on_load=(Path(__file__).parent / "lost.js").read_text("utf-8"), elem_id="lost")
