"""Copyable links: everything that reproduces a view, as URL parameters and back.

Values are checked by the declarations that make the controls. A visitor's own subject and free texts never enter a
link; it names the example most like it instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

import numpy as np

from models.checkpoints import folders, packaged, store, versions
from models.engine.method import find, offered
from models.serving.recorded import SEED
from models.serving.session import Ask, default_beside, subject
from models.trace import interventions
from models.trace import params as parameters
from models.trace.params import ParamError, Words, declaration
from models.trace.subject import Example, from_example

FOLDER = "own-folder"  # what stands in a link for a visitor's own


def to_query(ask: Ask) -> str:
    """URL parameters that reproduce the view; own subjects and free texts never enter them."""
    method = find(ask.method)
    declared = declaration(method.params)
    values = parameters.parse(method.params, ask.params)
    pairs = {"tab": ask.tab, "method": ask.method, "seed": ask.seed}
    if ask.own is None:
        pairs["example"] = ask.example or ask.examples[0].id
    else:
        pairs |= {"example": nearest(ask).id, "own": 1}
    if ask.checkpoint not in (None, method.checkpoints[0]):
        pairs["checkpoint"] = FOLDER if folders.own(ask.checkpoint) else ask.checkpoint
    if ask.beside != default_beside(method, ask.tab, ask.kind):
        pairs["beside"] = ".".join(ask.beside)
    changed = {name: getattr(values, name) for name, (spec, _, default) in declared.items()
               if not isinstance(spec, Words) and getattr(values, name) != default}
    pairs |= ask.interventions.words()
    return urlencode(pairs | {f"p.{name}": value for name, value in changed.items()})


def from_query(query: Mapping[str, str]) -> Ask:
    """The Ask in URL parameters; raises ParamError with one sentence for anything outside the declarations."""
    method = find(query.get("method", ""))
    if method.id not in offered():
        raise ParamError(f"{method.card.title} is not shown yet, because its weights are still to be trained")
    given = {key[2:]: value for key, value in query.items() if key.startswith("p.")}
    checkpoint = opened(query.get("checkpoint"))
    if checkpoint == FOLDER:
        raise ParamError("this link was made with a folder of somebody's own machine, which it does not carry; choose "
                         f"one of {', '.join(method.choices)}")
    if checkpoint is not None and checkpoint not in method.choices and not packaged.folder(checkpoint):
        raise ParamError(f"there is no checkpoint '{checkpoint[:40]}' for this method")
    tab = query.get("tab", method.card.tabs[0])
    usual = default_beside(method, tab, method.kind(checkpoint))
    beside = tuple(filter(None, query["beside"].split("."))) if "beside" in query else usual
    declared = declaration(method.params)
    free = [name for name in given if name in declared and isinstance(declared[name][0], Words)]
    if free:
        raise ParamError(f"a link cannot carry the text '{free[0]}'")
    values = parameters.parse(method.params, given)
    ask = Ask(method.id, tab, {name: getattr(values, name) for name in given},
              _whole(query.get("seed", SEED), "seed"), query.get("example", ""), None, checkpoint, beside,
              step=_whole(query.get("step", "-1"), "step", low=-1), interventions=interventions.from_words(query))
    subject(ask)  # an unknown example is refused here
    return ask


def opened(checkpoint: str | None) -> str | None:
    """The checkpoint that a link's name opens: itself, or what took its place."""
    return checkpoint and versions.current(checkpoint, store.shipped())


def nearest(ask: Ask) -> Example:
    """The example most like the visitor's own subject: mean colours on an 8x8 grid, or shared letter triples."""
    own = ask.own

    def distance(example: Example) -> float:
        other = from_example(example, ask.kind)
        if own.image is not None:
            return float(np.abs(_thumb(own.image) - _thumb(other.image)).mean())
        a, b = _triples(own.text), _triples(other.text)
        return -len(a & b) / max(1, len(a | b))
    return min(ask.examples, key=distance)


def _whole(text: str | int, name: str, low: int = 0) -> int:
    if not re.fullmatch("-?[0-9]{1,10}", str(text)) or not low <= int(text) < 2**31:
        raise ParamError(f"{name} must be a whole number from {low} to 2147483647")
    return int(text)


def _thumb(image: np.ndarray) -> np.ndarray:
    rows, columns = (np.linspace(0, n, 9).astype(int) for n in image.shape[:2])
    return np.array([[image[a:max(b, a + 1), c:max(d, c + 1)].mean((0, 1)) for c, d in zip(columns, columns[1:])]
                     for a, b in zip(rows, rows[1:])])


def _triples(text: str) -> set[str]:
    text = text.lower()
    return {text[i:i + 3] for i in range(len(text) - 2)}
