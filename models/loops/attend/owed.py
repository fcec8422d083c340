"""Whom a word is owed to: how likely it is with all its sources, without each of them in turn, with it alone, and
without any."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from torch import Tensor

from models.engine.method import Close, Event
from models.engine.recording import Filling, bars
from models.trace import CODE, Chart, Fact, Field
from models.trace.percent import percent

LEAST = 0.1  # nats that are worth a sentence
OWED = {"alone": Field("What it alone adds to the next word", "nats", -3.0, 3.0, diverging=True),
        "worth": Field("What the next word loses without it", "nats", -3.0, 3.0, diverging=True)}


class OwedWord:
    """The likeliest word of log-probabilities [1, V] that were told with all sources. by: who tells them."""

    def __init__(self, usual: Tensor, text: Callable[[int], str], by: str = "model"):
        self.usual, self.id, self.by = usual, int(usual.argmax()), by
        self.name = f"\u201c{text(self.id).strip()}\u201d"

    def chance(self, logp: Tensor) -> str:
        return percent(float(logp[0, self.id].exp()))

    def gains(self, logp: Tensor, over: Tensor) -> float:
        """Nats by which it is likelier."""
        return float((logp - over)[0, self.id])


def leaving_out(page: Filling, word: OwedWord, told: Callable[[Collection[int]], Tensor],
                sources: Mapping[int, tuple[str, str]], what: str, more: Sequence[Chart] = ()) -> Iterator[Event]:
    """The rest of an Attend record, whose page has the fields OWED. sources: places of the canvas that may be left out
    -> their name and what to say of them; what: what one of them is called, such as "link". told: log-probabilities
    [1, V] without some of them."""
    def cut(logp: Tensor, gone: Sequence[int], who: str, said: str = "") -> Event:
        page.guess([0], logp, [word.id], word.by, top=8)
        state = page.state.copy()
        state[list(gone)] = CODE["dropped"]
        return page.step(f"without {who}", level="trial", state=state,
                         note=f"{word.name} then has {word.chance(logp)}{said}")

    nobody, alone, worth = told(sources), dict[str, float](), dict[str, float]()
    for place, (name, said) in sources.items():
        without, only = told([place]), told([other for other in sources if other != place])
        worth[name], alone[name] = word.gains(word.usual, without), word.gains(only, nobody)
        page.note([place], worth=[worth[name]], alone=[alone[name]])
        yield cut(without, [place], name, f", and {word.chance(only)} with this {what} alone. {said}")
    yield cut(nobody, range(1, page.canvas.size), f"any {what}", ".")
    if worth:
        page.guess([0], word.usual, [word.id], word.by, top=8)
        yield page.step(f"with every {what}", note=f"{word.name} has {word.chance(word.usual)}; the colours say what "
                        f"each {what} alone adds, or what is lost without it.")
    most = max(alone, key=alone.__getitem__, default="")
    best = f" The best single {what} for it is {most}." if alone.get(most, 0) > LEAST else ""
    found = [bars(f"What the next word owes to each {what}", what, "nats", {
        f"with this {what} alone, over none": list(alone.values()),
        f"with all, over all but this {what}": list(worth.values())}, list(worth), reference=0.0, caption=(
        "Log-probability of the word. Where several say the same, leaving one out changes little."))]
    sentence = f"{word.name} has {word.chance(word.usual)}, and {word.chance(nobody)} without any {what}.{best}"
    yield Close("attend", sentence, (*(found if worth else ()), *more), {
                    "all": Fact(f"Likelier by every {what} together", word.gains(word.usual, nobody), "nats"),
                    "single": Fact(f"Likelier by the best single {what} alone", alone.get(most, 0.0), "nats")})
