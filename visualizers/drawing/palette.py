"""One state, one colour, one second cue; the scales for numbers; everything that has a colour takes it from here.

The browser player and the Matplotlib exporter read the same tables, so that a printed figure and the page agree.
Colours are those of the project's look (Okabe-Ito for states, cividis for magnitude, blue-orange where zero means
something). Nothing here knows a tab or a method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.trace import STATES

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif'
# What is drawn on the edge and in the corner of a cell, or under and around a word. Nothing lies over what it marks.
CUES = ("", "outline", "dotted", "dashed", "check", "strike", "cross", "hatch", "dot", "corner", "given", "double")


@dataclass(frozen=True)
class Look:
    """How a state is painted: light and dark are the colour of its edge and corner, cue the sign it takes, one of CUES.

    hides: the token has no content yet, so its cell is filled (COVER) or its text is an empty box;
    fade: opacity of the token's own picture or text.
    """

    title: str
    light: str
    dark: str
    cue: str = ""
    hides: bool = False
    fade: float = 1.0


_GREY, _PLAIN = ("#d9d6cd", "#3a3a41"), ("#8f9aa3", "#66737d")
_GREEN, _RED, _SKY = ("#009e73", "#009e73"), ("#d55e00", "#d55e00"), ("#56b4e9", "#56b4e9")
QUERY = "query"  # no state of a token: where one looks from, which moves with the pointer
LOOKS: dict[str, Look] = {
    "unknown": Look("not yet known", *_GREY, hides=True),
    "masked": Look("masked", *_GREY, hides=True),
    "masked-hard": Look("hidden because predicted hard", *_GREEN, cue="check", hides=True),
    "masked-random": Look("hidden at random", *_GREY, cue="dot", hides=True),
    "visible": Look("visible", *_PLAIN),
    "known": Look("known", *_PLAIN),
    "new": Look("new in this step", "#e69f00", "#e69f00", cue="outline"),
    "recomputed": Look("recomputed", "#cc79a7", "#cc79a7", cue="dotted"),
    "reused": Look("served from cache", *_SKY, cue="dashed"),
    "recycled": Look("recycled", *_SKY, cue="dashed"),
    "merged": Look("merged", *_SKY, cue="dashed"),
    "revived": Look("brought back", "#0072b2", "#5aa9dd", cue="corner"),
    "accepted": Look("accepted", *_GREEN, cue="check"),
    "refused": Look("refused", *_RED, cue="strike"),
    "discarded": Look("discarded", *_RED, cue="cross"),
    "dropped": Look("dropped", *_GREY, cue="hatch", fade=0.25),
    "context": Look("given", *_PLAIN, cue="given"),
    QUERY: Look("the query", "#3a4fd0", "#93a3ff", cue="double"),
}
COVER = dict(zip(("light", "dark"), _GREY))  # of a cell without content
assert list(LOOKS) == [*STATES, QUERY]  # the browser reads states by their place here

# Page colours: paper, panel, hairline, ink, soft ink, accent, and the marker of the current step.
PAGE = {
    "light": {"paper": "#fbfaf7", "panel": "#ffffff", "line": "#e4e1d8", "ink": "#1d1d21", "soft": "#5d5b56",
              "accent": "#3a4fd0", "mark": "#e69f00", "chip": "#f0eee6", "twin": "#5d5b56"},
    "dark": {"paper": "#141417", "panel": "#1d1d22", "line": "#33333a", "ink": "#f1f0ec", "soft": "#a9a8a3",
             "accent": "#93a3ff", "mark": "#e69f00", "chip": "#2a2a31", "twin": "#a9a8a3"},
}
# Several lines in one chart, after the accent; told apart by dash as well.
SERIES = ("#d55e00", "#009e73", "#cc79a7", "#0072b2", "#e69f00")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4")

# 52 colours of Matplotlib's cividis, six hexadecimal digits each.
_CIVIDIS = ("00224e002656002a5f002d68003070083370163770203a6f273e6e2e416d34456c3a486c3f4c6c444f6c49536c4e566c535a6d"
            "575d6d5c616e60646f656870696b716d6f727272747676767a7a787e7d788381798885788d8878928c789690779b9476a09875"
            "a59c74aaa073afa471b5a86fbaac6dbfb06bc4b468c9b965cfbd62d4c15fdac65bdfca57e5cf52ead34cf0d846f6dd3ffce236"
            "fee838")
_BLUE_ORANGE = "1f5fa84f8cc98fb8dfcfdfeef2efe8f6d6b4f0a868dd7423b34a00"
NOTHING = 255  # code of "not defined here" among quantised numbers; 0..254 are values
SOFT = (0.08, 0.4)  # share of a scale's colour behind text or over a picture: least, and what the strongest value adds


def ramp(diverging: bool = False) -> np.ndarray:
    """The 255 colours [255, 3] uint8 of a scale, from its anchors by straight lines."""
    digits = _BLUE_ORANGE if diverging else _CIVIDIS
    anchors = np.array([rgb("#" + digits[i:i + 6]) for i in range(0, len(digits), 6)], np.float64)
    at, stops = np.linspace(0, 1, 255), np.linspace(0, 1, len(anchors))
    return np.stack([np.round(np.interp(at, stops, anchors[:, c])) for c in range(3)], 1).astype(np.uint8)


def rgb(colour: str) -> tuple[int, int, int]:
    return tuple(int(colour[i:i + 2], 16) for i in (1, 3, 5))


def hexed(colour) -> str:
    return "#" + "".join(f"{int(c):02x}" for c in colour)


def mix(over: str, under: str, share: float) -> str:
    """`over` laid on `under` with this opacity; halves round up, as in JavaScript."""
    return hexed(int(a * share + b * (1 - share) + 0.5) for a, b in zip(rgb(over), rgb(under)))


def colour(state: str, dark: bool = False) -> str:
    look = LOOKS[state]
    return look.dark if dark else look.light


def soft_share(code: int, diverging: bool = False) -> float:
    """How strongly a number tints what lies under it: more for more, least in the middle of a diverging scale."""
    strength = abs(code / 127 - 1) if diverging else code / 254
    return round(SOFT[0] + SOFT[1] * strength, 4)


def ink_on(fill: str | None, share: float, dark: bool = False) -> str:
    """The text colour that reads on `fill` laid over the panel: the theme's own ink, or its opposite."""
    page = PAGE["dark" if dark else "light"]
    under = page["panel"] if fill is None else mix(fill, page["panel"], share)
    red, green, blue = rgb(under)
    bright = 0.299 * red + 0.587 * green + 0.114 * blue
    return "#1d1d21" if bright > 140 else "#000000" if bright > 115 else "#ffffff"


