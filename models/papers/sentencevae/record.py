"""Sample and Unmask of SentenceVAE: a step is a pass of the language model. Prune: clauses collapse into vectors."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.engine.method import Close, Event, Job
from models.engine.recording import array, line, table
from models.loops.sample.text_record import TOP, TextRecord
from models.papers.sentencevae.network import ClauseReader, rows_of
from models.trace import Cost, Edges, Fact, Field
from models.worlds.world import END, PAD

FIELDS = {"probability": Field("Probability", "probability", 0.0, 1.0), "entropy": Field("Entropy", "nats", low=0.0)}


def sampled(job: Job, source, reader: ClauseReader, clauses: list[list[int]], written) -> Iterator[Event]:
    """The run as events: what each clause's vector said of the next one's words; then what was written."""
    page = TextRecord(source.labels, source.prompt, job.params.length, FIELDS, source.texts, roles=source.roles)
    rows, decoded, done = rows_of(clauses), job.params.writer == "clauses", []
    way = "the decoder, from one vector" if decoded else "the token model"
    yield page.open()
    if decoded and len(rows) > 1:
        with torch.inference_mode():
            z = reader.predict(reader.encode(rows)[None])[0, :-1]
            said = reader.logits(z, rows[1:])[:, :-1][rows[1:, 1:] != PAD]
        page.guess(range(page.start - len(said), page.start), said.float(), source.prompt[-len(said):], way, top=TOP)
    yield page.step("the text", note=f"{page.start - 1} words read")
    for trial, cost, held, another in written:
        done.append((decoded * len(trial.ids), cost.macs, held, another))
        ids = [id for id in trial.ids if id != END]
        if ids:
            where = range(page.count, page.count + len(ids))
            page.guess(where, torch.stack(trial.logits[: len(ids)]), ids, way, top=TOP)
            page.write(ids, source.texts(ids), {})
        yield page.open()
        yield page.step(f"step {len(done)}: {len(ids)} word{'s' * (len(ids) != 1)}", cost=cost, note=f"{done[-1][0]} "
                        f"passes of the decoder; {held} positions in the cache, of {page.count} words")
    yield page.step("the text as it is now")
    yield ending(page, *zip(*done, strict=True))


def ending(page: TextRecord, decoded, work, held, another) -> Close:
    new, places = page.count - page.start, sum(decoded)
    charts = (line("Positions in the cache", "positions", {"held": held}, first=1),
              line("Chance of another clause", "probability", {"stop head": another}, first=1))
    return Close("sample", f"{len(held)} passes of the language model and {places} of the decoder wrote {new} words; "
                 f"the cache holds {held[-1]} positions.", charts if places else charts[:1], {
                     "each": Fact("Written by one pass of the language model", new / len(held), "words", "higher"),
                     "held": Fact("Positions in the cache", held[-1], f"of {page.count} words", "lower"),
                     "places": Fact("Passes of the decoder", places, f"for {new} words", "lower"),
                     "work": Fact("Work per word", sum(work) / max(new, 1) / 1e6, "M multiply-adds", "lower")})


@torch.inference_mode()
def collapsed(job: Job, source, coder: ClauseReader, spans: list[range], clauses: list[list[int]]) -> Iterator[Event]:
    rows = rows_of(clauses)
    e = coder.encode(rows)
    page = TextRecord(source.labels, source.prompt, 0, FIELDS, source.texts, "prune", source.roles)
    yield page.open(len(spans) + 1)
    yield page.step("the text", cost=Cost(0, len(source.prompt)), note="each word has a position of its own")
    if job.params.writer == "words":
        each = Fact("Words per position", 1.0, "words", "higher")
        yield Close("prune", "The token model keeps a position for every word.", facts={"ratio": each})
        return
    hits = []
    for span, ids, said in zip(spans, clauses, coder.logits(disturbed(job, e), rows).float(), strict=True):
        page.guess(span, said[: len(ids)], ids, "the decoder, from the clause's vector", top=TOP)
        hits += array(said[: len(ids)].argmax(-1).cpu() == torch.tensor(ids)).tolist()
        page.fill(span, state=["dropped"] * (len(ids) - 1) + ["merged"])
        edges = Edges(np.full(len(ids), span[-1]), np.array(span), np.full(len(ids), 1 / len(ids), np.float32))
        yield page.step(f"clause {spans.index(span) + 1}", edges={"sum": edges}, cost=Cost(
            1, len(ids), coder.work(len(ids) + 1, len(ids) + 1)), note=f"{len(ids)} words are one position, at its "
            f"mark; {int(sum(hits[-len(ids):]))} come out again")
    names, unit, share = list(map(str, range(1, len(spans) + 1))), normalize(e - e.mean(0), dim=-1), 100 * np.mean(hits)
    yield Close("prune", f"{len(hits)} words became {len(spans)} position{'s' * (len(spans) != 1)}; "
                f"{share:.0f} % of them come out of the "
                "vectors again.", (table("How alike the clauses' vectors are", "clause", "clause", unit @ unit.T, names,
                                         names, unit="cosine, mean taken off"),),
                {"ratio": Fact("Words per position", len(hits) / len(spans), "words", "higher"),
                 "share": Fact("Words that come out again", float(share), "% of this text", "higher")})


def disturbed(job: Job, e: Tensor) -> Tensor:
    """Vectors [N, D] mixed with those of the next clauses, and noise on top, as the visitor wants it."""
    p, noise = job.params, torch.randn(e.shape, generator=job.generator(1)).to(e.device)
    return (1 - p.blend) * e + p.blend * e.roll(-1, 0) + p.noise * e.std() * noise
