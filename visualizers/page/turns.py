"""The events of "Your turn": the visitor does the method's job, on the canvas or candidate by candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from models.engine.method import find
from models.serving import kept_runs, session, turns, zerogpu
from models.serving.session import Ask, Scene, Take
from models.trace import Trace
from visualizers.drawing.canvas import unit_of
from visualizers.page import charts, nodes
from visualizers.page.panel import Shown
from visualizers.player import player

ROLES = ("visitor", "method", "random")
FORGOTTEN = "This page was away for so long that its picture was forgotten here; please run it again."
WAITING = nodes.node("p", "Your score stands here when you have chosen.")


@dataclass(frozen=True)
class SessionMemory:
    """What a visitor's session remembers: what was asked and what it led to.

    turn: the hand-made choice is awaited; offer, picks: where candidates are offered, the open one and those before it.
    """

    ask: Ask
    takes: tuple[Take, ...]
    turn: bool = False
    offer: turns.Offer | None = None
    picks: tuple[int, ...] = ()

    @property
    def shown(self) -> Shown:
        return Shown(tuple(t.trace for t in self.takes), tuple(t.role for t in self.takes))


def asks(prompt: str, ask: Ask) -> str:
    """What to do, and which words the picture is to show, or what is asked of the one that is shown."""
    subject = session.job(ask).subject
    if subject.kind == "question":
        return f"{prompt.rstrip('.')}. The question: {subject.text.strip().rpartition('. ')[2]}"
    return f"{prompt} The picture is to show: {subject.text}." if subject.kind in ("caption", "prompt") else prompt


class Turns:
    """Part of a tab's desk, which has `panel`, `ask`, `guarded` and `words`."""

    def turn(self, *page) -> Iterator[dict]:
        yield from self.guarded(lambda: self.deal(replace(self.ask(*page), beside=())))

    def deal(self, ask: Ask) -> Iterator[dict]:
        """Hands the first candidates, or the empty canvas, to the visitor."""
        if find(ask.method).turn.options:
            yield self.offered(SessionMemory(ask, ()), turns.offer(ask, ()))
        else:
            *_, scene = session.pumped(kept_runs.played(ask))  # the method's own score is needed anyway
            yield self.emptied(SessionMemory(ask, scene.takes, turn=True))

    def emptied(self, seen: SessionMemory) -> dict:
        trace, turn = seen.takes[0].trace, find(seen.ask.method).turn
        free = set(turns.playable(trace).tolist())
        locked = [i for i in range(trace.canvas.size) if i not in free]
        unit = unit_of(trace.canvas, "cells" if trace.canvas.kind == "pyramid" else "words")
        card = player.turn(asks(turn.prompt, seen.ask), turns.groups(session.job(seen.ask)), unit, locked)
        return self.dealt(trace, card, seen)

    def offered(self, seen: SessionMemory, offer: turns.Offer) -> dict:
        """The candidates after the picks made so far."""
        card = player.offer(find(seen.ask.method).turn.prompt, nodes.choices(offer.labels, offer.trace.canvas.kind),
                            offer.at, offer.made, offer.total)
        return self.dealt(offer.trace, card, replace(seen, turn=True, offer=offer))

    def dealt(self, trace: Trace, card: dict, seen: SessionMemory) -> dict:
        """The game on the page; the last run's sentence, score and charts would give answers away."""
        p = self.panel
        return {p.view: p.value(Shown((trace,)), turn=card), p.session: seen, p.score: [], p.sentence: [WAITING],
                **charts.shown(p.heads, p.charts, [None] * len(p.charts))}

    def picked(self, seen: SessionMemory | None, event: gr.EventData) -> Iterator[dict]:
        """What the visitor chose: the next candidates, or three runs read the same way and a score card."""
        if not isinstance(seen, SessionMemory) or not seen.turn:
            gr.Warning(FORGOTTEN)
            yield {self.panel.status: []}
            return
        groups = getattr(event, "groups", None)
        yield from self.guarded(lambda: self.answered(seen, groups))

    def answered(self, seen: SessionMemory, groups: Any) -> Iterator[dict]:
        if seen.offer is None:
            yield from self.judge(seen, zerogpu.scenes(turns.take_turn, seen.ask, seen.takes[0], groups))
            return
        seen = replace(seen, picks=(*seen.picks, seen.offer.picked(groups)))
        if offer := turns.offer(seen.ask, seen.picks):
            yield self.offered(seen, offer)
        else:
            yield from self.judge(seen, zerogpu.scenes(turns.take_picks, seen.ask, seen.picks))

    def judge(self, seen: SessionMemory, scenes: Iterator[Scene]) -> Iterator[dict]:
        p, method = self.panel, find(seen.ask.method)
        for scene in session.pumped(scenes):
            now = SessionMemory(seen.ask, scene.takes)
            if not scene.done:
                yield {p.view: p.value(now.shown, waiting=("random",) * (3 - len(scene.takes)), loading=True),
                       p.status: self.words(scene)}
        scored = [take for take in scene.takes if method.turn.fact in take.trace.facts]  # not the judge itself
        order = sorted(scored, key=lambda t: ROLES.index(t.role))
        names = dict(zip(ROLES, ("Your choice", method.card.title, "At random")))
        rows = [(names[t.role], t.trace.facts[method.turn.fact]) for t in order]
        yield p.show(now.shown) | {p.session: now, p.score: nodes.score(rows)}
