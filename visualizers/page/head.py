"""What the page's head holds: scripts that must be there before the first request, or that many components share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from visualizers.player import player
from visualizers.server import gradio_patches

HERE = Path(__file__).parent


def head(titles: Mapping[str, Mapping[str, str]]) -> str:
    """The mended stream of results; the code of players and of words, once for all tabs; what a link shows at first.

    titles: tab -> method id -> title, the one on which the tab opens first.
    """
    words, opening = ((HERE / name).read_text("utf-8") for name in ("nodes.js", "opening.js"))
    known = json.dumps(titles).replace("<", "\\u003c")
    return (f"{gradio_patches.stream()}<script>window.tokenscope = {{}};\n(() => {{\n{player.script()}\n"
            f"window.tokenscope.mountInGradio = mountInGradio;\n}})();\n"
            f"window.tokenscope.words = (element, props, watch) => {{\n{words}\n}};\n"
            f"window.tokenscope.titles = {known};\n(() => {{\n{opening}\n}})();</script>")
