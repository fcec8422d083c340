"""MLM-U, masks at a uniform rate: a path is learned from any share of itself (arXiv 2412.05117;
facebookresearch/maze_navigation_MLMU, read and not copied).

A visible share v ~ U(0, 1) of the path is drawn for each maze, and the network says every hidden cell from its place
and what is visible: many steps ahead, and behind (network.py). It is used like the control, from left to right.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.engine.method import Card, Control, Event, Job, Method, Options, Turn
from models.papers.maze_mlmu import record
from models.papers.maze_mlmu.walk import AT_ONCE, LEFT, SUREST, MazeWalk
from models.trace import Trace
from models.trace.params import Choice, Span
from models.trace.subject import Example
from models.worlds.mazes import CELLS, FIRST, LONGEST

MLMU, AR = "maze-mlmu-1", "maze-ar-1"


@dataclass(frozen=True)
class Params:
    visible: Annotated[float, Span(0.0, 0.9, 0.1, "Visible share of the path", "So much of the path is given, at cells "
                                   "drawn at random. Mask shows five shares whatever stands here.")] = 0.0
    order: Annotated[str, Choice((LEFT, SUREST, AT_ONCE), "Order", "The paper walks from left to right; the others are "
                                 "ours. The control can only walk from left to right.")] = LEFT


def run(job: Job) -> Iterator[Event]:
    yield from record.walked(MazeWalk(job))
    if job.choice is None:
        yield from record.hidden(MazeWalk(job))
        yield from record.looked(MazeWalk(job))


def ways(trace: Trace) -> Options | None:
    """Your turn: the cells that are open at the start, or at a fork."""
    last = trace.steps[-1]
    cells = np.flatnonzero(last.fields.get("open", np.zeros(1)) == 1).tolist()
    if not cells:
        return None
    return Options(cells[0], tuple(FIRST + cell for cell in cells), tuple(CELLS[cell] for cell in cells))


METHOD = Method(
    bound="its mazes are written in the tokens that its own networks learned",
    card=Card(
        id="maze-mlmu", title="MLM-U", tabs=("unmask", "mask", "attend"), arxiv="2412.05117", year=2024, seed="B",
        summary="Learns paths through mazes with a random share of the path hidden, anything from nothing to all of "
                "it, and so to say many steps ahead and behind. Who learns the next cell alone, the paper finds, "
                "takes wrong ways at forks of large mazes.",
        flow="maze > *encoder: only visible tokens are keys; path > *a visible share, uniform > encoder; *places > "
             "*decoder of places > every hidden cell; encoder > decoder of places",
        look_at="It opens on a maze in which MLM-U finds the way and the control leaves it at the fork. The next one "
                "is the other way round, and so are most that tell them apart: of 1,000 mazes this small the control "
                "solves 93 %, MLM-U 70 % (the claim). At step 1 MLM-U speaks of all cells, the control of one.",
        not_covered="Mazes as large as those on which the paper finds its gap (10 x 10 and more), A* mazes, several "
                    "trainings, longer ones, less data, other ways of masking (forward only, from both ends), "
                    "weighting by a maze's own count of hidden cells.",
        unverified="Ours: 4 x 4 cells and paths of at most 12; fresh mazes all along instead of a set of 100,000; an "
                   "opening is one token (the paper: two cells and a sign) that begins as the sum of its cells; "
                   "Llama's blocks (RMSNorm, SwiGLU, no biases) in both networks, GELU and ReLU in the reference; Muon "
                   "beside AdamW. The reference's control is as deep as encoder and decoder together, and so is ours."),
    params=Params, accepts="text", checkpoints=(MLMU, AR), run=run,
    control=Control(AR, title="Next cell only"),
    fixed=dict.fromkeys(("unmask", "mask", "attend"), "A cell follows from the maze: write another one, or let more of "
                        "the path be visible, and run again."),
    examples=(
        Example("control", "Only MLM-U finds the way", "c2-d2 c3-d3 a2-b2 b1-c1 a4-b4 b1-b2 d1-d2 a3-b3 a1-a2 b3-c3 "
                "c4-d4 d3-d4 c1-d1 b4-c4 a2-a3 from b2 to c3 path"),
        Example("lost", "Only the control finds it", "c3-d3 b1-b2 a1-b1 d2-d3 b4-c4 d1-d2 a4-b4 c4-d4 c1-c2 d3-d4 "
                "a2-a3 a1-a2 a3-b3 c1-d1 b3-c3 from a1 to c2 path"),
        Example("near", "Five cells, two forks", "a3-b3 a1-b1 a3-a4 b4-c4 c3-c4 c2-d2 b2-c2 c3-d3 c4-d4 c1-c2 b1-c1 "
                "b3-b4 d1-d2 a2-a3 a1-a2 from d2 to a1 path"),
        Example("far", "Eight cells, two forks", "b4-c4 c3-c4 c1-d1 a3-a4 a1-a2 a3-b3 a4-b4 c2-c3 c2-d2 d2-d3 a1-b1 "
                "b1-b2 c4-d4 b2-b3 b1-c1 from c4 to c1 path")),
    turn=Turn("Choose a way wherever there are several; corridors are walked by themselves, and the first wrong way "
              "ends it.", "right", lambda job: (1,) * LONGEST, ways, length=""))
