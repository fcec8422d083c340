"""Whom a word is owed to: how likely it is with all its sources, without each of them in turn, and without any."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from models.engine.method import Close, Event
from models.engine.recording import Filling, bars
from models.trace import CODE, Chart, Fact, Field
from models.trace.percent import percent

LEAST = 0.1  # nats that are worth a sentence
WORTH = {"worth": Field("The next word owes to this one", "nats", diverging=True)}


class OwedWord:
    """The likeliest word of log-probabilities [1, V] that were told with all sources. by: who tells them."""

    def __init__(self, usual: Tensor, text: Callable[[int], str], by: str = "model"):
        self.usual, self.id, self.by = usual, int(usual.argmax()), by
        self.name = f"\u201c{text(self.id).strip()}\u201d"

    def chance(self, logp: Tensor) -> str:
        return percent(float(logp[0, self.id].exp()))

    def owes(self, logp: Tensor) -> float:
        """Nats by which it is less likely there."""
        return float((self.usual - logp)[0, self.id])


def leaving_out(page: Filling, word: OwedWord, without: Callable[[int], Tensor], sources: Mapping[int, tuple[str, str]],
                nobody: Tensor, what: str, more: Sequence[Chart] = ()) -> Iterator[Event]:
    """The rest of an Attend record. sources: what may be left out -> how it is called and what to say of it; what is
    left out stands at the same place of the canvas. what: they are called, such as "link"."""
    def cut(logp: Tensor, gone: Sequence[int], who: str, said: str = "") -> Event:
        page.guess([0], logp, [word.id], word.by, top=8)
        state = page.state.copy()
        state[list(gone)] = CODE["dropped"]
        return page.step(f"without {who}", level="trial", state=state,
                         note=f"{word.name} then has {word.chance(logp)}.{said}")

    worth: dict[str, float] = {}
    for place, (name, said) in sources.items():
        logp = without(place)
        worth[name] = word.owes(logp)
        page.note([place], worth=[worth[name]])
        yield cut(logp, [place], name, f" {said}")
    yield cut(nobody, range(1, page.canvas.size), f"any {what}")
    most = max(worth, key=worth.__getitem__, default="")
    owes = f" Of single ones it owes most to {most}." if worth.get(most, 0) > LEAST else ""
    if not owes and word.owes(nobody) > LEAST:
        owes = f" No single {what} matters much: the others say the same."
    found = [bars(f"What the next word owes to each {what}", what, "nats", {"worth": list(worth.values())}, list(worth),
                  reference=0.0, caption="By how much its log-probability falls where this one alone is left out.")]
    said = f"{word.name} has {word.chance(word.usual)}, and {word.chance(nobody)} without any {what}.{owes}"
    yield Close("attend", said, (*(found if worth else ()), *more), {
                    "all": Fact(f"Likelier by every {what} together", word.owes(nobody), "nats"),
                    "single": Fact(f"Likelier by the best single {what}", worth.get(most, 0.0), "nats")})
