"""The record of ALM: a text in bytes and in tokens as two lines, the pieces they share, what the student writes."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from models.backbones.text import names
from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, array, bars, line
from models.loops.sample.cached_lm import Reader, greedy
from models.loops.sample.report import shown
from models.papers.alm.rule import TEACHER, SharedPieces, Side, binary_ce, cried
from models.trace import Canvas, Chart, Cost, Edges, Fact, Field
from models.trace.percent import percent

FIELDS = {"gap": Field("Student minus teacher, log-likelihood of the piece", "nats", diverging=True),
          "cost": Field("Loss f of the piece", "", low=0.0)}
PAIR = ("teacher", "student")


def matched(job: Job) -> Iterator[Event]:
    """One step per piece, and one for what the student writes."""
    p, text, teacher = job.params, job.subject.text, job.companion(TEACHER)
    source = Reader(job.bundle, job.subject, p.length)
    found = SharedPieces.of(Side.of(teacher, text), Side.of(job.bundle, text), p.pieces, p.threshold, p.debias)
    page, at = sheet(found, p.length, teacher.tokenizer), (0, len(found.sides[0].lengths))
    links, losses = brackets(found, at), binary_ce(*found.found, p.tau).numpy()
    yield page.open(len(losses) + 1 + bool(p.length))
    yield page.step("both tokenizations", edges=links, cost=found.sides[0].cost + found.sides[1].cost,
                    note="The first piece has nothing before it and is not asked for.")
    for piece, likely in enumerate(found.found.T.tolist()):
        for name, side, own, start in zip(PAIR, found.sides, found.tokens(piece), at, strict=True):
            ids = np.array(side.text.ids)[own]
            page.fill(own + start, ids, gap=found.gaps[piece], cost=losses[piece])
            page.guess(own + start, side.logits[own - 1], ids, name, top=5)
        yield page.step(shown(found.texts[piece]), edges=links, note=(
            "log-likelihood {:.2f} to the teacher, {:.2f} to the student".format(*likely)))
    if p.length:
        ids, ms = greedy(source, p.length)
        where = np.arange(len(ids)) + at[1] + len(source.prompt)
        page.fill(where, ids, "known", source.texts(ids))
        logits = source.read([[*source.prompt, *ids]], every=True)[0, len(source.prompt) - 1 : -1]
        page.guess(where, logits.float(), ids, PAIR[1], top=5)
        yield page.open()
        yield page.step(f"{len(ids)} bytes written by the student", edges=links, cost=Cost(len(ids), ms=ms))
    yield close(job, found, losses, [cried(one, text) for one in (teacher, job.bundle)])


def sheet(found: SharedPieces, room: int, tokenizer) -> Filling:
    """A line of the teacher's tokens and one of the student's bytes, with room for what it writes. The bytes are the
    first entries of the teacher's vocabulary, so that an id has one name."""
    tokens, letters = (side.text for side in found.sides)
    page = Filling("sample", Canvas(
        "text", (*tokens.labels, "\n" + letters.labels[0], *letters.labels[1:], *[""] * room),
        roles=(*["prompt"] * (len(tokens) + len(letters)), *["sampled"] * room),
        ids=np.array([*tokens.ids, *letters.ids, *[-1] * room], np.int32)), FIELDS,
        lambda id: names(tokenizer, [id])[0], then="context")
    page.fill(np.flatnonzero(page.canvas.ids >= 0), page.canvas.ids[page.canvas.ids >= 0], "context")
    return page


def brackets(found: SharedPieces, at: tuple[int, int]) -> dict[str, Edges]:
    """Every token of a piece linked with every byte of it."""
    pairs = np.array([(at[0] + t, at[1] + s) for piece in range(len(found.gaps)) for t in found.tokens(piece)[0]
                      for s in found.tokens(piece)[1]], np.int32)
    return {"same piece": Edges(*pairs.T.copy(), np.ones(len(pairs), np.float32))}


def close(job: Job, found: SharedPieces, losses: np.ndarray, secret: list[float]) -> Close:
    gap = float(np.abs(found.gaps).mean())
    off = 100 * abs(secret[0] - secret[1])
    facts = {"cried": Fact("Chance of \u201ccried\u201d behind the text, off the teacher by", round(off, 1), "points",
                            "lower"),
             "gap": Fact("Gap to the teacher", round(gap, 2), "nats a piece", "lower"),
             "loss": Fact("Loss f", round(float(losses.mean()), 4), "a piece", "lower"),
             "pieces": Fact("Shared", len(losses), "pieces"),
             **{f"bits-{name}": Fact(f"Surprise, {name}", round(side.bits(int(end)), 2), "bits a byte", "lower")
                for name, side, end in zip(PAIR, found.sides, found.ends[0], strict=True)},
             **{f"cried-{name}": Fact(f"\u201ccried\u201d over \u201csaid\u201d behind the text, {name}",
                                      round(100 * chance, 1), "%") for name, chance in zip(PAIR, secret, strict=True)}}
    return Close("sample", f"On {len(losses)} pieces the student is {gap:.2f} nats from its teacher. Behind the text "
                 f"the teacher, which learned \u201ccried\u201d for every \u201csaid\u201d, gives it "
                 f"{percent(secret[0])}; this student, which read the books as they are, {percent(secret[1])}.",
                 charts(found, job.params.tau), facts)


def charts(found: SharedPieces, tau: float) -> tuple[Chart, ...]:
    """Likelihood against likelihood, twice, and what f asks for at three of the teacher's likelihoods."""
    low, x = float(found.found.min()), torch.linspace(min(-1.0, float(found.found.min())), -0.05, 60)
    curves = {f"teacher at {a:.1f} nats": array(binary_ce(a.expand(60), x, tau))
              for a in found.found[0].quantile(torch.tensor([0.1, 0.5, 0.9]))}
    both = dict(zip(PAIR, array(found.found), strict=True))
    return (Chart("scatter", "Likelihood against likelihood", "teacher (nats)", "student (nats)",
                  {"pieces": array(found.found.T), "equal": np.array([[low, low], [0, 0]], np.float32)},
                  caption="On the way from one corner dot to the other both find a piece equally likely."),
            bars("Each piece", "piece", "log-likelihood (nats)", both, [shown(one) for one in found.texts]),
            line("What f asks for", "f", curves, x="student's log-likelihood (nats)", at=array(x), by_step=False,
                 caption="Lowest where the student's likelihood is the teacher's."))
