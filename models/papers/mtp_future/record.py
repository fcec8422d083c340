"""The Sample and the Unmask record of multi-token prediction: one step per call of the model.

Sample: what the call verified. Accepted guesses stay green, the base's own token is new and then known, refused guesses
stand struck in a row of their own behind the text. Unmask: what the call guessed, k masks at once, before anybody knows
whether they are right. The Attend record is in models/papers/mtp_future/sight.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from models.engine.method import Close, Emit, Event, Job
from models.engine.recording import distribution, numbers
from models.loops.sample.cached_lm import Meter, Reader, Stream
from models.loops.sample.report import pairs
from models.loops.sample.text_record import TOP, Page
from models.papers.mtp_future import sight, turn
from models.trace import CODE, Chart, Cost, Fact, Field

BASE, GUESS, ALONE = "the base", "the sampler's guess", "the mask alone"
FIELDS = {"entropy": Field("Entropy of the base", "nats", low=0.0),
          "probability": Field("Probability by the base", "", 0.0, 1.0),
          "guessed": Field("Probability that the guess gave itself", "", 0.0, 1.0)}
AHEAD = {"confidence": Field("Probability that the guess gives itself", "", 0.0, 1.0)}


def told(job: Job, source: Reader, reader, decoded) -> Iterator[Event]:
    """The run as events: what the layout of training looks like, both records while it decodes, then what a look back
    over the text shows."""
    if job.choice is not None:
        yield from game(job, source, decoded)
        return
    sheet, slots = Sheet(source, job.params), Slots(source, job.params)
    for found, new in decoded:
        sheet.read(found, new)
        slots.read(found, new, over=new[-1] == source.end)
        yield sheet.open()
        yield sheet.emit(found)
        if sheet.calls == 1:
            yield slots.open()
        yield slots.emit()
        if sheet.calls == 1:
            yield from sight.training_mask(reader, source, [*source.prompt, *sheet.new], job.params.k)
    plain = alone(source, job.params.length)
    seen = sight.foresight(reader, [*source.prompt, *sheet.new], len(source.prompt), job.params.k)
    yield sheet.open()
    yield Close("sample", sheet.sentence(plain), (*sheet.charts(), *seen.charts()), sheet.facts(plain))
    yield Close("unmask", seen.sentence(), seen.charts(), seen.facts())


def game(job: Job, source: Reader, decoded) -> Iterator[Event]:
    """Your turn: the Sample record alone, up to the draft that waits for a verdict."""
    sheet = Sheet(source, job.params)
    for found, new in turn.played(decoded, len(job.choice)):
        sheet.read(found, new)
        yield sheet.open()
        yield sheet.emit(found)
    if len(job.choice) < turn.DRAFTS and found.ahead and new[-1] != source.end:
        yield turn.pending(sheet, found.ahead)
    mine, base = turn.judged(job, sheet.log)
    yield sheet.open()
    yield Close("sample", turn.sentence(mine, base), (turn.chart(mine, base),) if len(base) else (),
                {"verdicts": turn.fact(mine, base)})


class Sheet(Page):
    """The Sample record: the page of the text, and behind it a row for the guesses refused in this call."""

    def __init__(self, source: Reader, p):
        super().__init__(source.texts(source.prompt), source.prompt, p.length + 1 + p.k, FIELDS, source.texts)
        self.source, self.p, self.side = source, p, len(source.prompt) + p.length + 1
        self.fill(self.side - 1, state="unknown", labels=("\n\nrefused: ",))
        self.calls, self.cost, self.new, self.log = 0, Cost(), [], []  # log: (guesses, accepted, rows) of each call
        self.chain = torch.zeros(0)  # what was said when the guesses that are verified now were made

    def read(self, found, new: list[int]) -> None:
        """Writes what a call added."""
        self.settle()
        self.state[self.side - 1:] = CODE["unknown"]
        self.ids[self.side:] = -1
        where, right = range(self.count, self.count + len(new)), min(found.accepted, len(new))
        self.added = len(new)
        said = numbers(found.base[: len(new)], new)
        self.write(new, self.source.texts(new), {name: said[name] for name in ("entropy", "probability")})
        self.state[where[:right]] = CODE["accepted"]
        self.shown = self.judged(found, new, where, right)
        self.chain, self.cost = found.chain, self.cost + found.cost
        self.calls, self.new = self.calls + 1, self.new + new
        self.log.append((len(found.guesses), right, len(found.layout)))

    def judged(self, found, new: list[int], where: range, right: int) -> dict:
        """The base's distributions at the new tokens and the guesses' own, where they stand or beside the text."""
        shown = {BASE: distribution(found.base[: len(new)], where, new, top=TOP)}
        beside = [self.side + j for j in range(len(found.guesses) - right)]
        if beside:
            self.state[[self.side - 1, *beside]] = CODE["context"], *[CODE["refused"]] * len(beside)
            self.ids[beside] = found.guesses[right:]
        if found.guesses:
            places = [*where[:right], *beside]
            shown[GUESS] = distribution(self.chain, places, found.guesses, top=TOP)
            self.note(places, guessed=numbers(self.chain, found.guesses)["probability"])
        return shown

    def propose(self, ids: list[int]) -> None:
        """Puts guesses that nobody has judged yet beside the text."""
        self.settle()
        self.state[self.side - 1:], self.ids[self.side:] = CODE["unknown"], -1
        self.state[self.side: self.side + len(ids)] = CODE["new"]
        self.ids[self.side: self.side + len(ids)] = ids

    def emit(self, found) -> Emit:
        verdict = f"{self.log[-1][1]} of {len(found.guesses)} guesses right" if found.guesses else "nothing to verify"
        return self.step(f"call {self.calls}: {verdict}", distributions=self.shown, cost=found.cost,
                         note=f"{len(found.layout)} rows fed, {self.added} tokens written")

    def facts(self, plain: Alone) -> dict[str, Fact]:
        """What was gained in calls, and by the clock."""
        guesses, right, rows = np.sum(self.log, 0)
        same = plain.ids == self.new
        return {"per_call": Fact("Written", len(self.new) / self.calls, "tokens per call of the model", "higher"),
                "right": Fact("Guesses accepted", float(100 * right / max(guesses, 1)), f"% of {guesses}", "higher"),
                "rows": Fact("Rows fed per token", float((rows - len(self.source.prompt)) / len(self.new)),
                             "(the base alone: 1)", "lower"),
                "same": Fact("The base's own text", float(same), "of 1 (compared with the base alone)", "higher"),
                "speed": Fact("Against the base alone, measured", plain.ms / self.cost.ms, "x as fast", "higher")}

    def sentence(self, plain: Alone) -> str:
        right = sum(accepted for _, accepted, _ in self.log)
        found, calls = self.facts(plain), f"{self.calls} calls wrote {len(self.new)} tokens"
        if not found["same"].value:
            return f"{calls}, but not those of the base: with the gate open its verdicts are no longer its own."
        clock = found["speed"].value
        pace = f"was {clock:.2g} times as fast as" if clock >= 1 else f"took {1 / clock:.2g} times as long as"
        return (f"{calls}, the very ones the base writes alone: {right} of them were guessed ahead and accepted. "
                f"By the clock it {pace} the base, with {found['rows'].value:.0f} rows fed per token.")

    def charts(self) -> tuple[Chart, ...]:
        """By call: guesses verified and accepted, tokens per call so far, rows fed."""
        log = np.array(self.log)
        so_far = (log[:, 1] + 1).cumsum() / np.arange(1, len(log) + 1)
        return (Chart("line", "Guesses", "call", "tokens", {name: pairs(enumerate(log[:, i]))
                                                           for i, name in enumerate(("verified", "accepted"))},
                      by_step=True),
                Chart("line", "Tokens per call so far", "call", "tokens", {"tokens per call": pairs(enumerate(so_far))},
                      by_step=True, reference=1.0, caption="The base alone writes one token per call (dashed)."),
                Chart("line", "Rows fed", "call", "rows", {"rows": pairs(enumerate(log[:, 2]))}, by_step=True,
                      caption="The token before, its guesses, and a block of masks behind each of them."))


class Slots(Page):
    """The Unmask record: the text as it stands, the k masks behind it filled in, and the rest still masked. Guesses
    that were wrong and have no successor are taken back."""

    def __init__(self, source: Reader, p):
        super().__init__(source.texts(source.prompt), source.prompt, p.length, AHEAD, source.texts, "unmask",
                         then="discarded", fleeting=AHEAD)
        self.calls = 0

    def read(self, found, new: list[int], over: bool) -> None:
        """Verified tokens are known; what was guessed behind them stands there until the next call."""
        self.fill(range(self.count, self.count + len(new)), new, "known")
        self.count, self.calls = self.count + len(new), self.calls + 1
        self.ids[self.count:] = -1
        self.guessed = 0 if over else min(len(found.ahead), self.room)
        if self.guessed:
            where, ids = range(self.count, self.count + self.guessed), found.ahead[: self.guessed]
            self.fill(where, ids)
            self.guess(where, found.chain[: self.guessed], ids, GUESS, top=TOP)
            self.guess(where, found.masks[: self.guessed], ids, ALONE, top=TOP, measure=False)

    def emit(self) -> Emit:
        return self.step(f"call {self.calls}: " + (f"{self.guessed} masks at once" if self.guessed else
                                                   "no masks to fill in"))


class Alone:
    """The base alone, greedily: its tokens, and its milliseconds."""

    def __init__(self, ids: list[int], ms: float):
        self.ids, self.ms = ids, ms


def alone(source: Reader, length: int) -> Alone:
    """What the base writes without anybody's help, for the comparison only."""
    stream, ids = Stream(source.model, Meter(source.model)), []
    stream.read([source.prompt])
    while True:
        ids.append(int(stream.logits.argmax()))
        if len(ids) == length or ids[-1] == source.end:
            return Alone(ids, stream.meter.lap().ms)
        stream.push(ids[-1:])
