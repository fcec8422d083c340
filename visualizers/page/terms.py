"""Terms of art are explained where they stand: one glossary (assets/glossary.json), one script for the whole page.

An entry with `forms` (or a `pattern`) is underlined wherever one of them stands; all entries are listed under each tab
(nodes.terms).
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from visualizers.page import nodes

HERE = Path(__file__).parent


def explained() -> gr.HTML:
    """An invisible part of the page that marks terms, once for all tabs; it waits until the page is idle."""
    entries = [{key: entry[key] for key in ("term", "says", "forms", "pattern") if key in entry}
               for entry in nodes.glossary() if "forms" in entry or "pattern" in entry]
    return gr.HTML(entries, html_template="<div class='explained'></div>", apply_default_css=False, elem_id="explained",
                   js_on_load=(HERE / "terms.js").read_text("utf-8"))
