"""The two records: the gap between its texts with the gauge above it, and the same as blanks that are filled."""
from collections.abc import Iterable, Iterator, Sequence
from itertools import tee

import numpy as np

from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, line, numbers
from models.loops.sample.cached_lm import Reader
from models.papers.hlp.gaps import EOI, Gap, Written, horizon, right, said
from models.trace import YES, Canvas, Fact, Field

FIELDS = {"left": Field("Left of the gap, as the gauge says before this word", "of 1", 0.0, 1.0),
          "probability": Field("Probability", "probability", 0.0, 1.0),
          "end": Field("Chance that the gap ends before this word", "probability", 0.0, 1.0)}


def told(job: Job, gap: Gap, reader: Reader, writing: Iterator[Written]) -> Iterator[Event]:
    now, later = tee(writing)
    yield from filled("sample", gap, reader, int(job.params.longest * gap.count), now)
    found = list(later)
    words = [one.word for one in found if one.word != EOI]
    yield closing(job, gap, found, words)
    yield from filled("unmask", gap, reader, max(gap.count, len(words)), found[: len(words)])
    written, stood = (reader.tokenizer.decode(ids)[:90].strip() for ids in (words, gap.middle))
    yield Close("unmask", f"Written: \u201c{written}\u201d. There stood: \u201c{stood}\u201d.", (), {
        "length": off_by(gap, words),
        "words": Fact("Words written", float(len(words)), f"where {gap.count} stood"),
        "same": Fact("The very words that stood there", float(words == gap.middle), YES)})


def filled(tab: str, gap: Gap, reader: Reader, room: int, words: Iterable[Written]) -> Iterator[Event]:
    """Word after word on a page with so many cells where the gap is: what stands behind it was read first, and comes
    behind them."""
    labels, first = reader.labels[1:], gap.first
    ids = np.array([*gap.text[:first], *[-1] * room, *gap.behind], np.int32)
    canvas = Canvas("text", (*labels[:first], *[""] * room, *labels[first + gap.count:]), ids=ids, roles=(
        *["prompt"] * first, *["sampled"] * room, *["prompt"] * len(gap.behind)))
    page = Filling(tab, canvas, FIELDS, lambda id: reader.texts([id])[0])
    page.fill(ids >= 0, ids[ids >= 0], "context")
    yield page.open(room + 1)
    yield page.step("the gap", note=f"{gap.count} words are missing; what stands behind them was read first.")
    for t, one in enumerate(words):
        page.fill([first + t], [one.word], "new", [page.names(one.word)], left=[one.left], end=[ends(one)])
        page.guess([first + t], one.logits, [one.word], "next word", top=8)
        yield page.open()
        yield page.step(f"{t + 1}: {page.names(one.word).strip()}", cost=one.cost, note=f"By the gauge "
                        f"{100 * one.left:.0f} % of the gap is left, by what stood there {100 * true(gap, t):.0f} %.")


def ends(one: Written) -> float:
    return float(numbers(one.logits, [EOI])["confidence"][0])


def true(gap: Gap, t: int) -> float:
    """The share that is left behind t words where as many are written as stood there."""
    return max(0.0, 1 - t / gap.count)


def closing(job: Job, gap: Gap, found: Sequence[Written], words: list[int]) -> Close:
    far = 100 * float(np.abs(said(job.model, gap) - horizon(gap.count)).mean())
    left, ended = np.array([one.left for one in found]), found[-1].word == EOI
    whole = np.arange(1, len(left)) / np.clip(1 - left[1:], 1e-3, None)  # M = t / (1 - y_t)
    charts = (line("What is left of the gap", "of 1", {"by the gauge": left, "by what stood there": [
                  true(gap, t) for t in range(len(found))]}, first=1),
              line("Chance that the gap ends here", "probability", {"chance": [ends(one) for one in found]}, first=1),
              line("How long the whole gap is", "words", {"by the gauge": [np.nan, *np.minimum(whole, 4 * gap.count)]},
                   first=1, reference=float(gap.count), caption="Dashed: so many words stood there."))
    facts = {"length": off_by(gap, words),
             "ended": Fact("Found its end", float(ended), YES, "higher"),
             "gauge": Fact("Gauge, on the words that stood there, off by", far, "% of the gap", "lower"),
             "again": Fact("Words behind the gap said in it already", repeated(gap, words), "words", "lower")}
    if ended and words:
        own = 100 * float(np.abs(left - horizon(len(words))).mean())
        facts["own"] = Fact("Gauge, on the words that were written, off by", own, "% of their number", "lower")
    if right(job.tokenizer, gap, gap.middle):  # a visitor's own text may be no tale
        facts["right"] = Fact("A right text again", float(right(job.tokenizer, gap, words)), YES, "higher")
    end = "ended by itself" if ended else "found no end, and was stopped"
    return Close("sample", f"It wrote {len(words)} words where {gap.count} stood and {end}. On the words that stood "
                 f"there the gauge is off by {far:.0f} % of the gap, on average.", charts, facts)


def off_by(gap: Gap, words: list[int]) -> Fact:
    return Fact("Length, off by", abs(len(words) - gap.count), "words", "lower")


def repeated(gap: Gap, words: list[int]) -> int:
    """How many words the end of what was written has in common with the beginning of what stands behind the gap."""
    return max((n for n in range(1, len(words) + 1) if words[-n:] == gap.behind[:n]), default=0)
