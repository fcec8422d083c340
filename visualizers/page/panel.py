"""One tab's layout and what is shown in it: the left column of choices, the right one with the picture.

`Panel` holds the components; its `show_*` functions return updates by component, so that app.py only says which event
calls what. The selected method's controls are built by gr.render in app.py from `controls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import gradio as gr
import numpy as np

from models.checkpoints import folders, hub, packaged
from models.claims import read as read_claim
from models.claims import read_public
from models.engine import layouts
from models.engine.method import CONTROL, Method, find
from models.serving import recorded
from models.trace import Trace
from models.trace.params import declaration
from visualizers import draw
from visualizers.drawing.flow import arrows
from visualizers.drawing.marks import Drawing, Frame
from visualizers.page import charts, claims, lessons, nodes, what_if
from visualizers.page.controls import cards, control, picker, unheard
from visualizers.player.player import player, scene
from visualizers.server.gradio_patches import RENDERS

QUESTIONS = {
    "mask": ("Mask", "What is hidden, and how hard is it?"),
    "attend": ("Attend", "Who looks at whom?"),
    "prune": ("Prune", "Who can leave?"),
    "unmask": ("Unmask", "Who is filled in next?"),
    "sample": ("Sample", "How sure is it?"),
}
CHARTS = 3
KINDS = ("PNG", "SVG", "PDF", "GIF", "CSV", "JSON", "HTML", "Python")
ROLES = {"visitor": "Your choice", "random": "At random", "untouched": "The untouched run"}
OWN_WORDS = {"text": "Or your own text", "caption": "Or your own words",
             "prompt": "Or whatever you want painted", "problem": "Or your own problem",
             "question": "Or your own things and question",
             "facts": "Or your own facts, a verb and a topic each"}


@dataclass(frozen=True)
class Shown:
    """What the picture shows: traces left to right with their roles, as plain data for the session."""

    traces: tuple[Trace, ...]
    roles: tuple[str, ...] = ("method",)

    @property
    def titles(self) -> list[str]:
        """How each picture is called on the page."""
        return [ROLES.get(role) or find(trace.method).card.title for trace, role in zip(self.traces, self.roles)]


class Panel:
    """The components of one tab.

    methods: those that have a picture in this tab, the first one opens; opening: its recorded traces; checkpoints:
    cards by name; beside: id -> ids that can stand beside it; query: the link to the opening picture;
    controls(method id, wanted): builds the method's controls whenever one of the two changes.
    """

    def __init__(self, tab: str, methods: Sequence[Method], opening: Shown, checkpoints: Mapping[str, dict],
                 beside: Mapping[str, Sequence[str]], query: str, controls: Callable):
        self.tab, self.cards, self.beside_ids, self.build_controls = tab, checkpoints, beside, controls
        self.methods = {m.id: m for m in methods}
        first = methods[0]
        self.wanted = gr.Textbox("", visible="hidden")  # a copied link's parameters, put there by the browser
        self.session = gr.State(None, time_to_live=3600)
        self.own = gr.State(None, time_to_live=3600)
        with gr.Row(elem_classes="tab-body"):
            with gr.Column(min_width=260, elem_classes="top"):
                self._start(first)
            with gr.Column(min_width=260, elem_classes="left"):
                self._choices(first)
            with gr.Column(min_width=320, elem_classes="right"):
                self._picture(first, opening, query)

    def _start(self, first: Method) -> None:
        """Method and Run: always in sight, on a phone above the picture."""
        gr.HTML(html_template=f"<p class='question'>{QUESTIONS[self.tab][1]}</p>", apply_default_css=False)
        with gr.Row(elem_classes="start"):
            self.method = gr.Dropdown([(m.card.title, m.id) for m in self.methods.values()], value=first.id,
                                      label="Method", elem_id=f"{self.tab}-method")
            self.run = gr.Button("Run", variant="primary", elem_id=f"{self.tab}-run", elem_classes="run")
            self.cancel = gr.Button("Cancel", visible=False, elem_id=f"{self.tab}-cancel", elem_classes="cancel")
        self.status = nodes.block([], elem_id=f"{self.tab}-status")

    def _choices(self, first: Method) -> None:
        self.about = nodes.block(nodes.about(first.card), elem_id=f"{self.tab}-about", elem_classes="about")
        with gr.Row(elem_classes="ways"):
            self.walk = lessons.walk(self.tab)
            self.turn = gr.Button("Your turn", visible=self._playable(first), elem_id=f"{self.tab}-turn",
                                  elem_classes="turn", size="sm")
            self.browse = gr.Button("Gallery", elem_id=f"{self.tab}-browse", elem_classes="turn", size="sm")
        kind = first.kind()
        self.picker = picker(cards(first.examples_for(kind), kind), elem_id=f"{self.tab}-picker")
        self.text = gr.Textbox(label=OWN_WORDS.get(kind, "Or your own text"), lines=1, max_lines=6,
                               html_attributes=unheard(),
                               visible=kind != "photo", elem_id=f"{self.tab}-text")
        self.photo = gr.UploadButton("Your own photo", file_types=[".png", ".jpg", ".jpeg", ".webp", ".gif"],
                                     type="filepath",
                                     visible=kind == "photo", size="sm", elem_id=f"{self.tab}-photo",
                                     elem_classes="own")
        with gr.Column(elem_classes="controls"):
            gr.render(inputs=[self.method, self.wanted], show_progress="hidden", **RENDERS)(self.build_controls)
        self.seed = gr.Number(recorded.SEED, label="Seed", precision=0, minimum=0, maximum=2**31 - 1,
                              elem_id=f"{self.tab}-seed", elem_classes="seed")
        self.beside = gr.Dropdown(self._besides(first), value=self._standing(first),
                                  multiselect=True, max_choices=2, label="Compare with", elem_id=f"{self.tab}-beside")
        self.checkpoint = gr.Dropdown(_menu(first), value=first.checkpoints[0], label="Checkpoint",
                                      filterable=False, visible=_shown(first), allow_custom_value=True,
                                      elem_id=f"{self.tab}-checkpoint")

    def _picture(self, first: Method, opening: Shown, query: str) -> None:
        self.view = player(self.value(opening), shared=True, elem_id=f"{self.tab}-player")
        self.score = nodes.block([], elem_id=f"{self.tab}-score")
        self.sentence = nodes.block(self._sentence(opening), before=f"#{self.tab}-player .ts-curves",
                                    elem_id=f"{self.tab}-sentence")
        figures = self.figures(opening)
        with gr.Row(elem_classes="charts"):
            slots = [charts.slot(figure) for figure in figures]
        self.heads, self.charts = [head for head, _ in slots], [chart for _, chart in slots]
        self.strip = nodes.block(self._strip(opening), elem_id=f"{self.tab}-strip")
        self.claim = nodes.block(self._claim(first), elem_id=f"{self.tab}-claim")
        with gr.Row(elem_classes="take-away"):
            self.downloads = {kind: gr.Button(kind, size="sm", min_width=56, elem_id=f"{self.tab}-get-{kind.lower()}",
                                              elem_classes="get") for kind in KINDS}
            self.copy = gr.Button("Copy link", size="sm", min_width=90, elem_id=f"{self.tab}-copy",
                                  elem_classes="copy")
        self.link = gr.Textbox("", placeholder=" ", label="Link to this view (copied)", interactive=False,
                               elem_id=f"{self.tab}-link", elem_classes="link")
        self.query = gr.Textbox(query, visible="hidden", elem_id=f"{self.tab}-query")
        self.step = gr.Number(-1, precision=0, visible="hidden")
        self.file = gr.JSON(visible="hidden")
        self.settings = gr.JSON({}, visible="hidden")  # what the controls say, kept by the browser
        nodes.block(nodes.terms(self.tab))

    # ---- what is shown -------------------------------------------------------------------------------------------

    @property
    def busy(self) -> list:
        """What a run changes while it goes on."""
        return [self.view, self.session, self.run, self.cancel, self.turn, self.status]

    @property
    def outcome(self) -> list:
        """What a finished run changes."""
        return [*self.busy, self.score, self.sentence, *self.heads, *self.charts, self.strip, self.query]

    @property
    def choice(self) -> list:
        """What another method changes."""
        return [*self.outcome, self.method, self.about, self.picker, self.text, self.photo, self.own, self.seed,
                self.checkpoint, self.beside, self.claim, self.settings]

    def show_method(self, id: str, checkpoint: str | None = None, example: str = "",
                    beside: Sequence[str] | None = None, settings: Mapping | None = None) -> dict:
        """Everything on the left that depends on the method."""
        method = self.methods[id]
        standing = self._standing(method) if beside is None else list(beside)
        return self.show_subjects(id, checkpoint, example) | {
            self.about: nodes.about(method.card), self.claim: self._claim(method),
            self.own: None, self.settings: dict(settings or {}), self.score: [],
            self.checkpoint: gr.update(choices=_menu(method), value=checkpoint or method.checkpoints[0],
                                       visible=_shown(method)),
            self.beside: gr.update(choices=self._besides(method), value=standing),
            self.turn: gr.update(visible=self._playable(method)),
        }

    def menu(self, id: str) -> dict:
        """The checkpoint menu as it stands now: a public one may have arrived."""
        return gr.update(choices=_menu(self.methods[id]))

    def show_subjects(self, id: str, checkpoint: str | None = None, example: str = "") -> dict:
        """The examples and the place for an own subject, of the kind that the checkpoint takes."""
        method = self.methods[id]
        kind = method.kind(checkpoint)
        return {self.picker: cards(method.examples_for(kind, checkpoint), kind, example),
                self.text: gr.update(value="", visible=kind != "photo", label=OWN_WORDS.get(kind, OWN_WORDS["text"])),
                self.photo: gr.update(visible=kind == "photo")}

    def show(self, shown: Shown, **extra) -> dict:
        """The picture and everything under it; extra as in `value`."""
        figures = self.figures(shown)
        return {self.view: self.value(shown, **extra), self.sentence: self._sentence(shown),
                self.strip: self._strip(shown), **charts.shown(self.heads, self.charts, figures)}

    def value(self, shown: Shown, view: Mapping | None = None, waiting: Sequence[str] = (), **extra) -> dict:
        """The player's value: up to three drawings.

        view: view parameters by name; waiting: ids or roles of the runs that have not begun, drawn as an empty canvas
        so that nothing jumps when they do; extra: turn, loading, step.
        """
        alone = len(shown.traces) + len(waiting) == 1
        drawings = [draw(trace, title=ROLES.get(role) or self._heading(trace.method, alone),
                         **self._own(trace), **(view or {})) for trace, role in zip(shown.traces, shown.roles)]
        drawings += [_blank(drawings[0], ROLES.get(id) or self._title(id)) for id in waiting]
        change = what_if.spec(shown.traces, shown.roles) if shown.traces and not extra.get("turn") else None
        return scene(*(*drawings, None, None, None)[:3], change=change, **extra)

    def figures(self, shown: Shown) -> list:
        """As many Plotly figures as there are slots; None where there is nothing to draw."""
        if not any(chart for trace in shown.traces[:1] for chart in trace.charts if not chart.by_step):
            return [None] * CHARTS
        from visualizers.drawing import curves  # Plotly is read from disk only where there is a chart
        trace, twin = shown.traces[0], shown.traces[1] if len(shown.traces) > 1 else None
        names = self._title(trace.method), self._title(twin.method) if twin else ""
        found = curves.figures(trace, twin, names=names)
        return [*found[:CHARTS], *[None] * (CHARTS - len(found))]

    def _sentence(self, shown: Shown) -> list:
        return nodes.watching(self._method(shown.traces[0]).card, shown.traces[0]) if shown.traces else []

    def _strip(self, shown: Shown) -> list:
        return nodes.strip(shown.traces[0], shown.traces[1:], self.cards) if shown.traces else []

    def _claim(self, method: Method) -> list:
        found = [read_claim(method.id), *read_public(method.id)]
        return [part for one in found for part in claims.claim(one, method.card.seed is not None)]

    def _method(self, trace: Trace) -> Method:
        return self.methods[trace.method]

    def _own(self, trace: Trace) -> dict:
        """Boxes and arrows of a method and its words for states; those of a control arm are its method's."""
        known = self.methods.get(trace.method) or self.methods.get(trace.method.removesuffix(CONTROL))
        return {"flow": arrows(known.card.flow), "says": known.card.states.get(trace.tab)} if known else {"flow": []}

    def _title(self, id: str) -> str:
        arms = {method.arm.id: method.arm for method in self.methods.values() if method.arm}
        known = self.methods.get(id) or arms.get(id)
        return known.card.title if known else id

    def _heading(self, id: str, alone: bool) -> str:
        """The method's title, or what this tab shows of it: beside another a name, no description ("the ...")."""
        said = self.methods[id].card.shown.get(self.tab, "") if id in self.methods else ""
        shown = said if said and (alone or said[0].isupper()) else self._title(id)
        return shown[:1].upper() + shown[1:]

    def _besides(self, method: Method) -> list[tuple[str, str]]:
        mark = {} if method.baseline == method.id + CONTROL else {method.baseline: " (baseline)"}
        return [(self._title(id) + mark.get(id, ""), id) for id in self.beside_ids.get(method.id, ())]

    def _standing(self, method: Method) -> list[str]:
        return [id for id in self.beside_ids.get(method.id, ()) if id == method.baseline]

    def _playable(self, method: Method) -> bool:
        return method.turn is not None and self.tab == method.card.tabs[0]


