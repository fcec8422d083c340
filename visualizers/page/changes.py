"""What if: the events of a change in the middle of a run."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import gradio as gr

from models.backbones.text import names as token_names
from models.serving import session
from models.serving.session import Ask
from models.trace.interventions import KINDS, NONE, Interventions
from models.trace.params import ParamError
from visualizers.page.turns import SessionMemory

NAMES = 20  # ids whose names tell whether a vocabulary is the tokenizer's


class Changes:
    """Part of a tab's desk, which has `panel`, `remembered`, `guarded` and `scenes`."""

    def intervene(self, seen: SessionMemory | None, id: str, query: str, event: gr.EventData) -> Iterator[dict]:
        """The run with one more change, and the untouched one beside it."""
        yield from self.guarded(lambda: self.scenes(self.changed(self.remembered(seen, id, query), event._data)))

    def changed(self, seen: SessionMemory, message: Any) -> Ask:
        """The question with what a player's message asks for; ParamError for anything else."""
        message = message if isinstance(message, dict) else {}
        kind, before = message.get("kind"), seen.ask.interventions
        if kind == "undo":
            return replace(seen.ask, interventions=NONE)
        if kind not in KINDS or not seen.takes:
            raise ParamError("This change is not known; please press a token of the picture again.")
        if "word" in message:
            message = {**message, "id": single(seen, str(message["word"])[:40])}
        name, make = KINDS[kind]
        one = tuple(message.get(field, -1) for field in make._fields)
        kept = [old for old in getattr(before, name) if kind != "put" or old.at != message.get("at")]
        others = {f.name: getattr(before, f.name) for f in fields(before) if f.name != name}
        step = message.get("step", -1)
        return replace(seen.ask, interventions=Interventions(**{name: (*kept, one)}, **others),
                       step=step if isinstance(step, int) and step >= 0 else -1)


def single(seen: SessionMemory, word: str) -> int:
    """The one token that a typed word is, with or without a space before it; ParamError says how many it is."""
    tokenizer, names = session.job(seen.ask).tokenizer, list(seen.takes[0].trace.vocabulary.items())[:NAMES]
    if any(token_names(tokenizer, [id])[0] != name for id, name in names if id < len(tokenizer)):
        raise ParamError("Words cannot be typed here, because this method does not write tokens; please press one of "
                         "the candidates.")
    tried = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (word, f" {word}")]
    found = [ids[0] for ids in tried if len(ids) == 1]
    if not found:
        raise ParamError(f"“{word}” is {len(tried[0])} tokens for this model; please type a word that is one token.")
    return found[-1] if not word.startswith(" ") else found[0]
