"""Exact byte-level probabilities from a token model (arXiv 2410.09303).

A prompt that ends inside a token is off the path the model was trained on. Summing over all token sequences that cover
the prompt gives the exact distribution of the next byte, and models with different vocabularies can be averaged there:
byte probabilities, never logits or token probabilities. cover_encodings.py finds the covers; this file reads the prompt
byte by byte, draws bytes, and averages two models.
Our reading: a text without white space so far is conditioned on the end-of-text token before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from kernels import Sampler
from models.checkpoints import families
from models.engine.method import Card, Close, Control, Event, Job, Method
from models.engine.recording import bars, line
from models.loops.sample.cached_lm import cut_off
from models.loops.sample.loop import Journal, SamplingPolicy, decode
from models.loops.sample.report import along, shown
from models.papers.byte_level.byte_vocabulary import END, SYMBOLS, Coder, split
from models.papers.byte_level.bytereader import ByteReader, divergence
from models.papers.byte_level.cover_encodings import Covers
from models.trace import Chart, Cost, Fact, Field
from models.trace.params import Choice, Span
from models.trace.spelling import joined
from models.trace.subject import Example, SubjectError

WINDOW = 24  # bytes of the prompt that are looked at one by one, each a call of the model before the first step
LARGE = 50e6  # parameters from which a call takes so long that half as many are looked at
LONGEST_WORD = 120
SEEN = 0.01  # of all probability: less is no difference to a reader
SECOND = "text-ar-1k-2"
FIELDS = {"kl": Field("Error of naive prompting: KL(exact || naive)", "nats", low=0.0),
          "invalid": Field("Probability on invalid encodings, left out", "", 0.0)}


@dataclass(frozen=True)
class Params:
    cut: Annotated[int, Span(0, 60, 1, "Cut off at the end", "Where the prompt stops, character by character.",
                             unit="characters")] = 0
    mode: Annotated[str, Choice(("exact", "exact-fast", "healing", "naive"), "Bytes are drawn from",
                                titles=("all covers (the method)", "all covers, unmasked", "token healing",
                                        "the prompt as it was encoded"))] = "exact"
    temperature: Annotated[float, Span(0.1, 2.0, 0.05, "Temperature", "On byte probabilities.", view=True)] = 0.6
    length: Annotated[int, Span(1, 60, 1, "Length", unit="bytes")] = 24
    weight: Annotated[float, Span(0.0, 1.0, 0.05, "Share of the second model", "Averages the byte probabilities of a "
                                  "second model, which has another vocabulary; 0 leaves it out.")] = 0.0
    top_p: Annotated[float, Span(0.05, 1.0, 0.05, "Top-p", view=True, fold=True)] = 1.0


class Meters:
    """The cost of all models together."""

    def __init__(self, readers: Sequence[ByteReader]):
        self.readers = readers

    def lap(self) -> Cost:
        return sum((reader.meter.lap() for reader in self.readers), Cost())


class Bytes:
    """A source of bytes for the loop: what stands on the page, and one or two models that read the same bytes."""

    end = END

    def __init__(self, job: Job):
        p, data = job.params, cut_off(job.subject.text, job.params.cut).encode()
        start = max(1, len(data) - (WINDOW if job.model.num_parameters() < LARGE else WINDOW // 2))
        start += next((k for k, byte in enumerate(data[start:]) if byte & 0xC0 != 0x80), 0)  # never inside a character
        if data[start : start + 1] and data[start] & 0xC0 == 0x80:  # one character is all there is
            raise SubjectError("This text is one character; please type at least one more behind it.")
        if len(split(data[:start])[1]) > LONGEST_WORD:
            raise SubjectError(f"This text has more than {LONGEST_WORD} bytes without a space before its end; please "
                               "add some, because every encoding of that stretch has to be tried.")
        self.ending = job.tokenizer.eos_token or "<end>"
        self.p, self.before, self.window = p, data[:start].decode(), data[start:]
        bundles = [job.bundle, *([job.companion(SECOND)] if p.weight else [])]
        self.readers = [ByteReader(bundle, data[:start], p.mode == "exact-fast") for bundle in bundles]
        self.prompt, self.meter = [-1, *self.window], Meters(self.readers)
        self.labels, self.roles = joined(self.texts(self.prompt)), ()
        self.kl: list[tuple[float, float]] = []  # of naive and of healing, at each byte of the window

    def start(self) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
        """Reads the window; what each of its bytes was expected to be, before it was read."""
        seen, values = [], []
        for byte in self.window:
            seen.append(self.shown())
            values.append(self.measure())
            self.kl.append(self.errors())
            self.push([byte])
        self.kl.append(self.errors())
        reader = self.readers[0]  # as it stands at the end of the prompt
        self.covers, self.symbols, self.invalid = reader.covers, reader.symbols, reader.invalid
        names = self.shown()
        rows = {name: torch.cat([torch.empty(0, SYMBOLS), *(one[name] for one in seen)]) for name in names}
        return rows, {name: [one[name][0] for one in values] for name in FIELDS}

    @property
    def logits(self) -> Tensor:
        """Log-probabilities [1, SYMBOLS] to draw from."""
        return next(iter(self.shown().values()))

    def shown(self, moment=None) -> dict[str, Tensor]:
        """name -> log-probabilities [1, SYMBOLS]: first the one that is drawn from, then the first model's three."""
        mode = "exact" if self.p.mode == "exact-fast" else self.p.mode
        first, own = self.readers[0].symbols, {}
        if len(self.readers) > 1:
            other = self.readers[1].symbols[mode]
            own = {"average": average((first[mode], other), (1 - self.p.weight, self.p.weight)), "second model": other}
        order = {**own, mode: first[mode], **first}
        return {name: probs.log().float()[None] for name, probs in order.items()}

    def measure(self, moment=None) -> dict[str, list[float]]:
        return {"kl": [self.errors()[0]], "invalid": [self.readers[0].invalid]}

    def errors(self) -> tuple[float, float]:
        """KL of naive and of healing from exact, first model, nats."""
        symbols = self.readers[0].symbols
        return divergence(symbols["exact"], symbols["naive"]), divergence(symbols["exact"], symbols["healing"])

    def note(self, moment=None) -> str:
        reader = self.readers[0]
        best = ", ".join(f"{text} {100 * share:.0f} %" for text, share in most_probable(reader.coder, reader.covers, 3))
        return f"{len(reader.covers)} covers: {best}"

    def push(self, symbols: Sequence[int]) -> None:
        for reader in self.readers:
            reader.push(symbols[0])

    def texts(self, symbols: Sequence[int]) -> list[str]:
        return [self.before if s < 0 else letter(s, self.ending) for s in symbols]