def _blank(like: Drawing, title: str) -> Drawing:
    """An empty canvas like the first one, for a run that has not begun."""
    frame = Frame("waiting", np.zeros(like.layout.size, np.uint8))
    return replace(like, title=title, frames=(frame,), facts=(), curves=(), attention=None, fields={}, legend=(),
                   alt="not run yet", view={})


def controls(method: Method, given: Mapping, folded: bool) -> dict[str, gr.components.Component]:
    """name -> control of the method's parameters that are (not) folded, showing the given values or the defaults."""
    return {name: control(spec, kind, given.get(name, default))
            for name, (spec, kind, default) in parameters(method).items() if spec.fold == folded}


def parameters(method: Method) -> dict:
    """Its declared parameters without those about subjects that none of its checkpoints here takes."""
    kinds = {"", *map(method.kind, method.choices)}
    return {name: entry for name, entry in declaration(method.params).items()
            if getattr(entry[0], "only", "") in kinds}


def has_folded(method: Method) -> bool:
    return any(spec.fold for spec, *_ in parameters(method).values())


def views(method: Method) -> list[str]:
    """Names of the parameters that the trace alone can answer."""
    return [name for name, (spec, *_) in declaration(method.params).items() if spec.view]


def one_only(method: Method) -> bool:
    """Whether there is no checkpoint to choose: one in the menu, and no folder of a visitor's own that it takes."""
    return len(_menu(method)) == 1 and not (method.layouts and folders.allowed())


def _shown(method: Method) -> bool | str:
    """The checkpoint menu with one entry is hidden but stays in the page: a menu taken out keeps its old value.
    Where one arrives late all the same, Desk.ask takes the method's only checkpoint."""
    return not one_only(method) or "hidden"


def _menu(method: Method) -> list[tuple[str, str]]:
    """Checkpoints with what they say about themselves: the shipped ones their name, public ones size and licence."""
    return [*((hub.title(name), name) for name in method.choices),
            *((packaged.title(name), name) for name in packaged.here() if not layouts.unfit(method, name))]
