"""A walk through a maze as records: step by step (Unmask), with any share of the path hidden (Mask), and which cells a
step looks at (Attend).

Letters: N tokens, P places of a path and its end, C cells, K places, L layers, H heads, R queries.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from models.claims import maze_lab
from models.engine.method import Close, Emit, Event
from models.engine.recording import Filling, array, line
from models.loops.attend import loop
from models.loops.attend.layers import gathered
from models.papers.maze_mlmu.walk import MazeWalk, Said
from models.trace import CODE, Canvas, Cost, Fact, Field
from models.trace.percent import percent
from models.worlds import mazes
from models.worlds.mazes import CELLS, FIRST, PREFIX

COORDS = np.argwhere(np.ones((mazes.SIDE, mazes.SIDE))).astype(np.float32)  # [C, 2]
FIELDS = {"ahead": Field("Highest chance of this cell at a step that is still open", "probability", 0.0, 1.0),
          "open": Field("Where one may go from here", "1 yes", 0.0, 1.0)}
SURE = {"sure": Field("Chance of the true cell at its step", "probability", 0.0, 1.0)}
RATES = (0.0, 0.2, 0.4, 0.6, 0.8)  # visible shares of Mask


def named(id: int) -> str:
    """How a token reads on the page."""
    return "the end" if id < FIRST else mazes.WORDS[id - FIRST]


def board(walk: MazeWalk, said: Said | None = None, trail: bool = True) -> np.ndarray:
    """The maze with the cells that stand by now, and darker what is likely ahead."""
    known = walk.ids[0, PREFIX:][walk.visible[0, PREFIX:]] - FIRST
    steps = [cell for cell in known.tolist() if 0 <= cell < len(CELLS)] if trail else ()
    return mazes.board(walk.maze, None if said is None else said.heat, steps).picture()


def canvas(walk: MazeWalk) -> Canvas:
    return Canvas("board", CELLS, shape=(mazes.SIDE, mazes.SIDE), picture=board(walk, trail=False))


def fork(walk: MazeWalk, place: int) -> str:
    return ", where it forks" if place - 1 in walk.maze.forks else ""


# --- Unmask: step by step ------------------------------------------------------------------------------------------

def walked(walk: MazeWalk) -> Iterator[Event]:
    """The maze before any step, then one step for each move: the network's, or those of a visitor."""
    choice, path, facts = walk.job.choice, walk.maze.path, known(walk)
    page = Filling("unmask", canvas(walk), FIELDS, named, fleeting=tuple(FIELDS))
    page.state[:] = CODE["known"]
    given = [cell for place, cell in enumerate(path) if walk.visible[0, PREFIX + place]]
    page.fill(given, [FIRST + cell for cell in given], "context")
    yield page.open(1 + len(walk.hidden))
    many = len((said := walk.said()).places)
    yield shown(walk, page, said, "the maze", f"the darker a cell, the surer the network is of it at {many} open step"
                + "s" * (many > 1) if many else "all of it is given")
    for said in walk.steps(walk.job.params.order) if choice is None else walk.chosen([pick for pick, in choice]):
        yield moved(walk, page, said)
    good = walk.reached()
    right = Fact("Cells of the path before the first wrong one", 100 * min(good / len(path), 1.0), "%", "higher")
    last, whole = CELLS[path[min(max(good, 1), len(path)) - 1]], good + (choice is not None) > len(path)
    yield Close("unmask", "The whole path is right." if whole else
                f"Right up to {last}, {min(good, len(path))} of {len(path)} cells{fork(walk, good)}. Only the whole "
                "path counts, cell by cell, and its end.", facts={"right": right, **facts})


def known(walk: MazeWalk) -> dict[str, Fact]:
    """What can be said before any step; nothing to a visitor."""
    found = {}
    if walk.job.choice is None and walk.maze.forks:
        ahead = walk.maze.forks[0] + 1
        chance = walk.told(maze_lab.before(walk.true, PREFIX + ahead))[1][ahead]
        found["fork"] = Fact("Chance of the right way at the first fork, walked up to there", 100 * float(chance), "%",
                             "higher")
    if walk.job.choice is None and walk.sees_ahead:
        sharp = walk.told(walk.visible)[1].mean()
        found["sharp"] = Fact("Chance of the true cells before any step", 100 * float(sharp), "%", "higher")
    return found


def shown(walk: MazeWalk, page: Filling, said: Said, label: str, note: str) -> Emit:
    """A step with what the network says of the others; a visitor sees where he may go instead."""
    if walk.job.choice is None:
        page.note(range(len(CELLS)), ahead=said.heat)
        return page.step(label, picture=board(walk, said), cost=Cost(1, ms=said.ms), note=note)
    stood, open_to = walk.maze.walked([pick - FIRST for pick, in walk.job.choice])
    page.note(open_to if len(stood) == walk.visible[0, PREFIX:].sum() else [], open=1)
    return page.step(label, picture=board(walk), note="" if label == "the maze" else note)


