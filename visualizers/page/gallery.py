"""The gallery: every paper and baseline with its recorded picture, what it is about, its tabs and its claim's verdict.

It is the list of all papers and the way to choose a method. The facts come from assets/papers.json; the state is
computed from the methods found, never written by hand. Pictures are fetched as they come into view
(visualizers/server/thumbnails.py).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import gradio as gr

from models import claims
from models.engine.method import Method, offered
from models.serving import recorded
from models.trace.subject import ASSETS

HERE = Path(__file__).parent
BASELINES = "To compare with"


@cache
def facts() -> tuple[dict, ...]:
    """{"slug", "title", "paper", "arxiv", "year", "tabs", "idea", "family"} of every paper."""
    return tuple(json.loads((ASSETS / "papers.json").read_text("utf-8")))


def rows() -> list[dict]:
    """Papers, then the live baselines; live where a method of that id has its weights here."""
    live = offered()
    found = [{**fact, **_state(live.get(fact["slug"]))} for fact in facts()]
    known = {fact["slug"] for fact in facts()}
    return found + [_baseline(method) | _state(method) for method in live.values() if method.id not in known]


def _state(method: Method | None) -> dict:
    """live: can be opened; picture: has a recorded one; verdict: of its claim, or ""."""
    if method is None:
        return {"live": False, "picture": False, "verdict": ""}
    found = claims.read(method.id)
    return {"live": True, "picture": recorded.path(method, method.card.tabs[0]).is_file(),
            "verdict": found["verdict"] if found else ""}


def _baseline(method: Method) -> dict:
    card = method.card
    return {"slug": method.id, "title": card.title, "paper": "", "arxiv": card.arxiv or "", "year": card.year,
            "tabs": list(card.tabs), "idea": card.summary, "family": BASELINES, "baseline": True}


def gallery(questions: dict[str, tuple[str, str]], entries: list[dict] | None = None) -> gr.HTML:
    """The searchable gallery; searching happens in the browser. Its `go` event opens a method: {"tab", "method"}."""
    value = {"rows": rows() if entries is None else entries, "go": None,
             "tabs": {tab: list(words) for tab, words in questions.items()}}
    return gr.HTML(value, html_template="<div class='papers gallery'></div>", apply_default_css=False, elem_id="papers",
                   js_on_load=(HERE / "gallery.js").read_text("utf-8"))
