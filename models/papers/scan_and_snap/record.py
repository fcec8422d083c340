"""What is kept of the training: a list of words, tinted by the attention that they get, one step per iteration of SGD.

Letters: T iterations, the start included, F facts, M words.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from models.engine.recording import line, table
from models.engine.statistics import spearman
from models.loops.attend.loop import links
from models.trace import CODE, Canvas, Chart, Cost, Fact, Field, Step
from models.worlds.topics import COMMON, FactSet

FIELDS = {"attention": Field("Attention", "%", 0.0),
          "often": Field("Share of the words before a fact", "%", 0.0)}
STILL = 0.05  # the snap: the common words' attention moves less than this share of its fastest
LINKS = 12  # of each query


def canvas(world: FactSet) -> Canvas:
    """Common words, a line of each topic's own, verbs, topics."""
    verbs, topics = int(world.query.min()), int(world.next.min())
    ends = {len(COMMON) - 1, *world.own[:, -1].tolist(), topics - 1}
    roles = np.array(["distinct"] * len(world.words), object)
    roles[:len(COMMON)], roles[verbs:topics], roles[topics:] = "common", "query", "next"
    labels = tuple(word + ("\n" if i in ends else " ") for i, word in enumerate(world.words))
    return Canvas("list", labels, roles=tuple(roles))


@dataclass
class SnapRecord:
    """Fills with what the network's own table says, iteration by iteration. c: attention [F, M] of each."""

    world: FactSet
    c: list[np.ndarray] = field(default_factory=list)

    def step(self, attention: np.ndarray, cost: Cost) -> Step:
        self.c.append(attention)
        mean, often = self.by_word(attention), self.by_word(self.world.chance)
        state = np.full(len(mean), CODE["visible"], np.uint8)
        state[self.world.query.min():] = CODE["context"]
        most, least = self.ranked[0], self.ranked[-1]
        common = 100 * attention[:, :len(COMMON)].sum(1).mean()
        return Step(f"iteration {len(self.c) - 1}" if len(self.c) > 1 else "before training", state, "snapshot",
                    fields={"attention": mean.astype(np.float16), "often": often.astype(np.float16)},
                    edges={"attention": links(self.world.query, attention, LINKS)}, cost=cost,
                    note=f"the common words get {common:.0f} % of the attention, “{self.world.words[most]}” "
                         f"{mean[most]:.1f} %, “{self.world.words[least]}” {mean[least]:.1f} %")

    def by_word(self, attention: np.ndarray) -> np.ndarray:
        """Percent [M] in the contexts where a word can stand; NaN for verbs and topics, which are no keys."""
        where = (self.world.chance > 0).sum(0)
        return np.where(where > 0, 100 * attention.sum(0) / np.maximum(where, 1), np.nan)

    @property
    def ranked(self) -> np.ndarray:
        """The first topic's own words, commonest first."""
        own = self.world.own[0]
        return own[np.argsort(-self.world.chance[0, own], kind="stable")]


