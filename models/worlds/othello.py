"""Othello on six by six squares, as lists of moves: exact rules, a judge of every move, games by the thousand.

    c2 b2 b3 ...        black begins; a letter for the column, a number for the row, from the top left

As in OthelloGPT's data a game ends as soon as the player to move has no legal move: nobody passes, so the player at
move t (from 0) is always black where t is even. 64-bit numbers are sets of squares: bit 6 * row + column.
Letters: B games, T moves, S = 36 squares.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from models.worlds.world import END, PAD, SPECIALS, Doc, World, held_out

SIDE, LONGEST, OPENING = 6, 32, 8  # moves of the longest game, and those by which games are kept out of training
SQUARES = tuple(f"{column}{row}" for row in range(1, SIDE + 1) for column in "abcdef")
BITS = np.uint64(1) << np.arange(SIDE * SIDE, dtype=np.uint64)  # [S]
BLACK, WHITE = (BITS[[SQUARES.index(one) for one in pair]].sum() for pair in (("d3", "c4"), ("c3", "d4")))
NOWHERE = -1  # in place of a move: the game is over
_STEPS = [(right, down) for right in (-1, 0, 1) for down in (-1, 0, 1) if right or down]
_INSIDE = {right: BITS[[at for at in range(SIDE * SIDE) if 0 <= at % SIDE - right < SIDE]].sum()
           for right in (-1, 0, 1)}


class Games(NamedTuple):
    """moves int8 [B, T], NOWHERE behind the end; before each of them, and behind the last: discs of the player to move
    and of the other as sets [B, T + 1]."""

    moves: np.ndarray
    mine: np.ndarray
    theirs: np.ndarray

    @property
    def legal(self) -> np.ndarray:
        """bool [B, T + 1, S]: where the player to move may move."""
        return unpacked(legal(self.mine, self.theirs))

    @property
    def boards(self) -> np.ndarray:
        """int8 [B, T + 1, S]: 0 empty, 1 mine, 2 theirs, for the player to move, BEFORE the move of that index."""
        return unpacked(self.mine) + 2 * unpacked(self.theirs).astype(np.int8)

    @property
    def lengths(self) -> np.ndarray:
        return (self.moves != NOWHERE).sum(1)


def coloured(boards: np.ndarray) -> np.ndarray:
    """Boards [..., T, S] of the player to move in colours: 0 empty, 1 black, 2 white."""
    odd = np.arange(boards.shape[-2])[:, None] % 2 == 1
    return np.where(odd & (boards > 0), 3 - boards, boards)


def unpacked(squares: np.ndarray) -> np.ndarray:
    """Sets [...] as bool [..., S]."""
    return (squares[..., None] & BITS) != 0


def stable(boards: np.ndarray) -> np.ndarray:
    """bool [..., S]: discs that can never be turned, by the reference's rule, a lower bound of the truth: one sweep, in
    which a disc in a corner is stable, then one on an edge beside a stable one. Colours do not count. Its third rule,
    for a disc inside among eight stable ones, never holds in one sweep, because one of the eight comes later."""
    last = SIDE - 1
    discs = boards.reshape(*boards.shape[:-1], SIDE, SIDE) > 0
    found = np.zeros((*discs.shape[:-2], SIDE + 2, SIDE + 2), bool)  # with a rim, on which nothing is stable
    inside = found[..., 1:-1, 1:-1]
    for r, c in np.ndindex(2, 2):
        inside[..., r * last, c * last] = discs[..., r * last, c * last]
    for at in [(r, c) for r in (0, last) for c in range(SIDE)]:
        for (r, c), (down, right) in ((at, (0, 1)), (at[::-1], (1, 0))):
            beside = found[..., 1 + r - down, 1 + c - right] | found[..., 1 + r + down, 1 + c + right]
            inside[..., r, c] |= discs[..., r, c] & beside
    return inside.reshape(boards.shape)


def _shifted(squares, step: tuple[int, int]):
    """Every square of a set moved by one step; what would leave the board is gone."""
    right, down = step
    by = right + SIDE * down
    moved = squares << np.uint64(by) if by > 0 else squares >> np.uint64(-by)
    return moved & _INSIDE[right]


def _run(start, other, step):
    """Discs of the other in an unbroken line from the squares of `start`, and the squares right behind them."""
    line = _shifted(start, step) & other
    for _ in range(SIDE - 3):  # a line of at most four
        line |= _shifted(line, step) & other
    return line, _shifted(line, step)


def legal(mine, theirs):
    """The empty squares on which a disc would enclose a line of the other's."""
    found = np.zeros_like(mine)
    for step in _STEPS:
        found |= _run(mine, theirs, step)[1]
    return found & ~(mine | theirs)


