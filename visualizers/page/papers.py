"""The list of all papers: what each one is about, in which tabs it is drawn, and whether it is live yet.

The facts come from assets/papers.json; the state is computed from the methods found, never written by hand.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import gradio as gr

from models.engine.method import offered
from models.trace.subject import ASSETS

HERE = Path(__file__).parent


@cache
def facts() -> tuple[dict, ...]:
    """{"slug", "title", "paper", "arxiv", "year", "tabs", "idea"} of every paper."""
    return tuple(json.loads((ASSETS / "papers.json").read_text("utf-8")))


def rows() -> list[dict]:
    """The facts with their state: live where a method of that id has its weights here."""
    live = offered()
    return [{**fact, "live": fact["slug"] in live} for fact in facts()]


def page() -> gr.HTML:
    """The searchable list; searching happens in the browser."""
    return gr.HTML(rows(), html_template="<div class='papers'></div>", apply_default_css=False, elem_id="papers",
                   js_on_load=(HERE / "papers.js").read_text("utf-8"))
