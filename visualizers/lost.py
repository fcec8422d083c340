"""When the server went away: what the page says when it was loaded anew. And no answer is lost while it is there."""

from __future__ import annotations

from pathlib import Path

import gradio as gr


def notice() -> gr.HTML:
    """An empty place at the top of the page; lost.js fills it when a restart of the server made the page load again.
    stream.js keeps results from being lost between two of the page's requests."""
    scripts = [(Path(__file__).parent / name).read_text("utf-8") for name in ("stream.js", "lost.js")]
    return gr.HTML(html_template="<div class='lost'></div>", apply_default_css=False,
                   js_on_load="\n".join(f"{{\n{script}\n}}" for script in scripts), elem_id="lost")
