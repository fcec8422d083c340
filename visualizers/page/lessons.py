"""Guided walks: per tab a few questions; the visitor guesses first, then a link opens the view that answers.

The texts stand in assets/lessons.json, with checks on the facts of each view; tests run them on the shipped weights, so
that a walk cannot say what the app does not show.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import gradio as gr

from models.engine.method import offered
from models.trace.subject import ASSETS

HERE = Path(__file__).parent
SHOWN = ("link", "ask", "options", "right", "say")


@cache
def lessons() -> dict[str, dict]:
    """{tab: {"title", "steps": [{"link", "ask", "options", "right", "say", "check"}]}}.

    `check` holds rows: a method in the view, a fact of it, and the range in which the text is true.
    """
    return json.loads((ASSETS / "lessons.json").read_text("utf-8"))


def walk(tab: str) -> gr.HTML | None:
    """The tab's walk as a component: its `go` event follows a guess, with {"link", "method"} in its value. None where a
    method of it has no weights here."""
    found, here = lessons().get(tab), offered()
    if found is None or any(row[0] not in here for step in found["steps"] for row in step["check"]):
        return None
    steps = [{key: step[key] for key in SHOWN} for step in found["steps"]]
    return gr.HTML({"tab": tab, "title": found["title"], "steps": steps}, html_template="<div class='lesson'></div>",
                   apply_default_css=False, elem_id=f"{tab}-walk", js_on_load=(HERE / "lesson.js").read_text("utf-8"))