def constants() -> dict:
    """Everything the player needs to know about colour, as plain data."""
    looks = [{"name": name, "light": v.light, "dark": v.dark, "cue": v.cue, "hides": v.hides,
              "fade": v.fade} for name, v in LOOKS.items()]
    pack = {name: "".join(hexed(c)[1:] for c in ramp(name == "diverging")) for name in ("magnitude", "diverging")}
    return {"looks": looks, "page": PAGE, "ramps": pack, "series": SERIES, "dashes": DASHES, "nothing": NOTHING,
            "soft": SOFT, "cover": COVER}


def css_variables() -> str:
    """The page colours as CSS custom properties for both themes."""
    def block(name: str) -> str:
        return " ".join(f"--ts-{key}: {value};" for key, value in PAGE[name].items())
    return (f".ts {{ {block('light')} --ts-font: {FONT}; }}\n.ts[data-theme=dark] {{ {block('dark')} }}\n")


def plot_css() -> str:
    """Plotly writes the light theme's colours into its drawings; a dark page replaces them by its own."""
    light, dark = PAGE["light"], PAGE["dark"]
    rules = [f".dark .js-plotly-plot text {{ fill: {dark['soft']} !important; }}",
             f".dark .js-plotly-plot .gtitle {{ fill: {dark['ink']} !important; }}",
             f".dark .js-plotly-plot .gridlayer path {{ stroke: {dark['line']} !important; }}"]
    for key in ("accent", "twin", "soft", "line"):
        old = "rgb({}, {}, {})".format(*rgb(light[key]))
        rules += [f'.dark .js-plotly-plot [style*="{part}: {old}"] {{ {part}: {dark[key]} !important; }}'
                  for part in ("fill", "stroke")]
    return "\n".join(rules)
