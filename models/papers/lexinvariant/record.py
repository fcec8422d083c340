"""A text read under a cipher, as records: what it is taken for while it is read (Sample), where heads look (Attend).

Letters: T characters, V symbols, L layers, H heads, R draws of vectors.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.engine.method import Close, Event, Job
from models.engine.recording import array, bars, distribution, line, numbered, table
from models.loops.attend.loop import look, record, text_layout
from models.loops.sample.cached_lm import Meter
from models.loops.sample.text_record import TextRecord
from models.papers.lexinvariant import markov
from models.papers.lexinvariant.alphabet import SYMBOLS, by_counting, checked, key_of
from models.papers.lexinvariant.reading import apart, looked, nats, solved, tallied, under
from models.trace import CODE, Chart, Cost, Fact, Field
from models.trace.percent import percent

PLAIN, PIECES, DRAWS, TOP = "story-plain-1", 8, 8, 5
MINE, OPENED, CLOSED = "this network", "ordinary network, without the cipher", "ordinary network, under the cipher"
EXACT = "exact decipherer"
FIELDS = {"surprise": Field("Surprise at this character", "nats", 0.0, 6.0),
          "votes": Field("Votes for what it really is", "of 1", 0.0, 1.0)}
SEEN = ("same symbol, earlier", "what followed it", "place before", "itself")


@dataclass(frozen=True, eq=False)
class CipherText:
    """A visitor's text and its key. real [T]: its symbols; key [V]: what is written for each."""

    real: np.ndarray
    key: np.ndarray

    @classmethod
    def of(cls, job: Job) -> CipherText:
        size = job.model.vocab_size
        return cls(checked(job.subject.text, size), key_of(job.params.cipher, size, np.random.default_rng(job.seed)))

    @property
    def ids(self) -> np.ndarray:
        """What is written [T]."""
        return self.key[self.real]

    @property
    def labels(self) -> list[str]:
        return [SYMBOLS[i] for i in self.ids]

    def opened(self, logits: Tensor) -> Tensor:
        """Logits [..., V] over written symbols as logits over real ones."""
        return logits[..., torch.from_numpy(self.key).to(logits.device)]


def beside(job: Job, text: CipherText) -> dict[str, Tensor]:
    """What others expect at each place, as logits [T, V] over real symbols; the first is what there is to reach."""
    if job.model.vocab_size == len(markov.TABLE):
        return {EXACT: text.opened(torch.from_numpy(np.log(markov.exact(text.ids)[1])).float())}
    plain = job.companion(PLAIN).model
    found = {OPENED: looked(plain, text.real[None], job.generator(), 0)[0][0]}
    if job.bundle.name != PLAIN:
        found[CLOSED] = text.opened(looked(plain, text.ids[None], job.generator(), 0)[0][0])
    return found


