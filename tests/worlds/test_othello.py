"""Othello 6 x 6: every move of many games beside a slow referee with plain loops; each rule with a mutant."""
import numpy as np
import pytest

from models.worlds import othello
from models.worlds.world import END, PAD, held_out
from tests.traps import caught

WAYS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]


def turned(board: list[int], square: int, player: int, ways=WAYS) -> list[int]:
    """The squares whose discs a move turns; none where it is not legal. Player 1 is black, 2 is white."""
    found = []
    for down, right in ways if board[square] == 0 else ():
        row, column, line = square // 6 + down, square % 6 + right, []
        while 0 <= row < 6 and 0 <= column < 6 and board[6 * row + column] == 3 - player:
            line.append(6 * row + column)
            row, column = row + down, column + right
        if line and 0 <= row < 6 and 0 <= column < 6 and board[6 * row + column] == player:
            found += line
    return found


def agrees(games: othello.Games, ways=WAYS, passes: bool = False) -> bool:
    boards, legal = othello.coloured(games.boards), games.legal
    for moves, seen, may, length in zip(games.moves.tolist(), boards, legal, games.lengths):
        board, player = [0] * 36, 1
        for name, kind in (("c3", 2), ("d4", 2), ("d3", 1), ("c4", 1)):
            board[othello.SQUARES.index(name)] = kind
        for t in range(length + 1):
            able = [bool(turned(board, square, player, ways)) for square in range(36)]
            if seen[t].tolist() != board or may[t].tolist() != able:
                return False
            if t < length:
                for square in [*turned(board, moves[t], player, ways), moves[t]]:
                    board[square] = player
                player = 3 - player
        if length < 32 and any(able):
            return False
    return True


def test_the_bits_play_as_a_slow_referee_does():
    """Mutants: no diagonals, and a game cut off where somebody could still move."""
    games = othello.random_games(np.random.default_rng(0), 60)
    caught(agrees, (games,), (games, [way for way in WAYS if 0 in way]),
           (games._replace(moves=np.where(np.arange(32) < 20, games.moves, othello.NOWHERE)),))
    assert len(set(games.lengths)) > 3 and games.lengths.max() == 32


def test_mine_is_whose_turn_it_is():
    """Mutant: black is mine throughout."""
    game = othello.replayed(othello.squares("c2 b2"))
    mine = lambda boards: boards[0, :3, othello.SQUARES.index("c2")].tolist()  # noqa: E731
    assert mine(game.boards) == [0, 2, 1] and mine(othello.coloured(game.boards)) == [0, 1, 1]


@pytest.mark.parametrize("text, said", [("c2 zz", "is no square"), ("c2 c2", "Move 2, c2, is not legal: white may"),
                                        ("a1", "black may move to c2 b3 e4 d5"),
                                        ("e4 e5 d5 c5 f6 d2 c6 f5 f4 a1", "the game is over")])
def test_a_move_that_cannot_be_is_refused_in_a_sentence(text, said):
    assert not othello.check(text) and othello.check(text.rsplit(" ", 1)[0] if " " in text else "C2")
    with pytest.raises(ValueError, match=said):
        othello.squares(text)


def test_games_that_are_kept_are_never_drawn():
    rng = np.random.default_rng(1)
    for kept in (True, False):
        games = othello.games(rng, 50, kept)
        assert len(games.moves) == 50
        assert all(held_out(othello.written(moves[: othello.OPENING])) == kept for moves in games.moves)
    doc = othello.sample(rng)
    assert othello.check(doc.text) and len(doc.prompt.split()) == min(othello.OPENING, len(doc.text.split()))
    ids = othello.ids(games.moves[:, :])
    assert (ids[:, 0] == END).all() and ((ids[:, 1:] == PAD) == (games.moves == othello.NOWHERE)).all()


def test_stable_discs_grow_from_corners_along_edges():
    """As the reference sweeps, square by square. Mutants: no corner needed; a disc inside counts."""
    boards = othello.random_games(np.random.default_rng(2), 30).boards

    def right(found) -> bool:
        for board, stable in zip(boards.reshape(-1, 6, 6)[::7], found.reshape(-1, 6, 6)[::7]):
            want = np.zeros((6, 6), bool)
            for row, column in ((0, 0), (0, 5), (5, 0), (5, 5)):
                want[row, column] = board[row, column] > 0
            for along in (want, want.T):
                there = board if along is want else board.T
                for edge in (0, 5):
                    for at in range(6):
                        beside = along[edge, max(at - 1, 0)] or along[edge, min(at + 1, 5)]
                        along[edge, at] |= bool(there[edge, at] > 0 and beside)
            if (want != stable).any():
                return False
        return True

    rim = othello.stable(np.ones(36))
    caught(right, othello.stable(boards), (boards > 0) & rim, othello.stable(boards) | (boards > 0) & ~rim)
    assert rim.sum() == 20
