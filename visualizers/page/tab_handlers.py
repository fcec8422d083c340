"""What a click does: the event handlers of one tab, and which component calls which.

Handlers are thin: they read the page into an `Ask`, let models/serving/session.py work, and show what comes back. Every
error that a visitor can cause becomes one sentence on the page, and the picture stays as it was.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from models.checkpoints import download, hub, store, versions
from models.engine.method import Method, find
from models.serving import cores, kept_runs, links, recorded, session
from models.serving.errors import CLEAR, told
from models.serving.session import Ask, Scene, Take, TooSlow
from models.trace.params import ParamError
from models.trace.subject import Subject, from_image, from_text
from visualizers.page import nodes
from visualizers.page.changes import Changes
from visualizers.page.controls import OWN, cards
from visualizers.page.downloads import MIMES, rendered
from visualizers.page.panel import Panel, controls, has_folded, one_only, views
from visualizers.page.scripts import BROWSE, COPY, FOLLOWED, OPENED, SAVE, SHOW, STEP
from visualizers.page.turns import FORGOTTEN, SessionMemory, Turns
from visualizers.player import player

MODEL = {"concurrency_id": "model", "concurrency_limit": cores.at_once()}
FETCH = {"concurrency_id": "fetch", "concurrency_limit": 4, "api_visibility": "private", "show_progress": "hidden"}
QUIET = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "once"}


def opening(id: str, tab: str) -> SessionMemory:
    """The recorded example of a method and its baseline's, or nothing recorded."""
    method = find(id)
    found = [("method", recorded.read(id, tab)), ("beside", recorded.read(id, tab, beside=True))]
    takes = tuple(Take(role, trace) for role, trace in found if trace is not None)
    beside = session.default_beside(method, tab, method.kind())
    return SessionMemory(Ask(id, tab, seed=recorded.SEED, beside=beside), takes)


def ready(seen: SessionMemory, ask: Ask) -> bool:
    """Whether the recorded picture answers the question."""
    return bool(seen.takes) and links.to_query(seen.ask) == links.to_query(ask)


