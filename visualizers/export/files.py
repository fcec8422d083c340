"""Everything drawn can be kept: PNG, SVG, PDF, GIF, a self-contained HTML page, and the Python that reproduces it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import numpy as np

from models.trace import OWN, Trace
from visualizers import draw
from visualizers.drawing.marks import Drawing

KINDS = ("png", "svg", "pdf", "gif", "html")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
MOST_FRAMES = 120  # of a GIF; a longer run shows every second, third, ... step


def export(trace: Trace, kind: str, *, twin: Trace | None = None, step: int = -1, dark: bool = False,
           title: str = "", twin_title: str = "", **view) -> bytes:
    """The figure of a trace as a file. kind: one of KINDS; step: -1 is the last (a GIF shows all); view as in draw.

    Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"a figure can be one of {', '.join(KINDS)}, not '{str(kind)[:20]}'")
    drawings = [draw(trace, title=title, **view)]
    if twin is not None:
        asked = {name: drawings[0].view[name] for name in ("query",) if name in drawings[0].view}  # as in the player
        drawings.append(draw(twin, title=twin_title, **{**asked, **view}))
    paint = _painter(drawings, trace, dark)
    if kind == "html":
        return page(drawings, step).encode("utf-8")
    return _animation(drawings, paint) if kind == "gif" else _figure(paint(step), kind)


def _painter(drawings: list[Drawing], trace: Trace, dark: bool) -> Callable:
    from visualizers.export import figure as paper
    words = {"strip": strip(trace), "sentence": trace.sentence, "dark": dark}
    return lambda step: paper.page(drawings, step, **words)


def _figure(figure, kind: str) -> bytes:
    """One still; no dates inside, so that the same trace gives the same file."""
    buffer = io.BytesIO()
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    figure.savefig(buffer, format=kind, dpi=170, metadata=stamp, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def _animation(drawings: list[Drawing], paint: Callable) -> bytes:
    """All steps as a looping GIF: 0.6 s a step, the last one longer; canvases keep the size of the tallest step."""
    from PIL import Image
    total = max(len(drawing.frames) for drawing in drawings)
    stride = -(-total // MOST_FRAMES)
    steps = sorted({*range(0, total, stride), total - 1})
    shots = [_pixels(paint(step), 80 if total * drawings[0].layout.size > 6_000 else 100) for step in steps]
    height = max(shot.shape[0] for shot in shots)
    palette = Image.fromarray(np.concatenate([shots[0], shots[len(shots) // 2], shots[-1]])).quantize(192)
    images = [Image.fromarray(_padded(shot, height)).quantize(palette=palette, dither=Image.Dither.NONE)
              for shot in shots]
    buffer, times = io.BytesIO(), [600] * (len(images) - 1) + [2400]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0)
    return buffer.getvalue()


def _pixels(figure, dpi: int) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _padded(pixels: np.ndarray, height: int) -> np.ndarray:
    extra = np.broadcast_to(pixels[:1, :1], (height - pixels.shape[0], pixels.shape[1], 3))
    return np.concatenate([pixels, extra])


def strip(trace: Trace) -> str:
    """The honesty strip in one line: checkpoint, grade, device, precision, kernel path, seed, recorded when."""
    p = trace.provenance
    parts = (f"{p.checkpoint} {p.revision}".strip(), p.grade, p.device, p.dtype, p.path,
             f"seed {p.seed}",
             f"recorded {p.recorded}" if p.recorded else "")
    return " · ".join(part for part in parts if part)


def page(drawings: list[Drawing], step: int = -1) -> str:
    """A page that plays the run without a server and without another host; its policy forbids any request."""
    from visualizers.drawing import palette as theme
    from visualizers.player import player
    sides = (*drawings, None, None)[:3]
    value = player.scene(*sides, step=None if step < 0 else step)  # ASCII, no angle brackets
    first = drawings[0]
    words = json.dumps({"title": first.title, "sentence": first.sentence}).replace("<", "\\u003c")
    light, dark = (theme.PAGE[name]["paper"] for name in ("light", "dark"))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>Tokenscope</title><style>
body {{ margin: 0 auto; padding: 20px 16px; max-width: 1180px; background: {light}; }}
@media (prefers-color-scheme: dark) {{ body {{ background: {dark}; }} }}
.ts .ts-sentence {{ margin: 16px 0; font-size: 16px; }}
{player.style()}</style></head>
<body><div class="ts" data-follow="system"></div>
<script type="application/json" id="scene">{value}</script><script type="application/json" id="words">{words}</script>
<script>{player.script()}
const words = JSON.parse(document.getElementById("words").textContent);
document.title = words.title + " · Tokenscope";
const root = document.querySelector(".ts"), shown = new Player(root, () => {{}});
shown.load(JSON.parse(document.getElementById("scene").textContent));
root.append(el("p", {{ class: "ts-sentence", text: words.sentence }}));
</script></body></html>
"""


def snippet(trace: Trace) -> str:
    """Python that makes this trace again, run in the project's folder; a visitor's own subject has to be put in."""
    p = trace.provenance
    given = ", ".join(f"{json.dumps(name)}: {value!r}" for name, value in p.params.items())
    own = 'from_text("put your own text here", method.accepts)  # a photo: from_image(open("photo.png", "rb").read())'
    subject = f"example({p.subject!r})" if p.subject else own
    changed = p.interventions and f", interventions=from_words({dict(p.interventions)!r})"
    changes = "from models.trace.interventions import from_words\n" if changed else ""
    checkpoint = "put the path of your own folder here" if p.grade == OWN else p.checkpoint
    return f"""from models import atlas, find, from_example, from_image, from_text, run
{changes}
method = find({trace.method!r})


def example(name):
    every = [(e, m.accepts) for m in (method, *atlas().values()) for e in (*m.examples, *m.worldly)]
    return from_example(*next(pair for pair in every if pair[0].id == name))


subject = {subject}
result = run(method, subject, {{{given}}}, checkpoint={checkpoint!r}, seed={p.seed}{changed or ""})
trace = result.traces[{trace.tab!r}]
print(trace.sentence)
"""
