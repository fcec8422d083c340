"""The second painter: the same marks as in the browser, on paper, for PNG, SVG, PDF and GIF.

Colours, order and cues come from marks.cells and theme.py; what is here is only where things go. Sizes are inches.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.figure import Figure

from models.trace.spelling import CONTINUED
from visualizers.drawing import palette
from visualizers.drawing.arcs import arcs
from visualizers.drawing.marks import Drawing, Mark, Scale, cells, number_scale, resolved
from visualizers.drawing.units import amount, headline, tidy
from visualizers.export.canvas_mpl import MplCanvas, circle, readable, short
from visualizers.export.cues_mpl import draw_cue, draw_word_cue
from visualizers.export.fonts_mpl import Ruler
from visualizers.export.graph_mpl import draw_graph
from visualizers.export.moments import at_step
from visualizers.export.pixels import bowed, pieces, sharpest
from visualizers.export.words_mpl import Line, lines, placed

MARGIN, GUTTER = 0.3, 0.3
TEXT, LINE = 9.5, 0.235  # running text: size in points, height of a line
_ruler = cache(lambda: Ruler(TEXT))


def page(drawings: Sequence[Drawing], step: int, *, by: str | None = None, dark: bool = False, strip: str = "",
         sentence: str = "") -> Figure:
    """One step as a printable page: panels side by side, legend, sentence, the first curve and the honesty strip."""
    return FigurePage(drawings, step, by or str(drawings[0].view.get("by", "state")), dark).draw(strip, sentence)


class FigurePage:
    """The state of one page: colours, the width of a panel, and how far down the page is filled (`y`)."""

    def __init__(self, drawings: Sequence[Drawing], step: int, by: str, dark: bool):
        self.drawings, self.dark = drawings, dark
        total = max(len(drawing.frames) for drawing in drawings)
        self.steps = [at_step(drawing, step, drawings[0], total) for drawing in drawings]
        self.heads = headline([drawing.facts for drawing in drawings])
        self.colours = palette.PAGE["dark" if dark else "light"]
        self.bys = [resolved(drawing, step, by) for drawing, step in zip(drawings, self.steps)]
        self.by = self.bys[0]
        self.scales = [shared_scale(drawings, one, self.steps, side) for side, one in enumerate(self.bys)]
        self.bars = self.told_scales()
        self.panel = 4.2 if len(drawings) > 1 else 5.6
        self.width = 2 * MARGIN + len(drawings) * self.panel + (len(drawings) - 1) * GUTTER
        self.is_text = drawings[0].layout.kind == "text"

    def draw(self, strip: str, sentence: str) -> Figure:
        lines = textwrap.wrap(short(sentence, 400), int((self.width - 2 * MARGIN) * 12.5))
        small = textwrap.wrap(strip, int((self.width - 2 * MARGIN) * 17.5))
        tall, keys = max(self.tall(i) for i in range(len(self.drawings))), self.key_rows()
        curve = 2.0 if any(d.curves for d in self.drawings) else 0.0
        below = 0.28 * len(self.bars) + 0.24 * len(keys) + 0.2 * len(lines) + curve + 0.15 * len(small)
        height = 0.62 + tall + 0.45 + below + 0.3
        self.sheet = MplCanvas(self.width, height, self.colours["paper"])
        for side in range(len(self.drawings)):
            self.panel_of(side, MARGIN + side * (self.panel + GUTTER), tall)
        self.y = 0.62 + tall + 0.5
        self.legend(keys)
        for line in lines:
            self.write(line, "ink", 10, 0.2)
        if curve:
            self.curve(curve)
        self.y = height - 0.15 * len(small) - 0.1
        for line in small:
            self.write(line, "soft", 7.5, 0.15)
        return self.sheet.figure()

    def write(self, words: str, colour: str, size: float, down: float) -> None:
        self.sheet.text(MARGIN, self.y, words, self.colours[colour], size)
        self.y += down

    # -------------------------------------------------------------------------------------------------- canvases
    def tall(self, side: int) -> float:
        layout = self.drawings[side].layout
        if layout.kind == "grid":
            return self.panel * layout.rows / max(layout.columns, 1)
        if layout.kind in ("places", "graph"):
            return self.panel * layout.high
        return max(1, len(self.text_lines(side))) * LINE + 0.1

    def panel_of(self, side: int, left: float, tall: float) -> None:
        drawing, step = self.drawings[side], self.steps[side]
        self.sheet.text(left, 0.36, short(drawing.title, int(self.panel * 8)), self.colours["ink"], 11, weight="bold")
        head = self.heads[side]
        if head:
            room = max(12, int(self.panel * 9 - 1.2 * len(drawing.title)))
            best = {"best": " ✓", "equal": " (equal)"}.get(head["won"], "")
            way = f", {head['better']} is better" if head["better"] else ""
            words = [f"{head['title']} {head['text']}", head["text"]]
            self.sheet.text(left + self.panel, 0.3, short(min(words, key=lambda w: len(w) > room), room) + best,
                            self.colours["ink"], 9, ha="right")
            self.sheet.text(left + self.panel, 0.46, short(head["title"], int(self.panel * 7)) + way,
                            self.colours["soft"], 7, ha="right")
        by = self.bys[side]
        marks = cells(drawing, step, by, self.dark, None if by.startswith("attention:") else self.scales[side])
        if drawing.layout.kind == "graph":
            draw_graph(self.sheet, drawing, step, marks, left, 0.58, self.panel, self.colours,
                       arcs(drawing, step, by), by == "picture")
        else:
            {"text": self.text, "grid": self.grid, "places": self.places}[drawing.layout.kind](side, marks, left, 0.58)
            self.arcs(side, left, 0.58)
        label = " · ".join(part for part in (drawing.frames[step].label, drawing.frames[step].note) if part)
        below = 0.58 + self.tall(side) + 0.16
        self.sheet.text(left, below, short(label, int(self.panel * 15)), self.colours["soft"], 8.5)

    def arcs(self, side: int, left: float, top: float) -> None:
        """Arcs from the token that looks, as thick as the weight, as in the player."""
        drawing = self.drawings[side]
        found = arcs(drawing, self.steps[side], self.bys[side])
        at = self.middles(side, left, top) if found else {}
        for query, key, share in found:
            if query in at and key in at:
                path = bowed(at[query], at[key])
                under = 1 if drawing.layout.kind == "text" else 9  # behind the words of the lines that they cross
                self.sheet.line(path, self.colours["panel"], 1.6 + 2.6 * share, layer=under)
                self.sheet.line(path, self.colours["accent"], 0.5 + 2.6 * share, layer=under + 1)

    def middles(self, side: int, left: float, top: float) -> dict[int, tuple[float, float]]:
        """Where the middle of every token lies."""
        drawing = self.drawings[side]
        if drawing.layout.kind == "grid":
            return {i: (x + w / 2, y + h / 2) for i, (x, y, w, h) in enumerate(self.boxes(drawing, left, top))}
        if drawing.layout.kind == "places":
            return dict(enumerate(map(tuple, drawing.layout.xy * self.panel + (left, top))))
        return {token: (x + width / 2, top + 0.05 + (number + 0.5) * LINE)
                for number, line in enumerate(self.text_lines(side))
                for token, _, x, width in placed(line, left, self.panel, _ruler())}

    def boxes(self, drawing: Drawing, left: float, top: float) -> np.ndarray:
        """[N, 4] x, y, width, height of a grid's cells, the hairline between them left out."""
        columns = max(drawing.layout.columns, 1)
        size, token = self.panel / columns, np.arange(drawing.layout.size)
        gap = min(0.022, size * 0.08)
        side = np.full(len(token), size - gap)
        x, y = left + token % columns * size + gap / 2, top + token // columns * size + gap / 2
        return np.stack([x, y, side, side], 1)

    def grid(self, side: int, marks: list[Mark], left: float, top: float) -> None:
        drawing, step = self.drawings[side], self.steps[side]
        picture, at = drawing.picture(step), self.boxes(drawing, left, top)
        if picture is not None:
            self.sheet.picture(sharpest(drawing, step, picture), left, top, self.panel, self.tall(side))
        self.fills(marks, [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in at], picture is not None)
        if self.bys[side] != "picture" and not drawing.layout.seamless:
            self.gaps(drawing, left, top, self.tall(side))
        for mark, box in zip(marks, at):
            self.cue(mark, *box)
        if any(drawing.layout.labels) and at[0][2] > 0.2:
            for mark, (x, y, w, h) in zip(marks, at):
                if drawing.layout.seamless and picture is not None and not (mark.fill and mark.share == 1):
                    ink = palette.PAGE["light"]["ink"]  # beside the stone that may stand on a board's square
                    self.sheet.text(x + w * 0.05, y + h * 0.88, short(mark.text, 8), ink, w * 10)
                    continue
                ink = palette.ink_on(mark.fill, mark.share, self.dark)
                self.sheet.text(x + w / 2, y + h / 2, short(mark.text, 8), ink, min(8, w * 24), ha="center")

    def gaps(self, drawing: Drawing, left: float, top: float, tall: float) -> None:
        """The hairlines between cells, over the picture."""
        columns, rows = drawing.layout.columns, drawing.layout.rows
        size = self.panel / columns
        width = (min(0.022, size * 0.08) + 0.004) * 72
        for row in range(rows + 1):
            self.sheet.line([(left, top + row * size), (left + self.panel, top + row * size)], self.colours["paper"],
                            width, layer=6)
        for column in range(columns + 1):
            x = left + column * size
            self.sheet.line([(x, top), (x, top + tall)], self.colours["paper"], width, layer=6)

    def fills(self, marks: list[Mark], shapes: list, pictured: bool) -> None:
        """Faded tokens get a veil of paper first; then each mark's own fill, in token order."""
        for mark, shape in zip(marks, shapes):
            if pictured and mark.fade < 1:
                self.sheet.fill(shape, self.colours["panel"], 1 - mark.fade, 3)
            if mark.fill:
                self.sheet.fill(shape, mark.fill, mark.share, 5)
            elif not pictured:
                self.sheet.fill(shape, self.colours["chip"], 1.0, 4)

    def squares(self, side: int, marks: list[Mark], left: float, top: float) -> None:
        """Places that are cells: each with its piece of the picture, as in a grid."""
        drawing = self.drawings[side]
        picture, size = drawing.picture(self.steps[side]), drawing.layout.cell * self.panel * 0.95
        corners = drawing.layout.xy * self.panel - size / 2 + (left, top)
        if picture is not None:
            seen = [mark.token for mark in marks if not mark.fill or mark.share < 1]
            cut = pieces(picture, drawing.layout, seen, self.colours["panel"])
            self.sheet.picture(cut, left, top, self.panel, self.panel)
        self.fills(marks, [[(x, y), (x + size, y), (x + size, y + size), (x, y + size)] for x, y in corners],
                   picture is not None)
        for mark, (x, y) in zip(marks, corners):
            self.cue(mark, x, y, size, size)

    def places(self, side: int, marks: list[Mark], left: float, top: float) -> None:
        if self.drawings[side].layout.cell:
            return self.squares(side, marks, left, top)
        radius = min(0.2, max(0.05, self.panel / np.sqrt(len(marks)) * 0.25))
        at = self.drawings[side].layout.xy * self.panel + (left, top)
        self.fills(marks, [circle(x, y, radius) for x, y in at], False)
        for mark, (x, y) in zip(marks, at):
            self.cue(mark, x - radius, y - radius, 2 * radius, 2 * radius)
            if len(marks) <= 40:
                self.sheet.text(x, y - radius - 0.09, short(mark.text, 12), self.colours["ink"], 8, ha="center")

    def cue(self, mark: Mark, x: float, y: float, w: float, h: float) -> None:
        if mark.cue:
            draw_cue(self.sheet, mark, x, y, w, h, self.colours)

    # -------------------------------------------------------------------------------------------------- text
    def shown(self, side: int) -> list[str | None]:
        """What each token shows: its text with its line breaks, a sign where it goes on with a character, three spaces
        for an empty box, or None when it is not there yet."""
        drawing, looks = self.drawings[side], list(palette.LOOKS.values())
        texts = drawing.texts(self.steps[side])
        hidden = None if drawing.layout.unseen == "gone" else "   "
        breaks = ["\n" if role == "beside" else "↵\n" for role in drawing.layout.roles] or ["↵\n"] * len(texts)
        return [hidden if looks[code].hides else readable(texts[token]).replace("\n", breaks[token]) or CONTINUED
                for token, code in enumerate(drawing.frames[self.steps[side]].state)]

    def text_lines(self, side: int) -> list[Line]:
        return lines(self.shown(side), self.panel, _ruler())

    def text(self, side: int, marks: list[Mark], left: float, top: float) -> None:
        for number, line in enumerate(self.text_lines(side)):
            y, runs, apart = top + 0.05 + (number + 0.5) * LINE, [], not "".join(piece for _, piece in line).isascii()
            for token, piece, x, width in placed(line, left, self.panel, _ruler()):
                mark = marks[token]
                ends = token + 1 == len(marks) or marks[token + 1].cue != mark.cue  # one tick per run of them
                self.token(mark, x, y - LINE * 0.42, width, LINE * 0.84, ends)
                ink = self.ink(mark)
                if runs and runs[-1][0] == ink and not apart:
                    runs[-1][2] += piece
                else:
                    runs.append([ink, x, piece])
            for ink, x, piece in runs:
                self.sheet.text(x, y, piece, ink, TEXT, va="center_baseline")

    def ink(self, mark: Mark) -> str:
        if mark.cue == "hatch":
            return palette.mix(self.colours["ink"], self.colours["paper"], 0.42)
        if mark.cue == "given" and not mark.fill:
            return self.colours["soft"]
        return palette.ink_on(mark.fill, mark.share, self.dark) if mark.fill else self.colours["ink"]

    def token(self, mark: Mark, x: float, y: float, w: float, h: float, ends: bool) -> None:
        """Background and cue of a text token."""
        if mark.fill:
            self.sheet.box(x, y, w, h, mark.fill, mark.share, 2)
        draw_word_cue(self.sheet, mark, x, y, w, h, ends)

    # -------------------------------------------------------------------------------------------------- the rest
    def key_rows(self) -> list[list[tuple[str, str]]]:
        """Legend entries of all panels, in the order of states, broken into rows."""
        numbered = self.by != "picture" and "state" not in self.bys  # a number tints what is known
        plain = [state for state, look in palette.LOOKS.items() if not (look.cue or look.hides)]
        found = {state: words for d in reversed(self.drawings) for state, words in d.legend
                 if "state" in self.bys or (numbered and state not in plain)}
        rows, used = [[]], 0.0
        for state in (state for state in palette.LOOKS if state in found):
            wide = 0.42 + 0.068 * len(found[state])
            if used + wide > self.width - 2 * MARGIN and rows[-1]:
                rows.append([])
                used = 0.0
            rows[-1].append((state, found[state]))
            used += wide
        return rows if rows[0] else []

    def legend(self, rows: list[list[tuple[str, str]]]) -> None:
        for scale, owner in self.bars:
            self.bar(scale, owner)
        for row in rows:
            x = MARGIN
            for state, words in row:
                self.key(state, x, self.y - 0.075)
                self.sheet.text(x + 0.22, self.y, words, self.colours["soft"], 8.5)
                x += 0.42 + 0.068 * len(words)
            self.y += 0.24

    def key(self, state: str, x: float, y: float) -> None:
        look, own = palette.LOOKS[state], palette.colour(state, self.dark)
        cover = palette.COVER["dark" if self.dark else "light"]
        mark = Mark(0, own, 1.0, look.cue, own, 1.0, "")
        if self.is_text and not look.hides:
            self.sheet.text(x + 0.075, y + 0.075, "a", self.colours["ink"], 8.5, ha="center")
            draw_word_cue(self.sheet, mark, x, y - 0.02, 0.15, 0.19, True)
            return
        self.sheet.box(x, y, 0.15, 0.15, cover if look.hides else self.colours["soft"],
                       1.0 if look.hides else 0.25 * look.fade)
        self.cue(mark, x, y, 0.15, 0.15)

    def told_scales(self) -> list[tuple[Scale, str]]:
        """Every scale that colours a panel, once, and whose it is where that is not all of them."""
        names: dict[Scale, list[str]] = {}
        for drawing, scale in zip(self.drawings, self.scales):
            if scale is not None:
                names.setdefault(scale, []).append(drawing.title)
        one = len(names) == 1 and len(next(iter(names.values()))) == len(self.drawings)
        return [(scale, "" if one else f"{', '.join(owners)}: ") for scale, owners in names.items()]

    def bar(self, scale: Scale, owner: str) -> None:
        """The colour bar: title, low, the scale, high and its unit."""
        title = short(owner + scale.title + (f" ({scale.better} is better)" if scale.better else ""), 70)
        self.sheet.text(MARGIN, self.y, title, self.colours["soft"], 8.5)
        x = MARGIN + 0.5 + 0.072 * len(title)
        self.sheet.text(x, self.y, tidy(scale.low), self.colours["soft"], 8.5, ha="right")
        pictured = self.drawings[0].picture(self.steps[0]) is not None
        soft = self.is_text or pictured
        share = [palette.soft_share(code, scale.diverging) if soft else 1.0 for code in range(255)]
        mixed = [palette.rgb(palette.mix(palette.hexed(c), self.colours["panel"], s))
                 for c, s in zip(palette.ramp(scale.diverging), share)]
        self.sheet.picture(np.array([mixed], np.uint8), x + 0.07, self.y - 0.05, 1.4, 0.1)
        end = short("≥ " * scale.capped + amount(scale.high, scale.unit, scale.whole), 34)
        self.sheet.text(x + 1.54, self.y, end, self.colours["soft"], 8.5)
        self.y += 0.28

    def curve(self, tall: float) -> None:
        """The first line over the steps, all runs, with the current step marked."""
        title = next(d.curves[0].title for d in self.drawings if d.curves)
        runs = [(run, c) for run, d in enumerate(self.drawings) for c in d.curves if c.title == title]
        words = short(", ".join(part for part in (title, runs[0][1].unit) if part), int(self.width * 9))
        self.y += 0.12
        self.sheet.text(MARGIN, self.y, words, self.colours["ink"], 9.5, weight="bold")
        axes = self.sheet.plot(MARGIN + 0.4, self.y + 0.17, self.width - 2 * MARGIN - 0.4, tall - 1.0)
        for run, found in runs:
            _lines(axes, found, run, self.colours, self.drawings[run].title if len(runs) > 1 else "")
        if len(axes.lines) > 1:
            key = axes.legend(loc="upper left", bbox_to_anchor=(-0.01, -0.2), ncols=3, frameon=False, fontsize=7.5,
                              labelcolor=self.colours["soft"], handlelength=2.2, columnspacing=1.4, borderpad=0)
            for name in key.get_texts():
                name.set_parse_math(False)
        axes.axvline(self.steps[0] + 1, color=self.colours["mark"], linewidth=1.6)
        axes.tick_params(colors=self.colours["soft"], labelsize=7.5, length=0)
        axes.grid(axis="y", color=self.colours["line"], linewidth=0.7)
        axes.locator_params(axis="y", nbins=4)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.margins(x=0.01)
        for spine in axes.spines.values():
            spine.set_visible(False)
        self.y += tall - 0.12


