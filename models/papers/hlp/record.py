"""The two records: the gap between its texts with the gauge above it, and the same as blanks that are filled."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, array, line, numbers
from models.loops.sample.cached_lm import Reader
from models.papers.hlp.gaps import EOI, Gap, horizon
from models.papers.hlp.method import Written
from models.trace import YES, Canvas, Chart, Fact, Field
from models.worlds import tales

FIELDS = {"left": Field("Left of the gap, as the gauge says before this word", "of 1", 0.0, 1.0),
          "probability": Field("Probability", "probability", 0.0, 1.0),
          "end": Field("Chance that the gap ends before this word", "probability", 0.0, 1.0)}
LIST, TOP = "next word", 8


def page_of(tab: str, gap: Gap, reader: Reader, room: int) -> tuple[Filling, range]:
    """A page with so many cells where the gap is: what stands behind it comes behind them, though it was read first."""
    labels, behind = reader.labels[1:], gap.first + gap.count
    around = [*range(gap.first), *range(behind, len(labels))]
    roles = ["prompt"] * gap.first + ["sampled"] * room + ["prompt"] * (len(labels) - behind)
    canvas = Canvas("text", (*labels[: gap.first], *[""] * room, *labels[behind:]), roles=tuple(roles),
                    ids=np.array(gap.closed([-1] * room), np.int32))
    page = Filling(tab, canvas, FIELDS, lambda id: reader.texts([id])[0])
    context = np.array([role == "prompt" for role in roles])
    page.fill(context, np.array(gap.text)[around], "context")
    return page, range(gap.first, gap.first + room)


def put(page: Filling, at: int, one: Written) -> None:
    page.fill([at], [one.word], "new", [page.names(one.word)], left=[one.left], end=[ends(one)])
    page.guess([at], one.logits, [one.word], LIST, top=TOP)


def ends(one: Written) -> float:
    return float(numbers(one.logits, [EOI])["confidence"][0])


def told(job: Job, gap: Gap, reader: Reader, writing: Iterator[Written]) -> Iterator[Event]:
    page, cells = page_of("sample", gap, reader, int(job.params.longest * gap.count))
    yield page.open(len(cells) + 1)
    yield page.step("the gap", note=f"{gap.count} words are missing; what stands behind them was read first.")
    found: list[Written] = []
    for at, one in zip(cells, writing):
        found.append(one)
        put(page, at, one)
        yield page.open()
        yield page.step(f"{len(found)}: {page.names(one.word).strip()}", level="token", cost=one.cost,
                        note=f"By the gauge {100 * one.left:.0f} % of the gap are left, by the text "
                             f"{100 * true_left(gap, len(found) - 1):.0f} %.")
    yield closing(job, gap, found)
    yield from blanks(gap, reader, found)


def true_left(gap: Gap, t: int) -> float:
    """The share that is left behind t words, if as many are written as stood there."""
    return max(0.0, 1 - t / gap.count)


def blanks(gap: Gap, reader: Reader, found: Sequence[Written]) -> Iterator[Event]:
    """The Unmask record: as many blanks as words stood there, or were written."""
    words = [one for one in found if one.word != EOI]
    page, cells = page_of("unmask", gap, reader, max(gap.count, len(words)))
    yield page.open(len(words) + 1)
    yield page.step("blanks", note=f"{gap.count} words stood here.")
    for t, (at, one) in enumerate(zip(cells, words)):
        put(page, at, one)
        more = t / (1 - one.left) - t if t else np.nan
        yield page.open()
        yield page.step(f"word {t + 1}", note="The gauge has nothing to go by yet." if not t else
                        f"By the gauge {more:.0f} more words were missing here, by the text {max(0, gap.count - t)}.")
    written = reader.tokenizer.decode([one.word for one in words])
    yield Close("unmask", f"Written: \u201c{written[:80].strip()}\u201d. There stood: \u201c"
                f"{reader.tokenizer.decode(gap.middle)[:80].strip()}\u201d.", (lengths(gap, found),), {
                    "words": Fact("Words written", float(len(words)), f"where {gap.count} stood"),
                    "same": Fact("The very words that stood there", float([one.word for one in words] == gap.middle),
                                 YES)})


def lengths(gap: Gap, found: Sequence[Written]) -> Chart:
    """M = t / (1 - y_t): how long the gauge takes the whole gap to be, behind t of its words."""
    left = np.array([one.left for one in found])
    guess = np.arange(1, len(left)) / np.clip(1 - left[1:], 1e-3, None)
    return line("How long the gap is", "words", {"by the gauge": np.minimum(guess, 4 * gap.count)}, first=2,
                reference=float(gap.count), caption="Dashed: so many words stood there.")


def closing(job: Job, gap: Gap, found: Sequence[Written]) -> Close:
    words, ended = [one.word for one in found if one.word != EOI], found[-1].word == EOI
    said = array(job.model.left([[*gap.prompt, *gap.middle]])[0, -gap.count - 1:])
    far = 100 * float(np.abs(said - horizon(gap.count)).mean())
    charts = (line("What is left of the gap", "of 1", {"by the gauge": [one.left for one in found], "by the text": [
                  true_left(gap, t) for t in range(len(found))]}, first=1),
              line("Chance that the gap ends here", "probability", {"chance": list(map(ends, found))}, first=1))
    whole = job.tokenizer.decode(gap.closed(words), skip_special_tokens=False)
    facts = {"length": Fact("Length, off by", abs(len(words) - gap.count), "words", "lower"),
             "ended": Fact("Found its end", float(ended), YES, "higher"),
             "gauge": Fact("Gauge, on the words that stood there, off by", far, "points of 100", "lower"),
             "again": Fact("Words behind the gap said again in it", repeated(gap, words), "words", "lower")}
    if tales.check(job.tokenizer.decode(gap.text)):
        facts["right"] = Fact("A right text again", float(tales.check(whole)), YES, "higher")
    end = "ended by itself" if ended else "found no end, and was stopped"
    return Close("sample", f"It wrote {len(words)} words where {gap.count} stood and {end}. On the words that stood "
                 f"there the gauge is {far:.0f} points of 100 off, on average.", charts, facts)


def repeated(gap: Gap, words: Sequence[int]) -> int:
    """How many words the end of the middle has in common with the beginning of what stands behind it."""
    behind = list(gap.text[gap.first + gap.count:])
    return max((n for n in range(1, min(len(words), len(behind)) + 1) if list(words[-n:]) == behind[:n]), default=0)
