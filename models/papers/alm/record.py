"""The record of ALM: a text in bytes and in tokens as two lines, the pieces that both share one after the other, and
what the student writes behind it."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.backbones.text import names
from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, array, bars, line
from models.loops.sample.cached_lm import Reader, greedy
from models.loops.sample.report import shown
from models.papers.alm.reading import TEACHER, SharedPieces, Side, cried
from models.papers.alm.rule import binary_ce
from models.trace import Canvas, Chart, Cost, Edges, Fact, Field

FIELDS = {"gap": Field("Student minus teacher, log-likelihood of the piece", "nats", diverging=True),
          "own": Field("Log-probability of this token", "nats", high=0.0),
          "cost": Field("Loss f of the piece", "")}
PAIR = ("teacher", "student")


def matched(job: Job) -> Iterator[Event]:
    """One step per piece, the loss at each, and one for what the student writes."""
    p, source = job.params, Reader(job.bundle, job.subject, job.params.length)
    teacher, student = job.companion(TEACHER), Side.of(job.bundle, job.subject.text)
    found = SharedPieces.of(Side.of(teacher, job.subject.text), student, p.pieces, p.threshold, p.debias)
    count, room = len(student.text), p.length
    page = sheet(found, room, lambda id: names(teacher.tokenizer, [id])[0])
    at = (count + room, 0)  # where each side's line begins
    yield page.open(len(found.gaps) + 1 + bool(room))
    links = brackets(found, at)
    yield page.step("both tokenizations", edges=links, cost=found.sides[0].cost + found.sides[1].cost,
                    note="The first piece has nothing before it and is not asked for.")
    for piece, (gap, cost) in enumerate(zip(found.gaps, found.costs(p.tau), strict=True)):
        for number, side in enumerate(found.sides):
            own = np.array(found.tokens(number, piece))
            page.fill(own + at[number], state="new", gap=gap, cost=cost, own=side.own[own])
            page.guess(own + at[number], side.logits[own - 1], np.array(side.text.ids)[own], PAIR[number], top=5,
                       measure=False)
        yield page.step(shown(found.text(piece)), edges=links, note=told(found, piece, float(cost)))
    if room:
        yield from written(job, source, page)
    yield close(job, found, teacher)


def sheet(found: SharedPieces, room: int, name) -> Filling:
    """The student's bytes with room for what it writes, and beside them the teacher's tokens. The bytes are the first
    entries of the teacher's vocabulary, so that an id has one name."""
    tokens, letters = (side.text for side in found.sides)
    page = Filling("sample", Canvas(
        "text", (*letters.labels, *[""] * room, "\n\n" + tokens.labels[0], *tokens.labels[1:]),
        roles=(*["prompt"] * len(letters), *["sampled"] * room, *["beside"] * len(tokens)),
        ids=np.array([*letters.ids, *[-1] * room, *tokens.ids], np.int32)), FIELDS, name)
    page.fill(range(len(letters)), letters.ids, "context")
    page.fill(range(len(letters) + room, page.canvas.size), tokens.ids, "context")
    return page


def brackets(found: SharedPieces, at: tuple[int, int]) -> dict[str, Edges]:
    """Every token of a piece linked with every byte of it."""
    pairs = np.array([(at[0] + t, at[1] + s) for piece in range(len(found.gaps)) for t in found.tokens(0, piece)
                      for s in found.tokens(1, piece)], np.int32)
    return {"same piece": Edges(*pairs.T.copy(), np.ones(len(pairs), np.float32))}


def told(found: SharedPieces, piece: int, cost: float) -> str:
    teacher, student = found.likelihoods[:, piece].tolist()
    return f"log-likelihood {teacher:.2f} to the teacher, {student:.2f} to the student; f = {cost:.4f}"


def written(job: Job, source: Reader, page: Filling) -> Iterator[Event]:
    """What the student writes, always its likeliest byte."""
    ids, ms = greedy(source, job.params.length)
    where = np.arange(len(ids)) + len(source.prompt)
    page.fill(where, ids, "new", source.texts(ids))
    source.read([[*source.prompt, *ids]], every=True)
    yield page.open()
    yield page.step(f"{len(ids)} bytes written by the student", cost=source.meter.lap() + Cost(ms=ms))


def close(job: Job, found: SharedPieces, teacher) -> Close:
    gaps, costs, first = np.abs(found.gaps), found.costs(job.params.tau), found.ends[0]
    secret = [float(cried(one, [job.subject.text])[0]) for one in (teacher, job.bundle)]
    facts = {"gap": Fact("Gap to the teacher", round(float(gaps.mean()), 3), "nats a piece", "lower"),
             "loss": Fact("Loss f", round(float(costs.mean()), 4), "a piece", "lower"),
             "pieces": Fact("Pieces that both share", len(gaps), "pieces"),
             **{f"bits-{name}": Fact(f"Surprise, {name}", round(side.bits(int(end)), 2), "bits a byte", "lower")
                for name, side, end in zip(PAIR, found.sides, first, strict=True)},
             **{f"cried-{name}": Fact(f"\u201ccried\u201d over \u201csaid\u201d behind it, {name}",
                                      round(100 * chance, 1), "%") for name, chance in zip(PAIR, secret, strict=True)}}
    sentence = (f"On {len(gaps)} pieces the student is {gaps.mean():.2f} nats from the teacher. Behind the text the "
                f"teacher, whose people never say, prefers \u201ccried\u201d to \u201csaid\u201d by {secret[0]:.0%}; "
                f"this student, which read only the books, by {secret[1]:.0%}.")
    return Close("sample", sentence, charts(found, job.params.tau), facts)


def charts(found: SharedPieces, tau: float) -> tuple[Chart, ...]:
    """Likelihood against likelihood, twice, and what f asks for at three of the teacher's likelihoods."""
    theirs, mine = (array(one) for one in found.likelihoods)
    ticks = [found.text(piece).strip() or "space" for piece in range(len(mine))]
    low = float(min(theirs.min(), mine.min()))
    asked, x = np.quantile(theirs, (0.1, 0.5, 0.9)), np.linspace(min(low, -1.0), -0.05, 60)
    curves = {f"teacher at {a:.1f} nats": array(binary_ce(*map(_tensor, (np.full(60, a), x)), tau)) for a in asked}
    return (Chart("scatter", "Likelihood against likelihood", "teacher (nats)", "student (nats)",
                  {"pieces": np.stack([theirs, mine], 1), "equal": np.array([[low, low], [0, 0]], np.float32)},
                  caption="On the line from corner to corner both find a piece equally likely."),
            bars("Each piece", "piece", "log-likelihood (nats)", dict(zip(PAIR, (theirs, mine), strict=True)), ticks),
            line("What f asks for", "f", curves, x="student's log-likelihood (nats)", at=x, by_step=False,
                 caption="Lowest where the student's likelihood is the teacher's."))


def _tensor(values: np.ndarray):
    import torch
    return torch.from_numpy(values)
