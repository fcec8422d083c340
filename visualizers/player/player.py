"""The browser-side step player as a Gradio component: the whole drawing is sent once, stepping needs no server.

The templates are static text; every string of a trace reaches the page through textContent in the scripts beside
this file (a template would execute it: Gradio compiles templates as code).

    view = player()                                    # in the page
    view.pick(handler)                                 # Your turn: evt.groups, a list of lists of token identities
    view.intervene(handler)                            # a change of the run: evt.kind and its numbers
    view.row(handler)                                  # an attention row not stored: evt.side, layer, head, query
    return scene(draw(trace), draw(baseline))          # a handler's answer: everything
    return row("left", layer, head, query, weights)    # a handler's answer: one attention row

The value of the component is one JSON text, so that the page's framework does not walk through every number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from visualizers.drawing import palette
from visualizers.drawing.marks import Drawing
from visualizers.drawing.payload import pack
from visualizers.drawing.units import headline

FOLDER = Path(__file__).parent
SCRIPTS = ("units.js", "marks.js", "cues.js", "paint.js", "graph.js", "curves.js", "card.js", "turn.js", "change.js",
           "flow.js", "moment.js", "controls.js", "fullscreen.js", "player.js")
TEMPLATE = "<div class='ts'></div>"


@cache
def script() -> str:
    """The player's code: the colour tables as constants, then the files in their order."""
    files = "\n".join((FOLDER / name).read_text("utf-8") for name in SCRIPTS)
    constants = f"const THEME = {json.dumps(palette.constants())};\nconst PLOT_CSS = {json.dumps(palette.plot_css())};"
    return f"{constants}\n{files}"


@cache
def style() -> str:
    return palette.css_variables() + (FOLDER / "player.css").read_text("utf-8")


def turn(prompt: str, groups: Sequence[int], unit: str = "cells", locked: Sequence[int] = ()) -> dict:
    """Your turn: what to do, how many tokens each group holds, and tokens that cannot be chosen."""
    return {"prompt": prompt, "groups": [int(n) for n in groups], "unit": unit, "locked": [int(i) for i in locked]}


def offer(prompt: str, options: Sequence[str], at: int, made: int, total: int) -> dict:
    """Your turn, one decision at a time: candidates for the canvas token `at`; picking one sends [[its index]]."""
    return {"prompt": prompt, "groups": [1] * total, "unit": "words", "locked": [], "options": list(options), "at": at,
            "made": made}


def scene(left: Drawing | None, right: Drawing | None = None, third: Drawing | None = None, *,
          turn: dict | None = None, change: dict | None = None, loading: str | bool = False,
          step: int | None = None) -> str:
    """Everything the player shows. change: what a visitor may change in the middle of the run; loading: a run is still
    going on (its words, or True); step: where to start."""
    sides = {"left": left, "right": right, "third": third}
    shown = {name: d for name, d in sides.items() if d is not None}
    heads = dict(zip(shown, headline([d.facts for d in shown.values()])))
    return _text({**{name: None if d is None else pack(d) | {"headline": heads[name]} for name, d in sides.items()},
                  "turn": turn, "change": change, "loading": loading, "step": step})


def row(side: str, layer: int, head: int, query: int, weights: np.ndarray) -> str:
    """One attention row [M] that the player asked for; it is kept until the next scene."""
    return _text({"row": {"side": side, "layer": int(layer), "head": int(head), "query": int(query),
                          "weights": [float(f"{w:.5g}") for w in np.asarray(weights, np.float64)]}})


def player(value: str | None = None, shared: bool = False, **options: Any) -> gr.HTML:
    """A new player; `options` are those of gr.HTML (elem_id, visible, ...). shared: its code stands in the page's head
    (visualizers/page/head.py), where several players read it once."""
    mount = 'mountInGradio(element, props, trigger, watch); // fires "pick", "intervene" and "row": Gradio reads this'
    return gr.HTML(value, html_template=TEMPLATE, css_template=style(), apply_default_css=False,
                   js_on_load=f"window.tokenscope.{mount}" if shared else f"{script()}\n{mount}", **options)


def _text(value: dict) -> str:
    """ASCII JSON without angle brackets: safe inside any page, and free of lone surrogates."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
