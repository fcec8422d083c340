"""The claim of future token prediction, on tales that no training drew: a text is an item, every sixth of its places
is asked. Nothing was tuned: one training of each arm, on the same batches for as many steps."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from kernels import Sampler
from models.backbones.rows import linear_work
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, as_good, better, conclude, context, more_than_chance
from models.claims.tale_lab import encoded, held_out_texts, topics
from models.loops.sample.foresight import foreseen, read_on
from models.loops.sample.rollouts import Ends, roll_out
from models.papers.ftp.method import FTP, HEADS, TRUNK
from models.papers.ftp.network import FutureReader
from models.papers.ftp.record import AMONG, adjacent, surprise
from models.worlds.tales.words import TOPICS
from models.worlds.world import END

AHEAD, EVERY = 4, 6
ONE, LINEAR, ROLLED = "one vector, its decoder", "one vector, independent heads", "the trunk, reading on"
FILES = {ONE: (FTP, TRUNK), LINEAR: (HEADS, TRUNK), ROLLED: (TRUNK,)}


@torch.no_grad()
def measure(lab: Lab):
    trunk = load(TRUNK)
    readers = {name: load(of).model.on(trunk.model) for name, of in ((ONE, FTP), (LINEAR, HEADS))}
    vectors = {**{name: reader.vectors for name, reader in readers.items()},
               ROLLED: lambda ids: trunk.model.model(ids).last_hidden_state}
    texts = [[END, *encoded(trunk.tokenizer, text), END] for text in held_out_texts(lab.size(140, 6), 57)]
    told = {**{name: np.transpose([asked(reader, ids) for ids in texts]) for name, reader in readers.items()},
            ROLLED: np.transpose([rolled(trunk.model, ids) for ids in texts])}  # hits, nats and work, each [K]

    once = Budget(1, "readings")
    four = Metric("word four ahead among the five likeliest", "%", floor=commonest(texts), ceiling=100.0).arms(
        {name: found[0] for name, found in told.items()}, FILES,
        {name: Budget(found[2], "M multiply-adds") for name, found in told.items()})
    loss = Metric("loss of the next word", "nats", "lower").arms(
        {name: found[1] for name, found in told.items()}, FILES, once)
    turns = Metric("cosine of neighbouring vectors, their mean taken off", "cosine").arms({
        name: [adjacent(reads(torch.tensor([ids]))[0]).mean() for ids in texts] for name, reads in vectors.items()},
        FILES, once)
    topic = Metric("topic read off one vector", "%", floor=100 / len(TOPICS), ceiling=100.0).arms({
        name: 100 * hits for name, hits in topics(
            vectors, trunk.tokenizer, lab.size(300, 30), lab.size(150, 9)).items()}, FILES, once)
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
        context=[*(context(f"the trunk's surprise at eight words from one vector, {name}", np.array(
                     [composed(trunk.model, reader, ids) for ids in texts[: lab.size(80, 4)]]), "nats a word",
                     "seen on the page before it was measured") for name, reader in readers.items()),
                 context("topic read off one vector, independent heads", topic[LINEAR]),
                 context("cosine of neighbouring vectors, independent heads", turns[LINEAR]),
                 context("loss of the next word, independent heads", loss[LINEAR]),
                 context("the trunk, reading on along three paths", np.array(
                     [rolled(trunk.model, ids, 3)[0] for ids in texts[: lab.size(20, 2)]]), "%",
                     "two and a half times its work, on the first texts")])


def places(ids: list[int]) -> list[int]:
    return list(range(2, len(ids) - AHEAD, EVERY))


@torch.no_grad()
def asked(reader: FutureReader, ids: list[int]) -> tuple[float, float, float]:
    """Of one text: hits in percent, nats a word, and millions of multiply-adds a place (linear maps of what is read,
    all of what is written)."""
    at, z = places(ids), reader.vectors(torch.tensor([ids]))[0]
    live = reader.behind(z[at])
    *_, said = foreseen(live, AHEAD, reader.network.paths)
    following = reader.logits(z[:-1], torch.zeros(len(z) - 1, 0, dtype=torch.long))[:, 0]
    return hit(said, ids), nats(following, ids), (linear_work(reader.body) + sum(live.macs) / len(at)) / 1e6


@torch.no_grad()
def rolled(model, ids: list[int], paths: int = 1) -> tuple[float, float, float]:
    """The same of the trunk, which reads its own likeliest words before it says the one that is asked."""
    said = torch.stack(list(read_on(model, ids, places(ids), AHEAD, paths)))
    following = model(torch.tensor([ids[:-1]])).logits[0]
    return hit(said, ids), nats(following, ids), (1 + (AHEAD - 1) * paths) * linear_work(model) / 1e6


@torch.no_grad()
def composed(model, reader: FutureReader, ids: list[int]) -> float:
    """Nats per word of the trunk at the eight likeliest words that one vector, in the middle of a text, writes."""
    half = ids[: len(ids) // 2]
    live = reader.behind(reader.vectors(torch.tensor([half]))[:, -1])
    (trial,), _, _ = roll_out(live, Sampler(0.0), Ends(None, frozenset(), reader.ahead), torch.Generator())
    return surprise(model, np.array([*half, *trial.ids]), len(half))


def hit(said: torch.Tensor, ids: list[int]) -> float:
    """Percent of places at which the word AHEAD of them is among the likeliest of what is said [A, V]."""
    wanted = torch.tensor(ids)[[place + AHEAD for place in places(ids)]]
    return 100 * float((said.topk(AMONG).indices == wanted[:, None]).any(1).float().mean())


def nats(logits: torch.Tensor, ids: list[int]) -> float:
    return float(cross_entropy(logits.float(), torch.tensor(ids[1:])))


def commonest(texts) -> np.ndarray:
    """What the five commonest words of all texts would hit in each."""
    said = torch.from_numpy(np.bincount(np.concatenate(texts))).expand(1000, -1)
    return np.array([hit(said[: len(places(ids))], ids) for ids in texts])