def _lines(axes, curve, run: int, colours: dict, title: str) -> None:
    """The lines of one run; with a title, several runs share the plot and carry it in their names, as in the page."""
    for number, (name, points) in enumerate(curve.series.items()):
        label = name if not title else f"{title}: {name}" if len(curve.series) > 1 else title
        first = colours["accent"] if run == 0 else colours["twin"]
        axes.plot(points[:, 0] + 1, points[:, 1], linewidth=1.6 if run == 0 else 1.2, label=short(label, 44),
                  color=first if number == 0 else palette.SERIES[(number - 1) % len(palette.SERIES)],
                  linestyle="solid" if run == 0 and number == 0 else (0, (4, 2)))
    if curve.reference is not None and run == 0:
        axes.axhline(curve.reference, color=colours["soft"], linewidth=0.8, linestyle=(0, (1, 2)))




def shared_scale(drawings: Sequence[Drawing], by: str, steps: Sequence[int], side: int = 0) -> Scale | None:
    """One range for all panels that mean the same by it, as in the player; attention is painted by each row's own peak.
    """
    found = number_scale(drawings[side], by, steps[side])
    if found is None or by.startswith("attention:"):
        return found
    for drawing, step in zip(drawings, steps):
        other = number_scale(drawing, by, step)
        found = found.widened(other if other and (other.title, other.unit) == (found.title, found.unit) else None)
    return found