@dataclass(frozen=True, eq=False)
class AttentionHistory:
    """Statistics of a finished training from attention c [T, F, M]; NaN where one is not defined."""

    world: FactSet
    c: np.ndarray

    @cached_property
    def common(self) -> np.ndarray:
        """Attention [T] on the common words together, mean over facts."""
        return self.c[:, :, :len(COMMON)].sum(2).mean(1)

    @property
    def reach(self) -> float:
        """The most that the attention of any word moved."""
        return float(np.abs(self.c - self.c[0]).max())

    @property
    def growth(self) -> np.ndarray:
        """Final over first attention [F, D] of each topic's own words."""
        return np.stack([self.c[-1, fact, own] / self.c[0, fact, own] for fact, own in enumerate(self.world.own)])

    @property
    def often(self) -> np.ndarray:
        """How likely each of them is [F, D]."""
        return np.take_along_axis(self.world.chance, self.world.own, 1)

    @property
    def rho(self) -> float:
        """Rank correlation of how often an own word comes with how much it gained, mean over facts. A word that was
        put into all facts is no longer one's own."""
        keep = self.world.own != (-1 if self.world.shared is None else self.world.shared)
        return float(np.mean([spearman(often[own], gain[own]) for often, gain, own in
                              zip(self.often, self.growth, keep)]))

    @property
    def first_half(self) -> float:
        """Share of the common words' change that was made in the first half of the steps."""
        change = self.common[0] - self.common[-1]
        return float((self.common[0] - self.common[len(self.common) // 2]) / change) if abs(change) > 1e-3 else np.nan

    @cached_property
    def speed(self) -> np.ndarray:
        """What the common words lose in each step [T - 1]."""
        return -np.diff(self.common)

    @property
    def snap(self) -> int | None:
        """The first iteration behind the fastest whose change is below STILL of it; None: still moving."""
        fastest = int(self.speed.argmax())
        calm = np.flatnonzero(self.speed[fastest:] < STILL * self.speed[fastest])
        return fastest + int(calm[0]) + 1 if len(calm) and self.speed[fastest] > 0 else None

    @cached_property
    def entropy(self) -> np.ndarray:
        """Of c, in nats, mean over facts [T]."""
        return -(self.c * np.log(np.where(self.c > 0, self.c, 1.0))).sum(2).mean(1)


def facts(found: AttentionHistory) -> dict[str, Fact]:
    world = found.world
    told = {"first": Fact("Attention on the common words, start", 100 * found.common[0], "%"),
            "last": Fact("Attention on the common words, end", 100 * found.common[-1], "%", "lower"),
            "rho": Fact("How often a word comes, against its gain", found.rho, "rank correlation", "higher"),
            "half": Fact("Change made in the first half", 100 * found.first_half, "%", "higher"),
            "snap": Fact("Attention hardly moves from iteration", found.snap or np.nan),
            "peak": Fact("Largest attention of one word", 100 * found.c[-1].max(), "%"),
            "entropy": Fact("Attention entropy, end", found.entropy[-1], "nats")}
    if world.shared is not None:
        told["shared"] = Fact(f"“{world.words[world.shared]}”, put into all facts: attention, end over start",
                              float(found.c[-1, 0, world.shared] / found.c[0, 0, world.shared]), "x")
    return {name: replace(one, value=float(one.value)) for name, one in told.items() if np.isfinite(one.value)}


def charts(found: AttentionHistory, ranked: np.ndarray) -> tuple[Chart, ...]:
    """ranked: the first topic's own words, commonest first."""
    name, words = " ".join(found.world.facts[0]), found.world.words
    ends = {f"“{words[word]}” ({title})": 100 * found.c[:, 0, word]
            for title, word in (("commonest", ranked[0]), ("rarest", ranked[-1]))}
    return (
        line(f"Attention before “{name}”", "%", {"common words": 100 * found.c[:, 0, :len(COMMON)].sum(1), **ends}),
        line("What the common words lose per iteration", "points", {"loss of attention": 100 * found.speed}, first=1,
             reference=100 * STILL * max(float(found.speed.max()), 0.0),
             caption="The snap is where it falls below the dotted line, a twentieth of its fastest."),
        line("Attention entropy", "nats", {"mean over facts": found.entropy}),
        matrix(found, ranked, name), gains(found))


def matrix(found: AttentionHistory, ranked: np.ndarray, name: str) -> Chart:
    """The paper's figure, turned so that time runs to the right."""
    rows = [*range(len(COMMON)), *ranked]
    return table(f"Attention before “{name}”, word by word", "iteration", "word", 100 * found.c[:, 0, rows].T,
                 [str(t) for t in range(len(found.c))], [found.world.words[i] for i in rows], unit="attention, %",
                 caption="Above the common words, below the topic's own, commonest first.")


def gains(found: AttentionHistory) -> Chart:
    """Own words by how often they come; beside them the common ones."""
    first, last = (found.c[t, :, :len(COMMON)] for t in (0, -1))
    common = np.stack([100 * found.world.chance[:, :len(COMMON)].ravel(), (last / first).ravel()], 1)
    own = np.stack([100 * found.often.ravel(), found.growth.ravel()], 1)
    return Chart("scatter", "Who gains attention", "share of a text's words (%)", "attention, end over start (x)",
                 {"words of one topic": own.astype(np.float32), "common words": common.astype(np.float32)},
                 caption="The more often a word comes with one topic, the more it gains; common words come as often "
                         "and lose.")
