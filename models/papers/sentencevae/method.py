"""SentenceVAE (arXiv 2408.00655): a clause goes into one vector, and a language model predicts the next vector.

Each clause is encoded once; the trunk's layers, changed at low rank, read a vector per clause and answer with the next
one, from which a small decoder writes its words; what it wrote is encoded anew, a predicted vector is never read.
Despite the name no vector is sampled, and there is no KL term: by the authors' repository.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Annotated

import torch

from kernels import Sampler
from models.engine.method import Card, Control, Event, Job, Method
from models.loops.sample.cached_lm import Meter, Reader, Stream, held_bytes
from models.loops.sample.rollouts import Ends, Trial, roll_out
from models.trace import Cost
from models.trace.params import Choice, Span
from models.trace.subject import Example
from models.worlds.world import END

TRUNK, CODER, SLLM = "tale-ar-2", "tale-clause-1", "tale-sllm-1"


@dataclass(frozen=True)
class Params:
    writer: Annotated[str, Choice(("clauses", "words"), "Who writes", titles=(
        "the clause model (the method)", "the token model"))] = "clauses"
    length: Annotated[int, Span(8, 80, 4, "Length", "The text may end earlier by itself.", unit="words")] = 36
    temperature: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature", "0 takes the likeliest word.")] = 0.0
    noise: Annotated[float, Span(0.0, 1.0, 0.1, "Noise (Prune)", "On each vector.", unit="of its spread")] = 0.0
    blend: Annotated[float, Span(0.0, 1.0, 0.1, "Mixed with the next (Prune)", "1: only the next vector.")] = 0.0


@torch.inference_mode()
def by_clauses(job: Job, reader, clauses: list[list[int]]) -> Iterator[tuple[Trial, Cost, int, float]]:
    """Of each pass of the language model: words, the cost of all, positions in the cache, how likely it goes on."""
    from transformers import DynamicCache

    from models.papers.sentencevae.network import LONGEST, ClauseStream, rows_of
    p, dice, cache, left, said = job.params, job.generator(), DynamicCache(), job.params.length, clauses
    meter = Meter(reader.body, SimpleNamespace(weight=torch.empty(0)))
    while left and said[-1]:
        began, past = time.perf_counter(), cache.get_seq_length()
        z = reader.predict(reader.encode(rows_of(said))[None], cache)[0, -1:]  # what was written is encoded anew
        another = float(reader.network.another_head(z).diff().sigmoid())
        if past and another < 0.5:
            return
        over = Ends(END, frozenset(), min(left, LONGEST))
        (trial,), *_ = roll_out(ClauseStream(reader, z), Sampler(p.temperature), over, dice)
        meter.add(1, past, len(said), 0, held_bytes(cache), (time.perf_counter() - began) * 1e3)
        coded = reader.work(sum(len(ids) + 1 for ids in said), len(trial.ids))
        yield trial, meter.lap() + Cost(macs=coded), cache.get_seq_length(), another
        said = [[id for id in trial.ids if id != END]]
        left -= len(said[0])


def by_words(job: Job, live: Stream, ids: list[int]) -> Iterator[tuple[Trial, Cost, int, float]]:
    dice = job.generator()
    for _ in range(job.params.length):
        live.read([ids])
        (trial,), *_ = roll_out(live, Sampler(job.params.temperature), Ends(END, frozenset(), 1), dice)
        yield trial, live.meter.lap(), live.length, 1.0
        ids = trial.ids
        if ids == [END]:
            return


def run(job: Job) -> Iterator[Event]:
    from models.papers.sentencevae import record
    from models.papers.sentencevae.network import cut
    source = Reader(job.bundle, job.subject, job.params.length, whole=True)
    spans = [range(span.start + 1, span.stop + 1) for span in cut(source.labels[1:])]  # behind the text's start
    clauses = [[source.prompt[place] for place in span] for span in spans]
    coder, reader = (job.companion(name).model.on(job.model) for name in (CODER, SLLM))
    words = by_words(job, source, source.prompt)
    written = by_clauses(job, reader, clauses) if job.params.writer == "clauses" else words
    for event in record.sampled(job, source, reader, clauses, written):
        yield from (event, replace(event, tab="unmask"))
    yield from record.collapsed(job, source, coder, spans, clauses)


METHOD = Method(
    bound="its networks were trained beside their own trunk",
    card=Card(
        id="sentencevae", title="SentenceVAE", tabs=("sample", "prune", "unmask"), arxiv="2408.00655", year=2024,
        seed="B", summary="Squeezes each clause of a text into one vector. The language model reads and predicts one "
        "vector per clause, and a small decoder writes its words: fewer steps and a shorter context.",
        flow="clause > *encoder > *one vector > language model > next vector > *small decoder > next clause; "
             "next clause ~> clause",
        look_at="Each step writes a whole clause, and the cache grows by one position. On Prune, see which words come "
                "out of one vector again, and disturb the vector.",
        not_covered="The paper's sizes; other numbers of layers than 1 and 2; a weight per word; full sentences.",
        unverified="Words go through the trunk's own table by linear maps; the trunk is changed at low rank; rotary "
                   "positions count clauses; the decoder's positions are learned, its logits scaled once afterwards."),
    params=Params, accepts="text", checkpoints=(TRUNK,), companions=(CODER, SLLM), run=run,
    control=Control(params={"writer": "words"}, title="Token model"),
    fixed=dict.fromkeys(("sample", "prune", "unmask"), "A clause is one vector; change the text and run it again."),
    examples=(Example("miller", "A miller who lost a flute", "A sad tale of the forest. Once a young miller lived in "
                      "the forest. One day it lost its silver flute. The miller looked under the root, but there was "
                      "only a lion. The miller opened a fern,"),))
