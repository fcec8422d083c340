"""A maze, what is known of its path, and what a network says of the rest.

Letters: B masks, N tokens, P places of a path and its end, K of them that are asked for, V words, C cells.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import kernels
from models.claims import maze_lab
from models.engine.method import Job
from models.engine.recording import array
from models.loops.sample.cached_lm import log_probabilities
from models.trace.subject import SubjectError, nothing_behind
from models.worlds import mazes
from models.worlds.mazes import CELLS, FIRST, PREFIX
from models.worlds.world import END, PAD

LEFT, SUREST, AT_ONCE = "left to right", "surest first", "all at once"


def drawn_visible(ids: Tensor, generator: torch.Generator, rate: float | None = None) -> Tensor:
    """bool [B, N] of ids [B, N]: a rate for each maze, unless one is given, and a draw for each token of its path.
    Padding is not visible."""
    rates = torch.rand(len(ids), 1, generator=generator)
    visible = torch.rand(ids.shape, generator=generator) < (rates if rate is None else rate)
    visible[:, :PREFIX] = True
    return visible & (ids != PAD)


class Said(NamedTuple):
    """What was said at K places of the path (0: the start): logits [K, V], in so many ms; which were filled in."""

    places: list[int]
    logits: Tensor
    ms: float
    taken: tuple[int, ...] | list[int] = ()

    @property
    def heat(self) -> np.ndarray:
        """The highest probability [C] of each cell at any of these places, 0 where there are none."""
        if not self.places:
            return np.zeros(len(CELLS))
        return array(log_probabilities(self.logits).exp())[:, FIRST : FIRST + len(CELLS)].max(0)


class MazeWalk:
    """The subject's maze, its true tokens and those that stand so far, [1, N]; which are visible, bool [1, N]."""

    def __init__(self, job: Job):
        try:
            self.maze = mazes.read(job.subject.text).truth
        except ValueError as wrong:
            raise SubjectError(str(wrong)) from wrong
        nothing_behind(job.subject.text, mazes.PATH)
        self.job, self.model, self.end = job, job.model, PREFIX + len(self.maze.path)
        self.sees_ahead = maze_lab.sees_ahead(job.model)
        self.true = torch.from_numpy(mazes.ids(self.maze))[None]
        self.ids, self.visible = self.true.clone(), self.drawn(job.params.visible)
        if job.choice is not None:  # a visitor stands at the start and knows no more
            self.visible = torch.arange(self.true.shape[1])[None] <= PREFIX

    def drawn(self, rate: float) -> Tensor:
        """The same draws for every rate: what is visible at a lower one is so at a higher one, too."""
        return drawn_visible(self.true, self.job.generator(), rate)

    @property
    def hidden(self) -> list[int]:
        """Places of the path that are not known, up to its end where that is."""
        known, ended = self.visible[0, PREFIX:], (self.ids == END)[0, PREFIX:]
        over = (known & ended).int().cumsum(0) > 0
        return torch.nonzero(~known & ~over)[:, 0].tolist()

    def said(self) -> Said:
        """Of all hidden places up to where it sees the end; a causal network, of the first one."""
        hidden, began = self.hidden if self.sees_ahead else self.hidden[:1], time.perf_counter()
        found = maze_lab.told(self.model, self.ids, self.visible)[0, hidden]
        over = (found.argmax(-1) == END).int().cumsum(0)
        count = int((over == 0).sum()) + int(over.any())
        return Said(hidden[:count], found[:count], 1e3 * (time.perf_counter() - began))

    def told(self, visible: Tensor) -> tuple[Tensor, np.ndarray]:
        """Logits [P, V] of the path's places and of its end, the visible true tokens [1, N] given (to a causal network
        all before); and the probability [P] of what is true there."""
        logits = maze_lab.told(self.model, self.true, visible)[0, : self.end + 1 - PREFIX]
        chance = log_probabilities(logits).exp()[range(len(logits)), self.true[0, PREFIX : self.end + 1]]
        return logits, array(chance)

    def steps(self, order: str) -> Iterator[Said]:
        """Fills in the likeliest token of a place, step by step, until nothing is hidden."""
        while self.hidden:
            said = self.said()
            sure = kernels.vocab_stats(said.logits, top_k=1).top_logp[:, 0]
            rows = {LEFT: [0], SUREST: [int(sure.argmax())], AT_ONCE: [*range(len(said.places))]}[order]
            yield self.put(said, [said.places[row] for row in rows], said.logits[rows].argmax(-1).tolist())

    def put(self, said: Said, places: list[int], ids: list[int]) -> Said:
        at = torch.tensor(places) + PREFIX
        self.ids[0, at], self.visible[0, at] = torch.tensor(ids), True
        return said._replace(taken=places)

    def chosen(self, picks: list[int]) -> Iterator[Said]:
        """A visitor's walk; nothing of what the network says is shown meanwhile."""
        for place, cell in enumerate(self.maze.walked([id - FIRST for id in picks])[0][1:], 1):
            yield self.put(self.said(), [place], [FIRST + cell])

    def reached(self) -> int:
        """How many tokens of the path, the end one of them, are right before the first that is not or is not known."""
        good = (self.visible & (self.ids == self.true))[0, PREFIX : self.end + 1]
        return int(good.int().cumprod(0).sum())
