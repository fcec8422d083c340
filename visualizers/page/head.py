"""What the page's head holds: scripts that must be there before the first request, or that many components share."""

from __future__ import annotations

from pathlib import Path

from visualizers.player import player
from visualizers.server import gradio_patches

HERE = Path(__file__).parent


def head() -> str:
    """The mended stream of results; the code of players and of words, once for all tabs."""
    words = (HERE / "nodes.js").read_text("utf-8")
    return (f"{gradio_patches.stream()}<script>window.tokenscope = {{}};\n(() => {{\n{player.script()}\n"
            f"window.tokenscope.mountInGradio = mountInGradio;\n}})();\n"
            f"window.tokenscope.words = (element, props, watch) => {{\n{words}\n}};</script>")
