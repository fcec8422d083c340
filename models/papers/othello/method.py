"""How GPT learns layer by layer (arXiv 2501.07108): a network reads nothing but moves of Othello; what does it know?

A small GPT is trained on random games (recipe.py). A linear map of its state behind every block is taught to name
what stands on each square, for the player to move: empty, mine or theirs; a sparse autoencoder per layer shows which
features there are (models/backbones/layer_lens.py). Nothing of the network changes by being read.
Ours: 6 x 6 squares; what is read is the board that the next move is made on. The reference reads the state that has
just heard of a move, and labels it with the board before that move.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.engine.method import Card, Control, Event, Job, Method, Options, Turn
from models.papers.othello.network import COLOUR, FIRST, GPT, LENS, MINE
from models.papers.othello.record import Match, focused, written
from models.trace import CODE, Trace
from models.trace.params import Choice, Span
from models.trace.subject import Example
from models.worlds import othello

OFFERED = 6  # squares that a visitor chooses from


@dataclass(frozen=True)
class Params:
    layer: Annotated[int, Span(0, 6, 1, "Layer", "Behind so many blocks the board is read; 0: before the first.")] = 5
    coding: Annotated[str, Choice((MINE, COLOUR), "Read as", "What the linear maps were taught to name.", titles=(
        "mine and theirs (the method)", "black and white"))] = MINE
    moves: Annotated[int, Span(1, 32, 1, "Moves to add", "The run ends with the game, or with a move that is not "
                               "legal.", unit="moves")] = 8
    temperature: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature", "1 draws as the network learned to; 0 takes the "
                                       "likeliest move.")] = 0.5
    run: Annotated[int, Span(1, 3, 1, "Autoencoder", "Three were trained from different beginnings: a feature of one "
                             "alone means little.", fold=True)] = 1


def run(job: Job) -> Iterator[Event]:
    if job.choice is None and job.wants("attend"):
        yield from focused(Match(job))
    yield from written(Match(job))


def squares(trace: Trace) -> Options | None:
    """Your turn: some empty squares, from the one that the network finds likeliest to the one it rules out."""
    last = trace.steps[-1]
    empty = np.flatnonzero(last.state == CODE["visible"])
    if len(empty) < 2 or not last.fields.get("legal", np.zeros(1)).any():
        return None
    order = empty[np.argsort(-last.fields["next"][empty], kind="stable")]
    some = order[np.unique(np.linspace(0, len(order) - 1, OFFERED).round().astype(int))].tolist()
    return Options(max(some), tuple(FIRST + at for at in some), tuple(othello.SQUARES[at] for at in some))


METHOD = Method(
    bound="its probes belong to the states of its own network",
    card=Card(
        id="othello", title="Othello", tabs=("sample", "attend"), arxiv="2501.07108", year=2025, seed="B",
        summary="A network that reads only lists of moves learns to name legal ones. Linear maps of its states read, "
                "layer by layer, more and more of the board, seen by the player to move; sparse autoencoders show "
                "which features there are.",
        flow="moves > network > legal next move; network > *states of every layer > *linear map > board: empty, mine, "
             "theirs; states of every layer > *sparse features",
        look_at="Attend, step by step: the board comes into focus up to layer 5, and blurs again where the next move "
                "must be named. Then read black and white instead of mine and theirs.",
        not_covered="8 x 8 squares, games that go on after a pass, the view of single neurons, ten autoencoders a "
                    "layer (three here), changing the board inside the network.",
        unverified="The network has Llama's blocks and a start token, and learns from all moves that could have been "
                   "drawn, the same loss on average. A state is read as the board its next move is made on, the "
                   "reference's as the board one move before. States are normed one by one, not over a game. "
                   "Autoencoders have a squared error, our reading; half of their features speak at once. Stability is "
                   "the reference's rule, a lower bound: layers 1 to 5 tell it alike, the last does not; a third of "
                   "those features tell as well that there is a disc at all.",
        states={"sample": {"accepted": "added before, legal", "refused": "not legal", "new": "added now"}}),
    params=Params, accepts="text", checkpoints=(GPT,), companions=(LENS,), run=run,
    control=Control(params={"coding": COLOUR}, title="Black and white"),
    fixed={"sample": "Every move turns discs: type other moves and run again."},
    examples=(
        Example("middle", "The middle of a game", "c2 b2 d5 d2 b1 d6 e4 e3 e2 e1 a2 f4 c6 f2"),
        Example("late", "Few squares are left", "c2 b2 b3 d2 c1 a3 e3 c5 d5 e5 a4 a5 b4 b5 b6 f3 a2 b1 f4 a1 d6"),
        Example("wiped", "A game that ends early", "e4 e5 d5 c5 f6 d2 c6 f5 f4")),
    turn=Turn("Name a legal move for whose turn it is, again and again: the network knows the moves and no board.",
              "legal", lambda job: (1,) * job.params.moves, squares, length=""))
