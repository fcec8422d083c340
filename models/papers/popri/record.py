"""The record: one step a round, a prompt's candidates as lines, the best by noisy score on top; of each its first
words, though all of them are scored."""
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from models.checkpoints.store import Bundle
from models.claims.tale_lab import read
from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, line
from models.loops.sample.cached_lm import Meter, Reader
from models.papers.popri.federation import candidates, federation, topical
from models.papers.popri.rule import LONGEST, ROUNDS, epsilon, noise_for, pairs, recovered
from models.trace import Canvas, Chart, Edges, Fact, Field
from models.trace.percent import percent
from models.trace.subject import SubjectError
from models.worlds.federation import openings
from models.worlds.world import END

ASKED, NOTES, ROOM = 2, 60, 12  # prompts of a round, the visitor's first; clients in the chart; words to be written
WORDS = 24  # of a candidate that are shown
FIELDS = {"clean": Field("Clients' mean score", "deviations", diverging=True),
          "noisy": Field("Score with noise", "deviations", diverging=True)}


class ScoredTexts(Filling):
    """The prompt, and a line for each of its candidates: its rank, then its first words."""

    def __init__(self, reader: Reader, each: int):
        self.first = len(reader.prompt)
        lines = [piece for number in range(each) for piece in ("\n", f"{number + 1}.", *[""] * WORDS)]
        canvas = Canvas("text", (*reader.labels, *lines), roles=(*reader.roles, *["sampled"] * len(lines)),
                        ids=np.array([*reader.prompt, *[-1] * len(lines)], np.int32))
        super().__init__("sample", canvas, FIELDS, lambda id: reader.texts([id])[0], fleeting=FIELDS)
        self.fill(range(self.first), reader.prompt, "context")

    def line(self, rank: int) -> int:  # where that of a rank from 0 begins, behind the break
        return self.first + rank * (WORDS + 2) + 1

    def show(self, rows: list[list[int]], clean: torch.Tensor, noisy: torch.Tensor, rejected: int,
             said: list[torch.Tensor], name: str, public: torch.Tensor) -> Edges:
        """Ids behind the prompt, in the order of their noisy scores; said: the logits [T, V] that they were drawn from;
        public: those [V] of the public network behind the prompt."""
        self.ids[self.first:] = -1
        self.fill(range(self.first, self.canvas.size), state="unknown")
        order, places = noisy.argsort(descending=True, stable=True).tolist(), []
        for rank, i in enumerate(order):
            at, words = self.line(rank), rows[i][:WORDS]
            state = {0: "accepted", rejected: "refused"}.get(rank, "known")
            self.fill([at - 1, at], state=["context", state])
            self.fill(range(at + 1, at + 1 + len(words)), words, state)
            self.note(range(at, at + 1 + len(words)), clean=float(clean[i]), noisy=float(noisy[i]))
            places += range(at + 1, at + 1 + len(words))
        begun = [self.line(rank) + 1 for rank, i in enumerate(order) if rows[i]]
        if begun:  # some texts end where the prompt does
            self.guess(places, torch.cat([said[i][: len(rows[i][:WORDS])] for i in order]), self.ids[places], name)
        if begun and name != "round 0":
            self.guess(begun, public.expand(len(begun), -1), self.ids[begun], "round 0")
        return Edges(np.array([self.line(0)]), np.array([self.line(rejected)]), np.ones(1, np.float32))


