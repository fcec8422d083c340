"""A Drawing as plain JSON data, small enough to send once: arrays become base64, equal arrays are stored once.

    arrays   list of base64 strings, little-endian; frames point into it by index
    pictures list of data: URLs (PNG, or JPEG beyond 128 pixels and a few colours)
    words    list of texts; ids in frames and candidates are indices into it (65535 or -1: none)
    numbers  the ids of the words in the vocabulary

No text leaves this file for a template: the player puts every string into the page with textContent.
"""

from __future__ import annotations

import base64
import io
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from models.trace.spelling import PART
from visualizers.drawing import palette
from visualizers.drawing.canvas import SHOWN
from visualizers.drawing.layout import Layout
from visualizers.drawing.marks import Attention, Candidates, Drawing, Scale
from visualizers.drawing.units import fact_text

EDGES = 6_000  # links sent per step and name, the strongest ones
NONE = 65_535


class Store:
    """Arrays, pictures and words that frames share, each kept once."""

    def __init__(self, vocabulary: Mapping[int, str]):
        self.arrays, self.pictures, self.words, self.numbers = [], [], [], []
        self._seen: dict[tuple, int] = {}
        self._extra: dict[str, int] = {}
        places = {int(number): self._add(text, int(number)) for number, text in vocabulary.items()}
        self._ids = np.array([*sorted(places), np.iinfo(np.int64).max])  # the last one is nobody's, and NONE
        self._places = np.array([*(places[number] for number in sorted(places)), NONE], np.uint16)

    def array(self, values: np.ndarray, dtype: str) -> int:
        raw = np.ascontiguousarray(values).astype(dtype).tobytes()
        return self._once(("array", raw), self.arrays, lambda: base64.b64encode(raw).decode("ascii"))

    def picture(self, pixels: np.ndarray | None) -> int | None:
        if pixels is None:
            return None
        key = ("picture", pixels.shape, pixels.tobytes())
        return self._once(key, self.pictures, lambda: kept_url(pixels))

    def ids(self, ids: np.ndarray) -> np.ndarray:
        """Indices into `words` of token ids, any shape."""
        at = np.searchsorted(self._ids, ids)
        return np.where(self._ids[at] == ids, self._places[at], NONE).astype(np.uint16)

    def texts(self, texts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
        """Indices into `words` of what tokens read where that is not their own label."""
        return np.array([NONE if text == label else self._text(text) for text, label in zip(texts, labels)], np.uint16)

    def _text(self, text: str) -> int:
        if text not in self._extra:
            self._extra[text] = self._add(text, -1)
        return self._extra[text]

    def _add(self, text: str, number: int) -> int:
        self.words.append(text)
        self.numbers.append(number)
        return len(self.words) - 1

    def _once(self, key: tuple, shelf: list, make) -> int:
        if key not in self._seen:
            self._seen[key] = len(shelf)
            shelf.append(make())
        return self._seen[key]


def pack(drawing: Drawing) -> dict:
    """The payload of a drawing."""
    store, odd = Store(drawing.vocabulary), _odd(drawing)
    frames = [_frame(store, drawing, step, odd) for step in range(len(drawing.frames))]
    layout, names = drawing.layout, list(palette.LOOKS)
    return {
        "tab": drawing.tab, "method": drawing.method, "title": drawing.title, "sentence": drawing.sentence,
        "alt": drawing.alt, "view": dict(drawing.view), "frames": frames,
        "layout": {"kind": layout.kind, "rows": layout.rows, "columns": layout.columns, "size": layout.size,
                   "labels": list(layout.labels) if any(layout.labels) else [], "roles": list(layout.roles),
                   "truth": list(layout.truth), "unseen": layout.unseen,
                   "cell": round(layout.cell, 5), "picture": store.picture(layout.picture),
                   "photo": store.picture(layout.photo), "seamless": layout.seamless,
                   "graph": None if layout.kind != "graph" else _graph(store, layout),
                   "xy": None if layout.xy is None else np.round(layout.xy, 4).tolist()},
        "fields": {name: _scale(scale) for name, scale in drawing.fields.items()},
        "legend": [{"state": names.index(name), "title": words} for name, words in drawing.legend],
        "facts": [{"title": fact.title, "text": fact_text(fact)} for fact in drawing.facts], "asked": drawing.asked,
        "curves": [{"title": c.title, "unit": c.unit, "reference": c.reference, "caption": c.caption,
                    "series": [{"name": name, "points": _points(line)} for name, line in c.series.items()]}
                   for c in drawing.curves],
        "attention": None if drawing.attention is None else _attention(store, drawing.attention),
        "arrays": store.arrays, "pictures": store.pictures, "words": store.words,
        "numbers": store.numbers,
    }


def _graph(store: Store, layout: Layout) -> dict:
    """Sizes of nodes by the panel's width, and the first links in their order."""
    links = layout.links[:EDGES]
    return {"wide": np.round(layout.wide, 4).tolist(), "high": round(layout.high, 5), "directed": layout.directed,
            "from": store.array(links[:, 0], "<u2"), "to": store.array(links[:, 1], "<u2")}


def _frame(store: Store, drawing: Drawing, step: int, odd: np.ndarray | None) -> dict:
    frame = drawing.frames[step]
    found = {"label": frame.label, "state": store.array(frame.state, "u1")}
    extras = {
        "level": frame.level if frame.level != "step" else None, "parent": frame.parent,
        "note": frame.note or None, "by": frame.by or None, "clean": frame.clean or None,
        "own": None if frame.own is None else store.array(frame.own, "u1"),
        "picture": store.picture(frame.picture), "cost": dict(frame.cost) or None,
        "ids": None if frame.ids is None else store.array(store.ids(frame.ids), "<u2"),
        "texts": _texts(store, drawing, step, odd),
        "values": {name: store.array(drawing.fields[name].code(v), "u1") for name, v in frame.values.items()} or None,
        "candidates": {name: _candidates(store, c) for name, c in frame.candidates.items()} or None,
        "edges": {name: _edges(store, *e) for name, e in frame.edges.items() if len(e[0])} or None,
    }
    return found | {key: value for key, value in extras.items() if value is not None}


def _texts(store: Store, drawing: Drawing, step: int, odd: np.ndarray | None) -> int | None:
    """What tokens read, where that is not the word of the id they hold or, without one, their label. odd: as `_odd`."""
    labels, held = drawing.layout.labels, drawing.frames[step].ids
    if held is None or (odd is not None and not np.any(held == odd)):
        return None
    texts = drawing.texts(step)
    if all(text == drawing.vocabulary.get(id, label) for text, label, id in zip(texts, labels, held.tolist())):
        return None
    return store.array(store.texts(texts, labels), "<u2")


def _odd(drawing: Drawing) -> np.ndarray | None:
    """Ids [N] with which tokens read otherwise than the vocabulary says, because their label does (-2: no such id);
    None where parts of characters may stand, which read as their neighbours let them."""
    layout, words = drawing.layout, drawing.vocabulary
    if any(PART.search(text) for text in (*layout.labels, *words.values())):
        return None
    own = [-2] * len(layout.labels) if layout.ids is None else map(int, layout.ids)
    return np.array([id if id >= 0 and words.get(id, label) != label else -2 for id, label in zip(own, layout.labels)])


def _candidates(store: Store, found: Candidates) -> dict:
    ids, probs = found.ids[:, :SHOWN], np.nan_to_num(found.probs[:, :SHOWN])  # 0: chosen, but not how probable
    return {"at": store.array(found.positions, "<u2"), "k": int(ids.shape[1]),
            "ids": store.array(store.ids(ids), "<u2"),
            "probs": store.array(np.round(np.clip(probs.astype(np.float64), 0, 1) * 65535), "<u2"),
            "entropy": store.array(np.nan_to_num(found.entropy), "<f4"),
            "chosen": None if found.chosen is None else store.array(store.ids(found.chosen), "<u2")}


def _edges(store: Store, query: np.ndarray, key: np.ndarray, weight: np.ndarray) -> dict:
    best = np.sort(np.argsort(-weight, kind="stable")[:EDGES])
    peak = float(np.max(weight[best])) or 1.0
    return {"query": store.array(query[best], "<u2"), "key": store.array(key[best], "<u2"), "peak": peak,
            "weight": store.array(np.round(np.clip(weight[best] / peak, 0, 1) * 255), "u1"), "cut": len(query) > EDGES}


def _attention(store: Store, attention: Attention) -> dict:
    quantities = {name: {**_scale(scale), "codes": store.array(codes, "u1")}
                  for name, (scale, codes) in attention.quantities.items()}
    rows = None
    if attention.rows is not None:
        rows = {"queries": attention.queries.tolist(), "keys": int(attention.rows.shape[-1]),
                "codes": store.array(attention.rows, "u1"), "peaks": store.array(attention.peaks, "<f4")}
    return {"layers": list(attention.layers), "names": list(attention.names), "linked": attention.linked,
            "heads": attention.heads, "before": attention.before, "title": attention.title, "unit": attention.unit,
            "quantities": quantities, "rows": rows}


def _scale(scale: Scale) -> dict:
    return {**asdict(scale), "better": scale.better}


def _points(line: np.ndarray) -> list:
    """[K, 2] as numbers with five digits; what is not finite becomes null."""
    return [[float(f"{x:.5g}"), float(f"{y:.5g}") if np.isfinite(y) else None] for x, y in np.asarray(line, float)]


_urls: dict[int, tuple[weakref.ref, str]] = {}


def kept_url(pixels: np.ndarray) -> str:
    """The same for a picture of a record, made once and kept as long as the record is: a run is drawn several times
    while it grows. A record's pictures are read-only; others may change, and are not kept."""
    if pixels.flags.writeable:
        return data_url(pixels)
    key = id(pixels)
    if key not in _urls:
        _urls[key] = weakref.ref(pixels, lambda _: _urls.pop(key, None)), data_url(pixels)
    return _urls[key][1]


def data_url(pixels: np.ndarray) -> str:
    """uint8 [h, w, 3] as a data: URL."""
    from PIL import Image
    small, buffer = max(pixels.shape[:2]) <= 128 or _flat(pixels), io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG" if small else "JPEG", **({} if small else {"quality": 88}))
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _flat(pixels: np.ndarray) -> bool:
    """Whether it was drawn in a few colours: then a PNG is smaller, and its lines stay clean."""
    return len(np.unique(pixels.reshape(-1, 3)[::5] @ np.array([65_536, 256, 1]))) <= 512


assert palette.NOTHING == 255
