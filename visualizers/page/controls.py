"""Controls from a method's parameter declaration: one function for all kinds, and the cards to choose an example."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from models.trace.params import Choice, Flag, Span
from models.trace.subject import Example, Subject, from_example

HERE = Path(__file__).parent
OWN = "own"


def control(spec: Any, kind: type, value: Any) -> gr.components.Component:
    """The Gradio control of one declared parameter, showing `value`."""
    title = f"{spec.title} ({spec.unit})" if getattr(spec, "unit", "") else spec.title
    shared = {"label": title, "info": spec.help, "interactive": True}
    if isinstance(spec, Span):
        return gr.Slider(spec.low, spec.high, value, step=spec.step, buttons=[], **shared)
    if isinstance(spec, Choice):
        titles = spec.titles or spec.options
        return gr.Dropdown(list(zip(titles, spec.options)), value=value, filterable=False, **shared)
    if isinstance(spec, Flag):
        return gr.Checkbox(value, **shared)
    return gr.Textbox(value, max_length=spec.limit, lines=1, html_attributes=unheard(), **shared)


def unheard() -> gr.InputHTMLAttributes:
    """For every box that a visitor types into: the browser keeps no list of entries and sends none to be corrected."""
    return gr.InputHTMLAttributes(autocomplete="off", autocorrect="off", spellcheck=False)


def picker(value: dict | None = None, **options) -> gr.HTML:
    """Example cards; value: {"items": [...], "selected": id}. The event 'pick' fires when the visitor chooses."""
    template = "<p class='label'>Subject</p><div class='picker' role='radiogroup' aria-label='Subject'></div>"
    return gr.HTML(value, html_template=template,
                   js_on_load=(HERE / "picker.js").read_text("utf-8"), apply_default_css=False, **options)


def cards(examples: Sequence[Example], kind: str, selected: str = "", own: Subject | None = None) -> dict:
    """The picker's value: a thumbnail for photos, the opening words for texts; the visitor's own subject last."""
    items = [_card(example, kind) for example in examples]
    if own is not None:
        items.append({"id": OWN, "title": "Your own", "text": own.text[:60],
                      "picture": None if own.image is None else thumbnail(own.image)})
        selected = OWN
    return {"items": items, "selected": selected or (items[0]["id"] if items else "")}


@lru_cache(maxsize=256)
def _card(example: Example, kind: str) -> dict:
    subject = from_example(example, kind)
    picture = None if subject.image is None else thumbnail(subject.image)
    opening = " ".join(subject.text.split())
    text = "" if opening == example.title else opening[:90] + ("…" if len(opening) > 90 else "")
    return {"id": example.id, "title": example.title, "text": text, "picture": picture}


def thumbnail(image) -> str:
    """A 96-pixel square preview as a data: URL."""
    from PIL import Image, ImageOps
    small, buffer = ImageOps.fit(Image.fromarray(image), (96, 96)), io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
