"""The Sample tab's viewer: next-token distributions along the text, with the sampler's settings as view options.

temperature, top_k, top_p and min_p reshape the stored logits in the order that transformers applies them; the text
that was sampled never changes. Where a trace keeps no full logits, `answers` says that these settings cannot be asked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.trace import Distribution, SampleTrace
from models.trace.percent import fine_percent
from visualizers.drawing.canvas import Wording, assemble, counts, steps_text, where
from visualizers.drawing.marks import Drawing

WORDS = {"unknown": "not yet sampled", "new": "sampled now", "known": "sampled before", "context": "given text",
         "accepted": "accepted", "refused": "refused", "merged": "accepted with its neighbours' probability"}
CELLS = {**WORDS, "context": "given"}
BOARD = {**CELLS, "visible": "empty"}
SETTINGS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
PUSHED = "alpha"  # the setting that remakes one list from two that keep their logits (`_pushed`)
NAMES = {"raw": "the model's own", "warped": "after the sampler's settings"}
KEEP = 12  # candidates kept of a reshaped distribution


def describe(trace: SampleTrace) -> str:
    """The picture in words: length and the mean entropy of the distributions."""
    entropy = np.concatenate([d.entropy for step in trace.steps for d in step.distributions.values()])
    mean = f" Mean entropy {float(np.mean(entropy)):.2f} nats." if len(entropy) else ""
    return (f"{where(trace.canvas).capitalize()} in {steps_text(trace)}. At the end: "
            f"{counts(trace.steps[-1], words_of(trace))}.{mean}")


def words_of(trace: SampleTrace) -> dict[str, str]:
    return {"board": BOARD, "grid": CELLS}.get(trace.canvas.kind, WORDS)


def answers(trace: SampleTrace) -> frozenset[str]:
    """The settings that the trace alone can answer: all of them if some distribution keeps its logits, else none."""
    kept = any(d.logits is not None for step in trace.steps for d in step.distributions.values())
    return frozenset(SETTINGS) if kept else frozenset()


def warped(logits: np.ndarray, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
           min_p: float = 0.0) -> np.ndarray:
    """Probabilities [P, V] after temperature, top-k, top-p and min-p; temperature 0 is the most probable token."""
    scores = logits.astype(np.float32)
    if temperature == 0:
        return (np.arange(scores.shape[1]) == scores.argmax(1)[:, None]).astype(np.float32)
    scores = scores / np.float32(temperature)
    if top_k:
        last = -np.sort(-scores, axis=1)[:, min(int(top_k), scores.shape[1]) - 1, None]
        scores = np.where(scores < last, -np.inf, scores)
    if top_p < 1:
        scores = np.where(_outside_nucleus(scores, top_p), -np.inf, scores)
    probs = softmax(scores)
    if min_p > 0:
        probs = softmax(np.where(probs < min_p * probs.max(1, keepdims=True), -np.inf, scores))
    return probs


def _outside_nucleus(scores: np.ndarray, top_p: float) -> np.ndarray:
    """True where the more probable tokens already hold top_p of the mass; the best token always stays."""
    order = np.argsort(-scores, axis=1, kind="stable")
    probs = np.take_along_axis(softmax(scores), order, 1)
    cut = np.cumsum(probs, 1) - probs >= top_p
    cut[:, 0] = False
    outside = np.zeros_like(cut)
    np.put_along_axis(outside, order, cut, 1)
    return outside


def softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def reshaped(found: Distribution, settings: dict) -> Distribution:
    """The distribution under other sampler settings, from its own logits."""
    probs = warped(found.logits, **settings)
    top = np.argsort(-probs, axis=1, kind="stable")[:, :KEEP]
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.sum(np.where(probs > 0, probs * np.log(probs), 0.0), 1)
    return Distribution(found.positions, top, np.take_along_axis(probs, top, 1), entropy, chosen=found.chosen)


def first_number(trace: SampleTrace) -> str:
    """Colours the text by what is good or bad, if a number says so; by state where drafts were judged; else by its
    entropy, or by whatever number comes first."""
    names = [name for name in trace.fields if any(name in step.fields for step in trace.steps)]
    signed = [name for name in names if trace.fields[name].diverging]
    if not signed and any(len(step.where("accepted", "refused", "discarded")) for step in trace.steps):
        return "state"
    return [*signed, *(["entropy"] if "entropy" in names else names), "state"][0]


def fills_in(trace: SampleTrace) -> bool:
    """Whether every word to come stands before given ones: without its box the text would read as if nothing lacked.
    What is given later, a story told bit by bit, is no gap."""
    first, last = trace.steps[0], trace.steps[-1]
    asked, given = first.where("unknown"), first.where("context")
    return 0 <= max(asked, default=-1) < max(given, default=-1) and not set(asked) & set(last.where("context"))


def draw(trace: SampleTrace, **view) -> Drawing:
    settings = {name: type(default)(view.pop(name)) for name, default in SETTINGS.items()
                if view.get(name) is not None}
    view = {name: value for name, value in view.items() if name not in SETTINGS}
    own, alpha = trace.provenance.params, view.pop(PUSHED, None)
    if alpha is not None and own.get(PUSHED) != alpha:
        trace = replace(trace, steps=tuple(_pushed(step, float(alpha), trace.vocabulary) for step in trace.steps))
    if any(own.get(name) != value for name, value in settings.items()):
        trace = replace(trace, steps=tuple(_as_set(step, settings) for step in trace.steps))
    trace = replace(trace, steps=tuple(_named(step, trace.vocabulary) for step in trace.steps))
    wrote = trace.steps[0].where("new", "accepted", "refused", "merged")
    unseen = "box" if fills_in(trace) else "gone"
    wording = Wording(describe, words_of(trace), unseen=unseen, by=first_number)
    return assemble(trace, wording, first=int(len(wrote) > 0), **view)


def _as_set(step, settings: dict):
    """The step with every distribution that keeps its logits shown under these settings as well."""
    extra = {f"{NAMES.get(name, name)}, as set now": reshaped(d, settings) for name, d in step.distributions.items()
             if d.logits is not None}
    return replace(step, distributions={**step.distributions, **extra})


def _pushed(step, alpha: float, vocabulary: dict[int, str]):
    """The step with the list behind the two that keep their logits made anew: first - alpha ReLU(second - first), of
    words that the record can name."""
    kept = [name for name, d in step.distributions.items() if d.logits is not None]
    if len(kept) != 2:
        return step
    first, second = (step.distributions[name].logits.astype(np.float32) for name in kept)
    probs, known = softmax(first - alpha * np.maximum(second - first, 0)), np.array(sorted(vocabulary))
    top = known[np.argsort(-probs[:, known], axis=1, kind="stable")[:, :KEEP]]
    names = list(step.distributions)
    made = names[names.index(kept[1]) + 1]
    old = step.distributions[made]
    entropy = -np.sum(probs * np.log(np.maximum(probs, 1e-30)), 1)
    new = Distribution(old.positions, top, np.take_along_axis(probs, top, 1), entropy, chosen=old.chosen)
    return replace(step, distributions={**step.distributions, made: new})


def _named(step, vocabulary: dict[int, str]):
    """The step with its distributions under the words a visitor reads, and a caption where the method wrote none."""
    named = {NAMES.get(name, name): d for name, d in step.distributions.items()}
    return replace(step, distributions=named, note=step.note or drawn(step, vocabulary))


def drawn(step, vocabulary: dict[int, str]) -> str:
    """How probable the one token was that a step drew, and what was more probable: `drawn at 4 %; “the” had 30 %`."""
    fresh = step.where("new")
    lists = [d for d in step.distributions.values() if len(fresh) == 1 and d.chosen is not None
             and fresh[0] in d.positions]
    if not lists:
        return ""
    found, row = lists[-1], int(np.flatnonzero(lists[-1].positions == fresh[0])[0])
    place = np.flatnonzero(found.top_ids[row] == found.chosen[row])
    if not len(place):
        return ""
    chance, most = (fine_percent(float(found.top_probs[row][at])) for at in (place[0], 0))
    rival = vocabulary.get(int(found.top_ids[row][0]), "").strip() or "a space"
    return f"the most probable token, {chance}" if place[0] == 0 else f"drawn at {chance}; “{rival}” had {most}"
