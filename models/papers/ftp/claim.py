"""The claim of future token prediction, on tales that no training drew: a text is an item, every fifth of its places
is asked. Nothing was tuned: one training of each arm, on the same batches for as many steps."""
from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.backbones.rows import linear_work
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, as_good, better, conclude, context, more_than_chance
from models.claims.probe import ridge
from models.claims.tale_lab import encoded, held_out_texts
from models.loops.sample.cached_lm import Stream
from models.loops.sample.foresight import foreseen
from models.papers.ftp.method import FTP, HEADS, TRUNK
from models.papers.ftp.network import FutureReader
from models.papers.ftp.record import AMONG, adjacent
from models.worlds import tales
from models.worlds.tales.words import TOPICS
from models.worlds.world import END, exam

AHEAD, EVERY = 4, 5
ONE, LINEAR, ROLLED = "one vector, its decoder", "one vector, independent heads", "the trunk, reading on"
FILES = {ONE: (FTP, TRUNK), LINEAR: (HEADS, TRUNK), ROLLED: (TRUNK,)}


def measure(lab: Lab):
    trunk = load(TRUNK)
    readers = {name: load(of).model.on(trunk.model) for name, of in ((ONE, FTP), (LINEAR, HEADS))}
    vectors = {**{name: reader.vectors for name, reader in readers.items()},
               ROLLED: lambda ids: trunk.model.model(ids).last_hidden_state}
    texts = [[END, *encoded(trunk.tokenizer, text), END] for text in held_out_texts(lab.size(200, 6), 57)]
    told = {**{name: np.transpose([asked(reader, ids) for ids in texts]) for name, reader in readers.items()},
            ROLLED: np.transpose([read_on(trunk.model, ids) for ids in texts])}  # hits, nats and work, each [K]

    def arms(metric: Metric, scores, work=None):
        return {name: metric.arm(name, found, checkpoints=FILES[name], budget=Budget(1, "readings") if work is None
                                 else Budget(work[name], "M multiply-adds")) for name, found in scores.items()}

    four = arms(Metric("word four ahead among the five likeliest", "%", floor=commonest(texts),
                       ceiling=100.0), {name: found[0] for name, found in told.items()},
                {name: found[2] for name, found in told.items()})
    loss = arms(Metric("loss of the next word", "nats", "lower"), {name: found[1] for name, found in told.items()})
    turns = arms(Metric("cosine of neighbouring vectors, their mean taken off", "cosine"), {
        name: [adjacent(of(read, ids)).mean() for ids in texts] for name, read in vectors.items()})
    topic = arms(Metric("topic read off one vector", "%", floor=100 / len(TOPICS), ceiling=100.0),
                 probed(vectors, trunk.tokenizer, lab.size(400, 30), lab.size(240, 9)))
    return conclude(
        "ftp", paper="State vectors vary smoothly along a text, classify its topic better, and texts keep to their "
        "topic, at the next-token perplexity of GPT (abstract; no numbers).",
        here="One vector and its decoder have the word four ahead among the five likeliest more often than independent "
        "heads and than the trunk that reads on its own words, which is no less work, at a next-word loss within 0.05 "
        "nats; neighbouring vectors, their mean taken off, are more alike by 0.1; a topic is read off one vector 3 "
        "points more often.", arms=tuple(four.values()), trainings=1,
        expect=[better(four[ONE], four[LINEAR], unmatched="heads say a word in one product"),
                better(four[ONE], four[ROLLED]), as_good(loss[ONE], loss[ROLLED], within=0.05),
                better(turns[ONE], turns[ROLLED], least=0.1), better(topic[ONE], topic[ROLLED], least=3)],
        controls=[more_than_chance(four[ROLLED], four[ROLLED].metric.floor)],
        context=[context("topic read off one vector, independent heads", topic[LINEAR]),
                 context("cosine of neighbouring vectors, independent heads", turns[LINEAR]),
                 context("loss of the next word, independent heads", loss[LINEAR]),
                 context("the trunk, reading on along three paths", np.array(
                     [read_on(trunk.model, ids, 3)[0] for ids in texts[: lab.size(40, 2)]]), "%",
                     "two and a half times its work, on the first texts")])


def places(ids: list[int]) -> list[int]:
    return list(range(2, len(ids) - AHEAD, EVERY))


@torch.no_grad()
def asked(reader: FutureReader, ids: list[int]) -> tuple[float, float, float]:
    """Of one text: hits in percent, nats a word, and millions of multiply-adds a place (linear maps of what is read,
    all of what is written)."""
    at, z = places(ids), reader.vectors(torch.tensor([ids]))[0]
    live = reader.behind(z[at])
    hits = hit(foreseen(live, AHEAD, reader.network.paths), ids, at)
    said = reader.logits(z[:-1], torch.zeros(len(z) - 1, 0, dtype=torch.long))[:, 0]
    return hits, nats(said, ids), (linear_work(reader.body) + sum(live.macs) / len(at)) / 1e6


@torch.no_grad()
def read_on(model, ids: list[int], paths: int = 1) -> tuple[float, float, float]:
    """The same of the trunk, which reads its own likeliest words before it says the one that is asked."""
    whole, hits = Stream(model), []
    logits = whole.read([ids], every=True)[0].float()
    for place in places(ids):
        live = whole.select([0])
        live.crop(place + 1)
        live.logits = logits[place][None]
        hits.append(hit(foreseen(live, AHEAD, paths), ids, [place]))
    return float(np.mean(hits)), nats(logits[:-1], ids), (1 + (AHEAD - 1) * paths) * linear_work(model) / 1e6


def hit(said, ids: list[int], at: list[int]) -> float:
    """Percent of places at which the word AHEAD of them is among the likeliest."""
    top = next(islice(said, AHEAD - 1, None)).topk(AMONG).indices
    return 100 * float((top == torch.tensor(ids)[[place + AHEAD for place in at], None]).any(1).float().mean())


def nats(logits: torch.Tensor, ids: list[int]) -> float:
    return float(cross_entropy(logits.float(), torch.tensor(ids[1:])))


def commonest(texts) -> np.ndarray:
    """What the five commonest words of all texts would hit in each."""
    usual = np.argsort(-np.bincount(np.concatenate(texts)))[:AMONG]
    return np.array([100 * np.isin([ids[place + AHEAD] for place in places(ids)], usual).mean() for ids in texts])


@torch.no_grad()
def of(read, ids: list[int]) -> torch.Tensor:
    """The vectors [T, D] of a text."""
    return read(torch.tensor([ids]))[0]


def probed(vectors, tokenizer, count: int, check: int) -> dict[str, np.ndarray]:
    """Percent right [check] of a linear probe for the topic of a story, which sees the vector in its middle and learns
    from `count` others; the heading, which names the topic, is not read."""
    docs = [doc for doc in exam(tales.GRAMMARS["stories"], 59, 2 * (count + check)) if len(doc.truth["topics"]) == 1]
    halves = [encoded(tokenizer, doc.pieces[1]) for doc in docs[: count + check]]
    labels = np.array([list(TOPICS).index(doc.truth["topics"][0]) for doc in docs[: count + check]])
    found = {name: np.stack([of(read, [END, *ids[: len(ids) // 2]])[-1].numpy() for ids in halves])
             for name, read in vectors.items()}
    return {name: 100 * ridge(z[:count], labels[:count], z[count:], labels[count:]) for name, z in found.items()}