def average(distributions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The ensemble [SYMBOLS]: a weighted mean of byte probabilities."""
    return sum(weight * probs for weight, probs in zip(weights, distributions))


def most_probable(coder: Coder, covers: Covers, most: int) -> list[tuple[str, float]]:
    """The most probable covers with their share: tokens apart, the part that hangs over in brackets."""
    found = []
    for c in covers.share.topk(min(most, len(covers))).indices.tolist():
        *left, last = (coder.pieces[t] for t in covers.tokens(c))
        inside = int(covers.inside[c])
        whole = [piece.decode("utf-8", "replace") for piece in (*left, last[:inside])]
        over = last[inside:].decode("utf-8", "replace")
        found.append(("|".join(whole).replace(" ", "\u00b7") + (f"[{over}]" if over else ""), float(covers.share[c])))
    return found


def letter(symbol: int, ending: str) -> str:
    """A byte as a reader sees it. ending: what the model calls the end of a text."""
    if symbol == END:
        return ending
    return chr(symbol) if symbol < 128 else f"<{symbol:02X}>"


def run(job: Job) -> Iterator[Event]:
    """The loop of the tab over bytes: one draw at a time, from the chosen distribution."""
    source, p = Bytes(job), job.params
    return decode(job, source, SamplingPolicy(
        sampler=Sampler(p.temperature, top_p=p.top_p), length=p.length, shown=source.shown, keep_logits=True,
        fields=FIELDS, measure=source.measure, note=source.note, close=lambda journal: close(journal, source)))


def close(journal: Journal, source: Bytes) -> Close:
    """Facts, charts and the sentence: the end of the prompt is where it matters."""
    naive, healing = source.kl[-1]
    off = {"exact": 0.0, "naive": naive, "healing": healing}.get(source.p.mode)  # unmasked is not measured
    own = {} if off is None else {"off": Fact("Off from exact", round(off, 3), "nats at the cut", "lower")}
    facts = {**own, "kl": Fact("Naive prompting is off by", round(naive, 3), "nats at the cut"),
             "healing": Fact("Token healing is off by", round(healing, 3), "nats at the cut"),
             "covers": Fact("Encodings that cover the prompt", len(source.covers), "sequences"),
             "invalid": Fact("Mass on invalid encodings", float(f"{source.invalid:.2g}"), "of 1")}
    charts = (on_the_way(journal), along_cut(source), next_bytes(source), shares(source))
    return Close("sample", say(source), charts, facts, path=journal.path)


def say(source: Bytes) -> str:
    """The byte that naive prompting misses most, or that it misses none."""
    exact, naive = source.symbols["exact"], source.symbols["naive"]
    missed, others = exact - naive, len(source.covers) - 1
    at = int(missed.argmax())
    tail = (source.before + source.window.decode())[-12:].replace(" ", "\u00b7")
    if missed.abs().max() < SEEN:
        covers = (f"although {others} other token sequence{'s' * (others != 1)} also cover{'s' * (others == 1)}"
                  if others else "since no other token sequence covers")
        return (f"After \u201c{tail}\u201d naive prompting gives every byte within {100 * SEEN:g} % of what the exact "
                f"distribution gives it, {covers} the end of this prompt. Cut it inside a word to see them part.")
    return (f"After \u201c{tail}\u201d the exact probability of {shown(letter(at, source.ending))} is "
            f"{100 * exact[at]:.0f} %, naive prompting says {100 * naive[at]:.0f} %: besides its own encoding, "
            f"{others} token sequence{'s' * (others != 1)} also cover{'s' * (others == 1)} the end of this prompt.")


def on_the_way(journal: Journal) -> Chart:
    """How far naive prompting would have been off at each byte that was written."""
    return line("What naive prompting gets wrong", "KL from exact (nats)", {"naive": along(journal, "kl")},
                at=[decision.step for decision in journal.decisions])


def along_cut(source: Bytes) -> Chart:
    """How far the two shortcuts are from exact at every cut of the window, the last one being the prompt's end."""
    naive, healing = zip(*source.kl)
    return line("What the cut does", "KL from exact (nats)", {"naive": naive, "token healing": healing},
                x="bytes before the end of the prompt", first=-len(source.window), by_step=False,
                caption="A cut inside a token throws naive prompting off most. Behind a whole token it takes for "
                        "granted that the token ends there, which exact does not: a word may go on.")


def next_bytes(source: Bytes) -> Chart:
    """The most probable next bytes at the end of the prompt, three ways."""
    order = source.symbols["exact"].topk(8).indices.tolist()
    letters = [letter(s, source.ending) for s in order]
    ticks = [{" ": "space", "\n": "line break"}.get(one, one) for one in letters]
    return bars("The next byte", "byte", "probability",
                {name: source.symbols[name][order] for name in ("naive", "healing", "exact")}, ticks)


def shares(source: Bytes) -> Chart:
    """The covers of the prompt by their share."""
    texts, share = zip(*most_probable(source.readers[0].coder, source.covers, 8))
    return bars("Encodings that cover the prompt", "tokens [and what hangs over]", "share", {"share": share}, texts)


METHOD = Method(
    card=Card(
        id="byte-level", title="Exact byte-level probabilities", tabs=("sample",), arxiv="2410.09303", year=2024,
        seed="A",
        summary="Sums over all token sequences that cover a prompt, which gives the exact probability of the next byte "
                "even where the prompt stops inside a token, and lets models with different vocabularies be averaged.",
        flow="prompt cut inside a word > *every token path that covers it > weights of the paths > *exact "
             "next byte; *exact next byte ~> prompt cut inside a word",
        look_at="Bytes inside a word: naive prompting starts a new token there, the exact distribution completes the "
                "word. Compare with sampling to see naive prompting go on in whole tokens.",
        not_covered="Fill in the middle (needs a checkpoint trained for it); SentencePiece vocabularies.",
        unverified="Tokens that hold a part of a character count as valid; a text without white space is read as the "
                   "beginning of a book."),
    params=Params, accepts="text", layouts=families.CAUSAL,
    checkpoints=("text-ar-1",), companions=(SECOND,), run=run,
    control=Control(params={"mode": "naive"}, title="Naive prompting, byte by byte"),
    worldly=(
        Example("university", "A university, cut short", "After school she studied at the Univ", "text"),
        Example("strawberry", "A fruit, cut short", "My favourite fruit is a straw", "text"),
    ),
    examples=(
        Example("beautiful", "A word cut short", "There once lived a king whose daughter was the most beau"),
        Example("castle", "A castle, cut short", "Once upon a time there was a king who lived in a great cas"),
        Example("trailing-space", "A space too many", "The little princess opened the door and "),
        Example("mill", "The miller's cat", "sample-mill.txt"),
    ))
