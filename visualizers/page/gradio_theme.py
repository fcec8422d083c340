"""The page's own look: Gradio's theme variables and style.css, both with the colours of theme.py."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from visualizers.drawing.palette import FONT, PAGE


def css() -> str:
    """style.css with the page colours as variables, light and dark."""
    def block(name: str) -> str:
        return " ".join(f"--page-{key}: {value};" for key, value in PAGE[name].items())
    style = (Path(__file__).parent / "style.css").read_text("utf-8")
    return f":root {{ {block('light')} }}\n.dark {{ {block('dark')} }}\n{style}"


def theme() -> gr.themes.Base:
    """A quiet theme: paper, hairlines, one accent, system fonts; nothing is loaded from another host."""
    light, dark = PAGE["light"], PAGE["dark"]
    fonts = [name.strip(' "') for name in FONT.split(",")]
    base = gr.themes.Base(font=fonts, font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
                          radius_size=gr.themes.sizes.radius_md, spacing_size=gr.themes.sizes.spacing_md)
    pairs = {
        "body_background_fill": "paper", "background_fill_primary": "panel", "background_fill_secondary": "paper",
        "body_text_color": "ink", "body_text_color_subdued": "soft", "block_label_text_color": "soft",
        "block_info_text_color": "soft", "block_title_text_color": "ink", "border_color_primary": "line",
        "input_background_fill": "panel", "input_border_color": "line", "input_border_color_focus": "accent",
        "button_primary_background_fill": "accent", "button_primary_background_fill_hover": "accent",
        "button_primary_text_color": "panel", "button_secondary_background_fill": "panel",
        "button_secondary_background_fill_hover": "chip", "button_secondary_text_color": "ink",
        "button_secondary_border_color": "line", "slider_color": "accent", "link_text_color": "accent",
        "link_text_color_hover": "accent", "link_text_color_visited": "accent", "link_text_color_active": "accent",
        "checkbox_background_color_selected": "accent", "checkbox_border_color_selected": "accent",
        "color_accent": "accent", "color_accent_soft": "chip", "block_background_fill": "panel",
        "block_border_color": "line", "loader_color": "accent",
    }
    plain = {"block_shadow": "none", "button_primary_shadow": "none", "button_secondary_shadow": "none",
             "input_shadow": "none", "input_shadow_focus": "none", "block_border_width": "0px",
             "shadow_drop": "none", "shadow_drop_lg": "none", "button_large_text_weight": "600"}
    both = {name: light[key] for name, key in pairs.items()}
    both |= {f"{name}_dark": dark[key] for name, key in pairs.items()}
    known = {name for name in dir(base)} | set(gr.themes.Base.set.__code__.co_varnames)
    return base.set(**{name: value for name, value in {**both, **plain}.items() if name in known})