class Rounds:
    """Of all candidates: embeddings [n, D], the share of the clients' topics; of pairs: which noise left in order."""

    def __init__(self, numbers: list[int], sigma: float):
        self.numbers, self.sigma = numbers, sigma
        self.states, self.topics, self.kept = list[np.ndarray](), list[float](), list[bool]()

    def charts(self, notes: np.ndarray) -> tuple[Chart, ...]:
        """notes [K, D]: of clients, drawn where they and the first candidates differ most."""
        every = np.concatenate([notes, self.states[0]])
        middle = every.mean(0)
        axes = torch.linalg.svd(torch.from_numpy(every - middle), full_matrices=False).Vh[:2].numpy()  # numpy's is slow
        axes = axes * np.sign(axes @ (notes.mean(0) - middle))[:, None] * [[1], [-1]]  # notes lie on the right, below
        seen = {"notes of clients": notes, **{f"round {self.numbers[at]}": self.states[at] for at in (0, -1)}}
        rounds = {"x": "rounds learned", "at": self.numbers, "by_step": False}
        return (line("Texts of the clients' topics", "%", {"of all": 100 * np.array(self.topics)}, **rounds,
                     caption="A text of two topics does not count."),
                *([line("Privacy spent", "epsilon", {"so far": [epsilon(self.sigma, one) for one in self.numbers]},
                        **rounds, caption="With this noise, delta 1 in 10,000.")] if self.sigma else []),
                Chart("scatter", "Where texts lie in the embedding", "first direction", "second direction",
                      {name: ((one - middle) @ axes.T).astype(np.float32) for name, one in seen.items()},
                      caption="The two main directions; candidates should move to where the clients' notes are."))

    def facts(self) -> dict[str, Fact]:
        spent = {"epsilon": Fact("Privacy that eight such rounds spend", round(epsilon(self.sigma, ROUNDS), 2),
                                 "epsilon", "lower")} if self.sigma else {}
        return {"topics": Fact("Texts of the clients' topics, at the end", 100 * self.topics[-1], "%", "higher"),
                "before": Fact("Texts of the clients' topics, at first", 100 * self.topics[0], "%"),
                "recovered": Fact("Pairs ordered as without noise", 100 * float(np.mean(self.kept)), "%", "higher"),
                "sigma": Fact("Noise on the sum of scores", round(self.sigma, 2), "standard deviation"), **spent}

    def sentence(self) -> str:
        first, last, kept = map(percent, (self.topics[0], self.topics[-1], float(np.mean(self.kept))))
        how = f"at epsilon {epsilon(self.sigma, ROUNDS):.2g} noise left" if self.sigma else "without noise,"
        return (f"{first} of the texts were of the clients' topics before the first round, {last} after "
                f"{self.numbers[-1]} rounds; {how} {kept} of the pairs in order. The server has read no notes.")


def told(job: Job, base, writers: Mapping[int, Bundle], budget: float) -> Iterator[Event]:
    """writers: number of rounds learned -> the network of then; base embeds all texts."""
    p, reader, sigma = job.params, Reader(job.bundle, job.subject, ROOM, whole=True), noise_for(budget)
    if len(reader.prompt) > LONGEST - ROOM:
        raise SubjectError(f"Please type at most {LONGEST - ROOM - 1} words: a text has {LONGEST}.")
    fed, page = federation(base.model, base.tokenizer, p.clients), ScoredTexts(reader, p.each)
    asked, dice = [job.subject.text.strip(), *openings(ASKED - 1)], job.generator()
    seen, public, rejected = Rounds(list(writers), sigma), None, p.each // 2 if p.rejected == "middle" else p.each - 1
    yield page.open(len(writers))
    for number, writer in writers.items():
        began, name, meter = time.perf_counter(), f"round {number}", Meter(writer.model)
        rows = candidates(writer.model, reader.tokenizer, asked, p.each, 1000 * job.seed + 1 + number)
        phi = fed.phi(rows)
        clean, noisy = (one.view(ASKED, p.each) for one in fed.told(phi, sigma, dice))
        kept = recovered(clean, pairs(noisy, rejected)).tolist()
        said = [one[page.first - 1:].cpu() for one in read(writer.model, [[END, *ids] for ids in rows[: p.each]])]
        if public is None and all(len(ids) < page.first for ids in rows[: p.each]):
            raise SubjectError("No text goes on behind these words; please type how a story begins.")
        public = said[0][0] if public is None else public
        seen.states.append(phi.numpy())
        seen.topics.append(float(topical(reader.tokenizer, rows).mean()))
        seen.kept += kept
        link = page.show([ids[page.first - 1:] for ids in rows[: p.each]], clean[0], noisy[0], rejected, said,
                         name, public)
        meter.add(len(rows), 0, LONGEST, len(rows) * LONGEST, 0, 1000 * (time.perf_counter() - began))
        yield page.step(name, edges={"pair": link}, cost=meter.cost, note=(
            f"lines 1 and {rejected + 1} are the pair{'' if kept[0] else ', without noise the other way round'}"))
    yield Close("sample", seen.sentence(), seen.charts(fed.noted(NOTES).numpy()), seen.facts())

