"""A chart under its title: the title is part of the page and wraps as the page does, the figure is Plotly's."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from visualizers.page import nodes


def slot(figure) -> tuple[gr.HTML, gr.Plot]:
    """A place for one chart; None leaves it empty."""
    with gr.Column(elem_classes="chart-card", min_width=280):
        head = nodes.block(headed(figure), elem_classes="chart-head")
        return head, gr.Plot(figure, visible=figure is not None, label=worded(figure), show_label=False,
                             elem_classes="chart")


def shown(heads: Sequence[gr.HTML], plots: Sequence[gr.Plot], figures: Sequence) -> dict:
    """Updates that put these figures into the places."""
    found = {plot: gr.update(value=figure, visible=figure is not None, label=worded(figure))
             for plot, figure in zip(plots, figures)}
    return found | {head: headed(figure) for head, figure in zip(heads, figures)}


def headed(figure) -> list:
    """Its title and what stands under it."""
    if figure is None:
        return []
    return [nodes.node("h3", figure.layout.meta["title"]), nodes.node("p", figure.layout.meta["under"])]


def worded(figure) -> str:
    """The text alternative of a Plotly figure: its label, which the page shows to screen readers only."""
    return "" if figure is None else figure.layout.meta["alt"]