def flipped(mine, theirs, move):
    """The other's discs that a disc on `move` encloses."""
    found = np.zeros_like(mine)
    for step in _STEPS:
        line, behind = _run(move, theirs, step)
        found |= np.where(behind & mine, line, 0).astype(np.uint64)
    return found


def play(choose: Callable[[int, np.ndarray], np.ndarray], count: int) -> Games:
    """choose(t, legal bool [B, S]) -> squares [B]; a game ends where its player cannot move or nothing is chosen."""
    mine, theirs = np.full(count, BLACK), np.full(count, WHITE)
    moves, before = [], [(mine, theirs)]
    for t in range(LONGEST):
        can = unpacked(legal(mine, theirs))
        square = np.asarray(choose(t, can))
        goes = (square != NOWHERE) & can[np.arange(count), square]
        move = np.where(goes, BITS[square], 0).astype(np.uint64)
        turned = flipped(mine, theirs, move)
        mine, theirs = np.where(goes, (theirs & ~turned, mine | move | turned), (mine, theirs))
        moves.append(np.where(goes, square, NOWHERE))
        before.append((mine, theirs))
    return Games(np.stack(moves, 1).astype(np.int8), *np.stack(before, -1))


def random_games(rng: np.random.Generator, count: int) -> Games:
    """Every legal move is as likely as any other."""
    def choose(t, can):
        return np.where(can.any(1), (rng.random(can.shape) * can).argmax(1), NOWHERE)
    return play(choose, count)


def games(rng: np.random.Generator, count: int, kept: bool = False) -> Games:
    """Random games to train on, or (kept) such as training never draws."""
    made = random_games(rng, 12 * count + 60 if kept else count + count // 4 + 20)
    fits = [held_out(written(moves)) == kept for moves in made.moves[:, :OPENING]]
    return Games(*(part[fits][:count] for part in made))


def ids(moves: np.ndarray) -> np.ndarray:
    """What a network reads [B, T + 1] of moves [B, T]: <|endoftext|>, the moves, padding behind the end."""
    words = np.where(moves == NOWHERE, PAD, moves + len(SPECIALS))
    return np.concatenate([np.full((len(words), 1), END), words], 1).astype(np.int64)


def replayed(moves: Sequence[int]) -> Games:
    """One game of given moves, cut before the first that is not legal."""
    wanted = [*moves, *[NOWHERE] * (LONGEST - len(moves))]
    return play(lambda t, can: np.array(wanted[t : t + 1] if can[0].any() else [NOWHERE]), 1)


def squares(text: str) -> list[int]:
    """The moves of a text; ValueError with a sentence where one is no square or not legal."""
    words = text.lower().split()
    for word in words:
        if word not in SQUARES:
            raise ValueError(f'"{word[:20]}" is no square: write moves such as "c2 b2", columns a to f, rows 1 to 6.')
    moves = [SQUARES.index(word) for word in words]
    game = replayed(moves[:LONGEST])
    done = int(game.lengths[0])
    if done < len(moves):
        may = " ".join(SQUARES[at] for at in np.flatnonzero(game.legal[0, done]))
        raise ValueError(f"Move {done + 1}, {words[done]}, is not legal: {('black', 'white')[done % 2]} "
                         + (f"may move to {may}." if may else "has no move, and the game is over."))
    return moves


def check(text: str) -> bool:
    """Whether every move of a text is legal."""
    try:
        return bool(squares(text)) or not text.strip()
    except ValueError:
        return False


def written(moves: Sequence[int]) -> str:
    return " ".join(SQUARES[move] for move in moves if move != NOWHERE)


def sample(rng: np.random.Generator) -> Doc:
    """A random game; its first eight moves decide whether it is kept out of training."""
    moves = random_games(rng, 1).moves[0]
    return Doc((written(moves[:OPENING]), written(moves[OPENING:])), (False, True))


WORLD = World(SQUARES, sample, check, split="spaces")