def moved(walk: MazeWalk, page: Filling, said: Said) -> Emit:
    """One or several places filled in: rightly, or with another token than the path's."""
    places = PREFIX + torch.tensor(said.taken)
    ids, true = walk.ids[0, places].tolist(), walk.true[0, places].tolist()
    at = [id - FIRST if 0 <= id - FIRST < len(CELLS) else walk.maze.goal for id in ids]
    for id, right, cell in zip(ids, true, at):
        if id == FIRST + cell:
            page.fill([cell], [id], "new" if id == right else "refused")
    if walk.job.choice is None:
        page.guess(at, said.logits[[said.places.index(place) for place in said.taken]], ids, "this step", measure=False)
    wrong = [f"{named(id)} is not on the path at step {place}{fork(walk, place)}"
             for place, id, right in zip(said.taken, ids, true) if id != right]
    label = f"step {said.taken[0]}: {named(ids[0])}" if len(ids) == 1 else f"{len(ids)} steps at once"
    return shown(walk, page, said, label, "".join(wrong[:1]))


# --- Mask: any share of the path -----------------------------------------------------------------------------------

def hidden(walk: MazeWalk) -> Iterator[Event]:
    """More and more of the path is visible, and every hidden cell is said at once."""
    cells, shares = np.array(walk.maze.path), []
    page = Filling("mask", canvas(walk), SURE, named, fleeting=("sure",))
    yield page.open(len(RATES))
    for rate in RATES:
        seen = walk.drawn(rate)
        known = array(seen[0, PREFIX : walk.end], bool)
        (logits, sure), there = walk.told(seen), np.flatnonzero(~known)
        said = np.where(known, FIRST + cells, array(logits[: len(cells)].argmax(-1), np.int32))
        right = said == FIRST + cells
        page.state[:] = CODE["visible"]
        page.fill(cells, said, np.where(known, "context", np.where(right, "accepted", "refused")))
        page.note(cells[there], sure=sure[there])
        if len(there):
            page.guess(cells[there], logits[there], said[there], "hidden steps", measure=False)
        shares.append(float(right[there].mean()) if len(there) else np.nan)
        yield page.step(f"{percent(rate)} visible", picture=board(walk, trail=False),
                        note=f"{right[there].sum()} of {len(there)} hidden cells are right")
    reads = ("With nothing of the path visible" if walk.sees_ahead else
             "Taught to say the next cell alone, it reads all cells before each, hidden or not; then")
    yield Close("mask", f"{reads} {percent(shares[0])} of the cells are right at once.", (
        line("Hidden cells right, by what is visible", "share", {"right": shares}, at=RATES, by_step=False,
             x="visible share of the path"),),
        {"none": Fact("Cells right at once, none visible", 100 * shares[0], "%", "higher")})


# --- Attend: which cells a step looks at ---------------------------------------------------------------------------

def looked(walk: MazeWalk) -> Iterator[Event]:
    """The steps behind the start, each as the cell it is to name; an opening counts half for each of its two cells."""
    path = walk.maze.path
    layout = loop.TokenLayout(canvas(walk), np.arange(len(CELLS)), COORDS, "cells", "the words from, to and path")
    rows, way = maze_lab.looked(walk.model, walk.true, walk.visible, np.arange(1, len(path)))
    over = rows @ mazes.of_cells(walk.maze)  # [L, H, R, C]
    on_path = over[..., list(path)].sum(-1).mean((1, 2))  # [L]
    asked = path[walk.maze.forks[0] + 1 if walk.maze.forks else 1]
    sentence = (f"The steps give {percent(on_path[0])} of their attention to cells of the path in the first layer, "
                f"{percent(on_path[-1])} in the last; {percent(len(path) / len(CELLS))} of the cells are on it.")
    chart = line("Attention on cells of the path", "share", {"mean over heads and steps": on_path}, x="layer", first=1,
                 reference=len(path) / len(CELLS), by_step=False, caption="Dashed: the share of cells on the path.")
    found = {"path": Fact("Attention on cells of the path, last layer", 100 * float(on_path[-1]), "%"),
             "even": Fact("The same if it looked at all cells alike", 100 * len(path) / len(CELLS), "%")}
    yield from loop.record(layout, gathered(over, path[1:], COORDS, way), sentence=sentence, charts=(chart,),
                           facts=found, state=loop.marked(len(CELLS), asked))
