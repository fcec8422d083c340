"""A game and a network that reads it, as records: how the board stands after every move (Sample), and how it comes into
focus layer by layer (Attend).

Letters: T moves, S squares, C classes, L layers, H heads, D width, F features, V words, h w pixels.
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

import kernels
from models.backbones.layer_lens import residuals
from models.engine.method import Close, Emit, Event, Job
from models.engine.recording import Filling, array, distribution, line, table
from models.loops.attend.layers import WRONG, by_layer, loudest, scattered
from models.loops.attend.loop import TokenLayout
from models.loops.sample.cached_lm import Stream, log_probabilities
from models.papers.othello.network import FIRST, LENS, MINE
from models.trace import CODE, Canvas, Chart, Fact, Field
from models.trace.percent import fine_percent, percent
from models.trace.subject import SubjectError
from models.worlds import othello
from models.worlds.boards import likely
from models.worlds.world import END

SIDE = othello.SIDE
CANVAS = Canvas("board", othello.SQUARES, shape=(SIDE, SIDE))
COORDS = np.argwhere(np.ones(CANVAS.shape)).astype(np.float32)  # [S, 2]
FIELDS = {"wrong": WRONG, "next": Field("Chance of the next move", "probability", 0.0, 1.0),
          "legal": Field("Where the next move may go", "1 yes, 0 no", 0.0, 1.0)}
NAMES = ("empty", "mine", "theirs")
KINDS = ("corner", "edge", "inside", "centre")
painted = partial(likely, SIDE, SIDE)
PAIRS, TELLING = 50, 0.7  # of features and squares: the best of a layer, and the AUROC they need, as in the paper


class Match:
    """The moves so far, what the network says of the next ones, and what its states tell of the board."""

    def __init__(self, job: Job):
        try:
            self.moves = othello.squares(job.subject.text)
        except ValueError as wrong:
            raise SubjectError(str(wrong)) from wrong
        self.job, self.lens, self.stream = job, job.companion(LENS).model, Stream(job.model)
        self.said = self.stream.read([self.ids], every=True)[0].float()  # [T + 1, V], of the move behind each
        self.game = othello.replayed(self.moves)

    @property
    def ids(self) -> list[int]:
        return [END, *(FIRST + move for move in self.moves)]

    def put(self, square: int) -> None:
        self.moves.append(square)
        self.game = othello.replayed(self.moves)
        self.stream.push([FIRST + square])
        self.said = torch.cat([self.said, self.stream.logits])

    def states(self) -> torch.Tensor:
        """[T + 1, L + 1, D]: before every move, and behind the last."""
        return residuals(self.job.model, torch.tensor([self.ids]))[0]

    @torch.no_grad()
    def read(self) -> np.ndarray:
        """Chances [T + 1, L + 1, S, C] of empty, black and white, from the probes of this run."""
        logits = self.lens.read(self.states(), self.job.params.coding)
        found = array(log_probabilities(logits).exp())
        if self.job.params.coding == MINE:  # after an odd number of moves it is white's turn
            found[1::2] = found[1::2][..., [0, 2, 1]]
        return found

    def true(self) -> np.ndarray:
        """[T + 1, S]: 0 empty, 1 black, 2 white."""
        return othello.coloured(self.game.boards)[0, : len(self.moves) + 1]

    def moving(self) -> np.ndarray:
        """Chances [T + 1, S] of every square to be moved to."""
        return array(log_probabilities(self.said).exp())[:, FIRST:]


# --- Sample: move by move ------------------------------------------------------------------------------------------

def written(match: Match) -> Iterator[Event]:
    """One step for each typed move, then for each that the network draws, or the visitor names."""
    job, dice = match.job, match.job.generator()
    count = job.params.moves if job.choice is None else len(job.choice)
    fleeting, legal = ("next", "legal"), []
    page = Filling("sample", CANVAS, FIELDS, job.tokenizer.decode, then="accepted", fleeting=fleeting)
    page.state[:] = np.where(match.true()[0] > 0, CODE["context"], CODE["visible"])
    yield page.open(len(match.moves) + 1 + count)
    yield from replayed(match, page)
    for at in range(count):
        id = int(kernels.draw(match.said[-1:], kernels.Sampler(job.params.temperature), dice))
        id = id if job.choice is None else job.choice[at][0]
        may, square = match.game.legal[0, len(match.moves)], id - FIRST
        legal.append(bool(may[square]) if square >= 0 else id == END and not may.any())
        said = {"next move": distribution(match.said[-1:], [square], [id])} if square >= 0 else {}  # the end has none
        if legal[-1] and square >= 0:
            match.put(square)
            page.fill(square, [id])
            yield after(match, page, len(match.moves), match.read()[-1], said)
            continue
        if square >= 0 and match.true()[-1][square] == 0:
            page.fill(square, [id], "refused")
        if square < 0:
            page.note(range(SIDE * SIDE), next=match.moving()[-1])
        note = "rightly: the game is over" if legal[-1] else "no legal move, and the end of this run"
        note += f"; it had {fine_percent(float(log_probabilities(match.said[-1]).exp()[id]))}"
        yield page.step(f"{len(match.moves) + 1}: {job.tokenizer.decode([id])}", distributions=said, note=note,
                        picture=painted(np.eye(3)[match.true()[-1]]), cost=match.stream.meter.lap())
        break
    yield ended(match, legal)


def replayed(match: Match, page: Filling) -> Iterator[Emit]:
    """The board at the start, and after every typed move; what the network would have said of each."""
    found = match.read()
    yield after(match, page, 0, found[0], {})
    for at, square in enumerate(match.moves):
        page.fill(square, [FIRST + square], "context")
        yield after(match, page, at + 1, found[at + 1], {"next move": distribution(
            match.said[at : at + 1], [square], [FIRST + square])})


def after(match: Match, page: Filling, at: int, chances: np.ndarray, said: dict) -> Emit:
    """The board after so many moves, how far off its probe is [S], and what the network says of the next move."""
    every, true, legal, chance = range(SIDE * SIDE), match.true()[at], match.game.legal[0, at], match.moving()[at]
    page.note(every, wrong=1 - chances[match.job.params.layer][every, true], next=chance, legal=legal)
    name = f"{at}: {othello.SQUARES[match.moves[at - 1]]}" if at else "the start"
    note = f"{('black', 'white')[at % 2]} to move: {percent(chance[legal].sum())} of the probability is on legal moves"
    return page.step(name, distributions=said, picture=painted(np.eye(3)[true]), cost=match.stream.meter.lap(),
                     note=note if legal.any() else "nobody is to move: the game is over")


def ended(match: Match, legal: list[bool]) -> Close:
    chances, true, may = match.read(), match.true(), match.game.legal[0, : len(match.moves) + 1]
    discs, playing, layer = true > 0, may.any(-1), match.job.params.layer
    right = [float((read.argmax(-1) == now)[here].mean()) for read, now, here in zip(chances[:, layer], true, discs)]
    mass = np.where(playing, (match.moving() * may).sum(-1), np.nan)
    facts = {"legal": Fact("Legal moves among those added", 100 * float(np.mean(legal or [1])), "%", "higher"),
             "mass": Fact("Probability on legal moves", 100 * float(np.nanmean(mass)), "%", "higher"),
             "right": Fact(f"Discs read right, layer {layer}", 100 * float(np.mean(right)), "%", "higher")}
    charts = (line("What the network knows, move by move", "share", {
        "probability on legal moves": mass, f"discs read right, layer {layer}": right},
        caption="Only the list of moves was read; nobody told it of boards."),)
    sentence = (f"{sum(legal)} of {len(legal)} added moves are legal; {percent(np.nanmean(mass))} of the probability "
                f"lies on legal moves. A linear map of layer {layer} reads {percent(np.mean(right))} of the discs.")
    return Close("sample", sentence, charts, facts)


# --- Attend: layer by layer ----------------------------------------------------------------------------------------

def focused(match: Match) -> Iterator[Event]:
    """The board after the typed moves as it is read before the first block and behind each, and who looks at whom."""
    model, layer, true = match.job.model, match.job.params.layer, match.true()[-1]
    ids = torch.tensor([match.ids])
    looked = scattered(model, lambda: model(ids, use_cache=False), match.moves, COORDS)
    layout = TokenLayout(CANVAS, np.arange(len(true)), COORDS, "squares", "the start of the game")
    maps = loudest(match.lens, match.states()[-1, layer], layer, match.job.params.run - 1, NAMES, range(1, SIDE + 1),
                   "abcdef")
    squares = {"discs": true > 0, "empty squares": true == 0}
    yield from by_layer(layout, looked, match.read()[-1], true, squares, painted, match.moves[-1], layer,
                        (kinds(match), *maps))


def kinds(match: Match) -> Chart:
    """Of which squares the best features of every layer tell the colour: the mean over all runs."""
    best = array(match.lens.maps[..., 1:]).max(-1)  # [R, L + 1, F, S]
    flat = best.reshape(*best.shape[:2], -1)
    top = np.argsort(-flat, -1, kind="stable")[..., :PAIRS]
    tells, top = np.take_along_axis(flat, top, -1) + 0.5 > TELLING, top % (SIDE * SIDE)
    rim = (COORDS % (SIDE - 1) == 0).sum(-1)  # [S], 2 in a corner
    kind = np.where(rim > 0, 2 - rim, 2 + (np.abs(COORDS - (SIDE - 1) / 2) < 1).all(-1))
    shares = np.stack([((kind[top] == one) & tells).mean((0, 2)) for one in range(len(KINDS))], 1)  # [L + 1, kinds]
    return table(f"Squares of the {PAIRS} pairs of feature and square that tell a colour best", "square", "layer",
                 shares, KINDS, range(len(shares)), unit="share of the pairs",
                 caption="By AUROC, counted above 0.7; three runs. Of all squares 11 % are corners, 44 % edges.")