@dataclass(frozen=True, eq=False)
class Deciphering:
    """A text that was read. lists: name -> logits [T, V] of the next real symbol; losses: name -> surprise [1, T - 1];
    said: logits [L, T, V] of the probes; layer: whose votes count. again: surprise [R - 1, T - 1] under further draws,
    which are read when they are asked for, behind the steps."""

    text: CipherText
    lists: dict[str, Tensor]
    losses: dict[str, np.ndarray]
    said: Tensor
    layer: int
    cost: Cost
    again: Callable[[], np.ndarray]

    @classmethod
    def of(cls, job: Job) -> Deciphering:
        text, began, meter = CipherText.of(job), time.perf_counter(), Meter(job.model, job.model.leave)
        written, table = np.tile(text.ids, (DRAWS, 1)), job.model.vectors(DRAWS, job.generator())
        logits, said = under(job.model, written[:1], table[:1])
        lists = beside(job, text)
        losses = {name: nats(one[None], text.real[None]) for name, one in lists.items()}
        count = DRAWS + len(lists) * (EXACT not in lists)
        meter.add(count, 0, len(text.real), count * len(text.real), 0, (time.perf_counter() - began) * 1e3)
        return cls(text, {MINE: text.opened(logits[0]), **lists}, {MINE: nats(logits, written[:1]), **losses},
                   said[:, 0], min(job.params.layer, len(said)) - 1, meter.lap(),
                   lambda: nats(under(job.model, written[1:], table[1:], 0)[0], written[1:]))

    @cached_property
    def every(self) -> dict[str, np.ndarray]:
        """Surprise [R, T - 1], under all draws."""
        return self.losses | {MINE: np.concatenate([self.losses[MINE], self.again()])}

    @cached_property
    def votes(self) -> np.ndarray:
        """After each place [T, V, V], by written symbol."""
        return tallied(self.said[self.layer], self.text.ids)

    @cached_property
    def seen(self) -> np.ndarray:
        """How often each written symbol came, after each place [T, V]."""
        return np.eye(len(self.text.key))[self.text.ids].cumsum(0)

    @property
    def goal(self) -> str:
        return next(name for name in self.losses if name != MINE)

    @property
    def ends(self) -> list[int]:
        """Where the pieces end that are read one after the other."""
        return np.unique(np.linspace(0, len(self.text.real), PIECES + 1).round().astype(int))[1:].tolist()

    def solved(self, end: int) -> tuple[float, float]:
        """Letters deciphered once `end` places are read, in percent: by votes, and by counting alone."""
        text, seen = self.text, self.seen[end - 1]
        counted = np.eye(len(seen))[by_counting(seen)]
        return 100 * solved(self.votes[end - 1], seen, text.key), 100 * solved(counted, seen, text.key)

    def behind(self, where: slice) -> float:
        """How much more surprised than the goal, in nats a character."""
        return float(self.every[MINE][:, where].mean() - self.every[self.goal][:, where].mean())

    @property
    def quarters(self) -> tuple[slice, slice]:
        """The first and the last quarter of what is predicted."""
        count = len(self.text.real) - 1
        return slice(0, count // 4), slice(count - count // 4, count)


# --- Sample: letters that are deciphered while they are read --------------------------------------------------------

def reading(job: Job) -> Iterator[Event]:
    """The text piece by piece: what stands there by the votes so far, and what was expected at each place."""
    found = Deciphering.of(job)
    text, begun = found.text, 0
    letter = np.array([label.isalpha() for label in text.labels])  # marks stay as they are: nothing to decipher
    page = TextRecord(text.labels, text.ids, 0, FIELDS, lambda ids: [SYMBOLS[i] for i in ids])
    yield page.open(len(found.ends))
    for end in found.ends:
        new, votes = np.arange(begun, end), found.votes[end - 1]
        page.note(new[new > 0], surprise=found.losses[MINE][0, new[new > 0] - 1])
        page.note(range(end), votes=(votes / votes.sum(-1, keepdims=True).clip(1e-9))[text.ids, text.real][:end])
        taken, read = votes.argmax(1)[text.ids], np.arange(len(text.ids)) < end
        state = np.where(read & letter & (taken == text.real), CODE["accepted"], CODE["visible"])
        share = "{:.0f} % of its letters deciphered, by counting alone {:.0f} %".format(*found.solved(end))
        yield page.step(f"{end} characters read", ids=np.where(read, taken, text.ids), note=share,
                        state=np.where(read, state, CODE["context"]), distributions=guesses(found, new),
                        cost=found.cost if not begun else Cost())
        begun = end
    yield Close("sample", sentence(found), charts(found), facts(found))


def guesses(found: Deciphering, new: np.ndarray) -> dict:
    """The lists at the characters of a piece: what this symbol stands for, and what was expected here."""
    votes, later = found.votes[new[-1]][found.text.ids[new]], new[new > 0]
    shares = torch.from_numpy(votes / votes.sum(-1, keepdims=True)).clamp_min(1e-30).log()
    top = min(TOP, len(found.text.key))
    return {"what this symbol stands for": distribution(shares, new, found.text.real[new], top=top),
            **{f"expected here, {name}": distribution(one[later - 1], later, found.text.real[later], top=top)
               for name, one in found.lists.items()}}


def sentence(found: Deciphering) -> str:
    first, last = map(found.behind, found.quarters)
    mine, counted = found.solved(len(found.text.real))
    return (f"After {len(found.text.real)} characters {mine:.0f} % of the letters are deciphered, by counting alone "
            f"{counted:.0f} %. In the first quarter the network is {first:.2f} nats a character behind the "
            f"{found.goal}, in the last {last:.2f}.")


def facts(found: Deciphering) -> dict[str, Fact]:
    first, last = found.quarters
    mine, counted = found.solved(len(found.text.real))
    each = found.every[MINE].mean(1)
    told = {"last": Fact(f"Behind the {found.goal}, last quarter", found.behind(last), "nats a character", "lower"),
            "first": Fact(f"Behind the {found.goal}, first quarter", found.behind(first), "nats a character", "lower"),
            "solved": Fact("Letters deciphered", mine, "% of those that came", "higher"),
            "counted": Fact("Letters deciphered by counting alone", counted, "% of those that came", "higher"),
            "spread": Fact(f"Spread over {DRAWS} draws of vectors", float(each.std()), "nats a character", "lower")}
    if CLOSED in found.losses:
        told["closed"] = Fact("Ordinary network under the cipher, last quarter", float(
            found.losses[CLOSED][:, last].mean()), "nats a character", "lower")
    if found.goal == EXACT:
        wide = apart(found.lists[MINE][None], found.text.real[None])  # a cipher only renames both sides
        told["apart"] = Fact("KL of the exact decipherer to this network", float(wide.mean()), "nats", "lower")
    return told


def charts(found: Deciphering) -> tuple[Chart, ...]:
    window = max(2, len(found.text.real) // 16)
    ends = np.arange(window, len(found.text.real), window)
    losses = {name: [one[:, end - window : end].mean() for end in ends] for name, one in found.every.items()}
    mine, counted = np.array([found.solved(end) for end in found.ends]).T
    start = len(found.text.real) * 3 // 4
    right = (found.said.argmax(-1).cpu().numpy() == found.text.real)[:, start:].mean(1)
    return (line("Surprise while it reads", "nats a character", losses, x="character", at=ends, by_step=False,
                 caption=f"Lower is better. Mean of {window} characters, of this network over {DRAWS} draws."),
            line("Letters deciphered", "% of those that came", {MINE: mine, "by counting alone": counted}),
            line("Where letters are known", "% right, last quarter", {MINE: 100 * right}, x="after layer", first=1,
                 by_step=False, caption="A probe beside each layer says which real symbol stands at a place."),
            board(found), *((posterior(found),) if found.goal == EXACT else ()))


def board(found: Deciphering) -> Chart:
    """Votes by written letter, in the order of what they really are: the diagonal is right."""
    letters = np.arange(min(26, len(found.text.key)))
    votes = found.votes[-1][found.text.key[letters]][:, letters]
    votes = np.where(found.seen[-1][found.text.key[letters], None] > 0, votes, np.nan)
    names = [SYMBOLS[i] for i in letters]
    return table("Which letter is which", "taken for", "written, and what it is",
                 votes / votes.sum(1, keepdims=True), names,
                 [f"{SYMBOLS[found.text.key[i]]} is {SYMBOLS[i]}" for i in letters], unit="share of votes",
                 caption="Votes at the end of the text; on the diagonal they are right. Empty: did not come.")


def posterior(found: Deciphering) -> Chart:
    """The exact reader's belief in its likeliest ciphers, at four places."""
    weight = markov.exact(found.text.ids)[0]
    at = [end for end in (4, 12, 30, len(weight)) if end <= len(weight)]
    sorted_ = {f"after {end} letters": 100 * np.sort(weight[end - 1])[::-1][:12] for end in at}
    return bars("Belief in the likeliest of 120 ciphers", "cipher, by rank", "%", sorted_, range(1, 13),
                caption="Of the exact decipherer, sorted at each place. One is left in the end.")


# --- Attend: which places heads look at -----------------------------------------------------------------------------

def attention(job: Job) -> Iterator[Event]:
    """The text read once, and how much each head looks at earlier places of the same symbol and at what followed."""
    text = CipherText.of(job)
    layout = text_layout(text.labels)
    with observe(job.model, want={"qk", "stats"}) as seen:
        looked(job.model, text.ids[None], job.generator())
    kinds, start = relations(text.ids), len(text.ids) // 2
    mass = np.stack([shares(array(call.rows_for(range(len(text.ids)))[0]), kinds, start) for call in seen])  # [L, H, 4]
    even = shares(np.tri(len(text.ids))[None] / np.arange(1, len(text.ids) + 1)[:, None], kinds, start)[0]
    told = {f"kind{i}": Fact(f"Most of a head on {name}", 100 * float(mass[..., i].max()), "% of its attention")
            for i, name in ((1, SEEN[1]), (0, SEEN[0]), (2, SEEN[2]))}
    told |= {"even": Fact(f"Looking everywhere alike, on {SEEN[1]}", 100 * float(even[1]), "% of attention")}
    layer, head = np.unravel_index(mass[..., 1].argmax(), mass.shape[:2])
    yield from record(layout, look(seen, layout), facts=told, charts=(heads_chart(mass, even),), sentence=(
        f"Head {head + 1} of layer {layer + 1} puts {percent(mass[layer, head, 1])} of its attention on what followed "
        f"the same symbol earlier; looking everywhere alike would put {percent(even[1])} there."))


def relations(ids: np.ndarray) -> np.ndarray:
    """Bool [4, T, T], query by key: how a key stands to a query, by SEEN."""
    same = np.tril(ids[:, None] == ids, -1)
    after = np.tril(np.pad(same, ((0, 0), (1, 0)))[:, :-1], -1)
    return np.stack([same, after, np.eye(len(ids), k=-1, dtype=bool), np.eye(len(ids), dtype=bool)])


def shares(rows: np.ndarray, kinds: np.ndarray, start: int) -> np.ndarray:
    """Attention [H, 4] on each kind of key, of rows [H, T, T], mean over the queries from `start` on."""
    return np.stack([(rows * one)[:, start:].sum(2).mean(1) for one in kinds], 1)


def heads_chart(mass: np.ndarray, even: np.ndarray) -> Chart:
    names = [f"{layer}, {head}" for layer in numbered("layer", len(mass)) for head in numbered("head", mass.shape[1])]
    return table("What heads look at", "attention on", "", np.concatenate([mass.reshape(-1, 4), even[None]]), SEEN,
                 [*names, "everywhere alike"], unit="share of attention",
                 caption="Mean over the second half of the text. Head 1 of layers 1 and 2 began like this: it was set, "
                         "not learnt.")