class Desk(Turns, Changes):
    """The events of one tab; those of "Your turn" are in visualizers/page/turns.py, changes in
    visualizers/page/changes.py."""

    def __init__(self, tab: str, methods: list[Method]):
        """Builds the tab's panel in the Blocks that is being built, and wires it."""
        first = opening(methods[0].id, tab)
        beside = {m.id: session.comparable(m, tab, m.kind()) for m in methods}
        self.panel = Panel(tab, methods, first.shown, store.shipped() | hub.cards(), beside,
                           links.to_query(first.ask), self.controls)
        self.wire()

    # ---- wiring --------------------------------------------------------------------------------------------------

    def wire(self) -> None:
        """Connects everything that does not depend on the selected method."""
        p = self.panel
        page = [p.method, p.picker, p.text, p.own, p.seed, p.checkpoint, p.beside, p.settings]
        waiting = {"show_progress": "minimal", "show_progress_on": p.status}  # the place in the queue; see style.css
        started = p.run.click(self.run, page, p.outcome, **QUIET | MODEL | waiting)
        p.run.click(None, js=SHOW % p.tab)
        p.browse.click(None, js=BROWSE % p.tab)
        turned = p.turn.click(self.turn, page, p.outcome, **QUIET | MODEL | waiting)
        opened = p.wanted.change(self.open_link, [p.wanted], p.choice, **QUIET)  # waits for nobody's run
        followed = opened.then(self.follow_link, [p.wanted], p.choice, **QUIET | MODEL)
        opened.then(None, js=OPENED)
        followed.then(None, js=FOLLOWED)
        p.cancel.click(None, js=FOLLOWED)
        p.cancel.click(self.cancelled, None, [p.run, p.cancel, p.turn, p.status],
                       cancels=[started, turned, followed], **QUIET)
        p.method.input(self.choose, [p.method], p.choice, **QUIET)
        chosen = p.checkpoint.input(p.show_subjects, [p.method, p.checkpoint], [p.picker, p.text, p.photo], **QUIET)
        chosen.then(self.fetch, [p.method, p.checkpoint], [p.status, p.checkpoint, p.picker, p.text, p.photo], **FETCH)
        p.picker.pick(None, None, p.text, js="() => ''")
        p.text.input(None, [p.text, p.picker], p.picker, js=f"(text, value) => ({{...value, selected: '{OWN}'}})")
        p.photo.upload(self.take_photo, [p.photo, p.method, p.checkpoint], [p.own, p.picker], **QUIET)
        p.view.row(self.row, [p.session, p.method, p.query], [p.view, p.session], **QUIET, **MODEL)
        p.view.intervene(self.intervene, [p.session, p.method, p.query], p.outcome, **QUIET, **MODEL)
        p.view.pick(self.picked, [p.session], p.outcome, **{**QUIET, "trigger_mode": "multiple"}, **MODEL)
        if p.walk is not None:
            p.walk.go(None, [p.walk], [p.wanted, p.method], js="(walk) => [walk.link, walk.method]")
        p.copy.click(None, [p.query], [p.link], js=COPY % p.tab)
        for kind, button in p.downloads.items():
            got = button.click(self.export(kind), [p.session, p.method, p.query, p.step], [p.file],
                               js=STEP % p.tab, api_visibility="private", show_progress="minimal")
            got.then(None, [p.file], None, js=SAVE)

    def controls(self, id: str, wanted: str) -> None:
        """Inside gr.render: the method's controls, and the events that read them."""
        p, method = self.panel, find(id)
        given = linked(wanted, id)
        with gr.Column(elem_classes=f"of-{p.tab}-{id}"):  # opening.js looks for it
            built = controls(method, given, folded=False)
            if has_folded(method):
                with gr.Accordion("More settings", open=False):
                    built |= controls(method, given, folded=True)
        for name, made in built.items():
            made.change(None, [p.settings, made], p.settings, js=f"(all, one) => ({{...all, {name}: one}})")
        seen_as = views(method)
        for name in seen_as:
            change = built[name].release if isinstance(built[name], gr.Slider) else built[name].change
            change(self.viewer(seen_as), [p.session, p.method, p.query, *(built[n] for n in seen_as)], [p.view],
                   **QUIET)

    # ---- choosing ------------------------------------------------------------------------------------------------

    def choose(self, id: str) -> dict:
        """Another method: its words, its examples, and its recorded picture."""
        p, seen = self.panel, opening(id, self.panel.tab)
        found = p.show_method(id) | {p.session: seen, p.query: links.to_query(seen.ask)}
        return found | (p.show(seen.shown) if seen.takes else {p.status: [nodes.node("p", "Press Run to start.")]})

    def take_photo(self, path: str, id: str, checkpoint: str) -> dict:
        """A visitor's own photo: read once, then deleted from the disk."""
        p, method = self.panel, find(id)
        kind = method.kind(checkpoint)
        try:
            data = Path(path).read_bytes()
            own = from_image(data)
        except Exception as error:
            gr.Warning(told(error))
            return {p.own: gr.skip()}
        finally:
            Path(path).unlink(missing_ok=True)
        return {p.own: own, p.picker: cards(method.examples_for(kind), kind, own=own)}

    def fetch(self, id: str, checkpoint: str) -> Iterator[dict]:
        """A public checkpoint that was chosen is fetched, with the progress where runs show theirs. Where that fails,
        the menu goes back to the method's own; a name that cannot be had stays in it, so that Run refuses it too."""
        p, back = self.panel, {}
        if why := session.refused(id, checkpoint):
            gr.Warning(why)
            yield {p.status: []}
            return
        try:
            for done, total in download.fetch(checkpoint):
                yield {p.status: nodes.progress(done / total, f"fetching {done / 1e6:.0f} of {total / 1e6:.0f} MB")}
        except Exception as error:
            gr.Warning(told(error))
            own = find(id).checkpoints[0]
            back = p.show_subjects(id, own) | {p.checkpoint: {**p.menu(id), "value": own}}
        yield {p.checkpoint: p.menu(id)} | back | {p.status: []}

    def ask(self, id, picked, text, own, seed, checkpoint, beside, settings) -> Ask:
        """The page as an Ask; raises one of the errors that `guarded` knows."""
        method = find(id)
        if one_only(method) and checkpoint not in method.choices:
            checkpoint = None  # its menu is hidden: the value is the former method's
        chosen = picked.get("selected") if isinstance(picked, Mapping) else ""
        mine, example = None, str(chosen or "")
        kind = method.kind(checkpoint)
        if text and kind != "photo":  # choosing an example empties the text box
            mine = from_text(text, kind)
        elif chosen == OWN and isinstance(own, Subject) and own.kind == kind:
            mine = own
        if mine is not None or chosen == OWN:
            example = ""
        fit = session.comparable(method, self.panel.tab, kind)
        values = settings if isinstance(settings, dict) else {}
        return Ask(id, self.panel.tab, values, seed, example, mine, checkpoint,
                   tuple(b for b in beside or () if b in fit))

    # ---- runs ----------------------------------------------------------------------------------------------------

    def run(self, *page) -> Iterator[dict]:
        yield from self.guarded(lambda: self.scenes(self.ask(*page)))

    def guarded(self, work, also: Mapping = MappingProxyType({})) -> Iterator[dict]:
        """Busy, then whatever `work` yields, then idle again; errors become a sentence and leave the picture.

        also: updates that go out with the first. Two yields at once would lose the first one's: the page keeps only
        the last update of a component in a tab that it is still building.
        """
        p = self.panel
        busy = {p.run: gr.update(value="Running", interactive=False), p.cancel: gr.update(visible=True),
                p.turn: {**also.get(p.turn, {}), **gr.update(interactive=False)},
                p.status: nodes.progress(0, "getting ready")}
        yield {**also, **busy}
        try:
            yield from work()
        except Exception as error:
            gr.Warning(told(error))
        yield self.cancelled()

    def cancelled(self) -> dict:
        p = self.panel
        return {p.run: gr.update(value="Run", interactive=True), p.cancel: gr.update(visible=False),
                p.turn: gr.update(interactive=True), p.status: []}

    def scenes(self, ask: Ask) -> Iterator[dict]:
        """A run as updates of the page: the picture while it grows, everything at the end."""
        try:
            for scene in session.pumped(kept_runs.played(ask)):
                yield self.update(ask, scene)
        except TooSlow as error:
            yield self.instead(ask, error)

    def instead(self, ask: Ask, error: TooSlow) -> dict:
        """The recorded example of a method that takes too long here."""
        p, seen = self.panel, opening(ask.method, self.panel.tab)
        if not seen.takes:
            raise error
        gr.Warning(f"{str(error).capitalize()}. Here is the recorded example instead.")
        return p.show(seen.shown) | {p.session: seen, p.query: links.to_query(seen.ask), p.score: []}

    def update(self, ask: Ask, scene: Scene) -> dict:
        p, seen = self.panel, SessionMemory(ask, scene.takes)
        if scene.done:
            return p.show(seen.shown, step=None if ask.step < 0 else ask.step) | {
                p.session: seen, p.query: links.to_query(ask), p.score: []}
        waiting = session.standing(ask)[len(scene.takes) - 1:]
        return {p.view: p.value(seen.shown, waiting=waiting, loading=True), p.session: seen,
                p.status: self.words(scene)}

    def words(self, scene: Scene) -> list:
        left = "" if scene.left is None else f", about {max(1, round(scene.left))} s left"
        return nodes.progress(scene.progress, f"{scene.progress * 100:.0f} %{left}")

    def open_link(self, wanted: str) -> dict:
        """A copied link, as far as no model is needed: the controls, and the picture if it is the recorded one."""
        p = self.panel
        try:
            ask = links.from_query(link_parts(wanted))
        except Exception as error:
            gr.Warning(f"This link cannot be followed: {told(error).rstrip('.')}.")
            return {p.status: []}
        if link_parts(wanted).get("own"):
            gr.Info("This link was made with somebody's own subject, which never leaves their page; here is the "
                    "example nearest to it.")
        if replaced := versions.sentence(link_parts(wanted).get("checkpoint", ""), p.cards):
            gr.Info(f"{replaced}, which this link opens now.")
        seen = opening(ask.method, p.tab)
        if ready(seen, ask):
            return self.page(ask) | p.show(seen.shown, step=None if ask.step < 0 else ask.step) | {p.session: seen}
        return self.page(ask) | {p.status: nodes.progress(0, "waiting for its turn")}

    def follow_link(self, wanted: str) -> Iterator[dict]:
        """The rest of it: the run, unless its picture is there already."""
        try:
            ask = links.from_query(link_parts(wanted))
        except Exception:  # open_link has said so
            ask = None
        if ask is None or ready(opening(ask.method, self.panel.tab), ask):
            yield {self.panel.status: []}  # a generator that yields nothing would empty the page
        else:
            yield from self.guarded(lambda: self.scenes(ask), self.page(ask))

    def page(self, ask: Ask) -> dict:
        """The controls as this question sets them."""
        p = self.panel
        return p.show_method(ask.method, ask.checkpoint, ask.example, ask.beside, ask.params) | {
            p.method: ask.method, p.seed: ask.seed, p.query: links.to_query(ask)}

    # ---- questions to a picture ----------------------------------------------------------------------------------

    def viewer(self, names: list[str]):
        """Parameters that the trace alone answers: drawn again, no model."""
        def look(seen: SessionMemory | None, id: str, query: str, *values):
            try:
                seen = self.remembered(seen, id, query)
                return self.panel.value(seen.shown, view=dict(zip(names, values))) if seen.takes else gr.skip()
            except Exception as error:
                gr.Warning(told(error))
                return gr.skip()
        return look

    def remembered(self, seen: SessionMemory | None, id: str, query: str) -> SessionMemory:
        """What the picture shows: from the visitor's session, or the recorded example that a page opens on."""
        if seen is not None:
            return seen
        found = opening(id, self.panel.tab)
        if links.to_query(found.ask) != query:
            raise ParamError(FORGOTTEN)
        return found

    def row(self, seen: SessionMemory | None, id: str, shown: str, event: gr.EventData) -> dict:
        """One exact attention row that was not stored; a recorded picture is run once to be able to answer."""
        p = self.panel
        try:
            seen = self.with_kept(self.remembered(seen, id, shown))
            side = ("left", "right", "third").index(event.side)
            layer, head, query = (int(event._data[key]) for key in ("layer", "head", "query"))
            weights = seen.takes[side].kept.row(layer, head, query)
            return {p.view: player.row(event.side, layer, head, query, weights), p.session: seen}
        except CLEAR as error:
            gr.Warning(str(error))
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, NotImplementedError):
            pass  # a row that is not there, or a message that no player sends
        except Exception as error:
            gr.Warning(told(error))
        return {p.session: gr.skip()}

    def with_kept(self, seen: SessionMemory) -> SessionMemory:
        if any(take.kept is not None for take in seen.takes):
            return seen
        *_, scene = session.pumped(kept_runs.played(seen.ask))
        return SessionMemory(seen.ask, scene.takes)

    # ---- taking it away ------------------------------------------------------------------------------------------

    def export(self, kind: str):
        """A download as base64 data; the page makes the file, nothing is written on this machine."""
        def make(seen: SessionMemory | None, id: str, query: str, step: Any) -> dict | None:
            end = {"python": "py"}.get(kind.lower(), kind.lower())
            try:
                seen = self.remembered(seen, id, query)
                if not seen.takes:
                    raise ParamError("There is no picture yet; please run the method first.")
                data = rendered(seen.shown, end, step if isinstance(step, int) else -1)
            except Exception as error:
                gr.Warning(told(error))
                return None
            name = f"tokenscope-{seen.ask.method}-{self.panel.tab}.{end}"
            return {"name": name, "mime": MIMES[end], "data": base64.b64encode(data).decode("ascii")}
        return make


def link_parts(wanted: str) -> dict[str, str]:
    return dict(parse_qsl(str(wanted)[:2000], keep_blank_values=True))


def linked(wanted: str, id: str) -> dict:
    """The parameters in a copied link, if it is a sound link to this method."""
    try:
        ask = links.from_query(link_parts(wanted)) if wanted else None
    except CLEAR:
        return {}
    return dict(ask.params) if ask is not None and ask.method == id else {}
