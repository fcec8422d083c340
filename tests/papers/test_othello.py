"""Othello layer by layer: whose discs, of which board, beside whom, and one autoencoder is none; traps and mutants."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.engine.method import prepare, run
from models.papers.othello import claim, network, record
from models.papers.othello.network import COLOUR, FIRST, MINE, UNTRAINED
from models.papers.othello.recipe import OthelloGPT, OthelloLens
from models.papers.othello.record import Match, kinds, written
from models.trace.subject import SubjectError, from_text
from models.worlds import othello
from models.worlds.world import END
from tests.traps import caught, shifted

TEXT, GAMES = from_text("c2 b2 b3 d2 c1"), othello.games(np.random.default_rng(0), 12, kept=True)
pytestmark = pytest.mark.usefixtures("one_thread", "tiny")


@pytest.fixture
def lens(arms, monkeypatch):
    monkeypatch.setattr(OthelloLens, "games", 15)
    return arms(OthelloLens)


def test_it_learns_from_all_legal_moves_alike_and_the_end_where_there_is_none():
    """Mutants: every empty square, and the places behind the end counted."""
    ids, target, weight = (found.numpy() for found in OthelloGPT(0).batch(3, 0.0).values())
    game = [othello.replayed([id - FIRST for id in row[1:] if id >= FIRST]) for row in ids]
    legal, over = np.concatenate([one.legal for one in game]), np.array([one.lengths[0] for one in game])

    def right(target, weight) -> bool:
        told = target[..., FIRST:]
        each = np.allclose(told[legal] * legal.sum(-1, keepdims=True).repeat(36, -1)[legal], 1)
        return each and not told[~legal].any() and (weight.sum(1) == over + 1).all()

    anywhere = np.concatenate([target[..., :FIRST], np.ones_like(target[..., FIRST:]) / 36], -1)
    caught(right, (target, weight), (anywhere, weight), (target, np.ones_like(weight)))
    assert np.allclose(target.sum(-1), 1) and (target[range(len(ids)), over, END] == 1).all()


def test_a_state_is_read_as_the_board_before_the_move_that_it_says(lens, monkeypatch):
    """By the number of discs, which is 4 and one per move. Mutants: off by one to either side."""
    monkeypatch.setattr(network, "residuals", lambda model, ids: torch.arange(
        ids.shape[1]).expand(ids.shape).float()[..., None, None])
    board = othello.Games.boards.fget

    def aligned(boards) -> bool:
        monkeypatch.setattr(othello.Games, "boards", property(lambda games: np.asarray(boards(games))))
        states, classes = lens.lessons(True)[MINE]
        return torch.equal((classes > 0).sum(1), 4 + states[:, 0, 0].long())

    caught(aligned, board, shifted(lambda games: torch.from_numpy(board(games)), 1),
           shifted(lambda games: torch.from_numpy(board(games)), -1))


def test_the_maps_learn_mine_and_theirs_and_the_controls_what_they_should(lens):
    """Mutant: the same classes for both codings."""
    lessons = lens.lessons(True)
    (states, mine), (same, colour), (fresh, also) = (lessons[name] for name in (MINE, COLOUR, UNTRAINED))
    odd = (mine > 0).sum(1) % 2 == 1
    caught(lambda found: torch.equal(torch.where(odd[:, None] & (mine > 0), 3 - mine, mine), found), colour, mine)
    assert states is same and torch.equal(mine, also) and not torch.allclose(states, fresh)
    again = network.untrained(lens.base).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in network.untrained(lens.base).state_dict().items())


class Says:
    """A lens that says the same of every square, or the truth of one game for the player to move."""

    def __init__(self, kind: int, truth=None):
        self.kind, self.truth = kind, truth

    def read(self, states, reading):
        kind = torch.tensor(self.kind).expand(*states.shape[:-1], 36) if self.truth is None else self.truth
        return 30.0 * torch.nn.functional.one_hot(kind, 3).float()


def test_empty_squares_are_no_merit_and_the_commoner_kind_is_a_fair_rival(tiny, monkeypatch):
    net = tiny.fresh(network.GPT)
    caught(lambda scores: scores.max() == 0, *claim.right(Says(0), net, GAMES, MINE))  # mutant: all squares
    monkeypatch.setattr(othello, "games", lambda *_: GAMES)
    rival = claim.majority(GAMES, 0).mean()
    for kind in (1, 2):
        assert rival >= claim.per_game(GAMES, claim.right(Says(kind), net, GAMES, MINE)[0]).mean() - 1
    assert 50 < rival < 95


def test_one_autoencoder_is_none():
    """Mutant: the mean over all three."""
    rows = np.tile([1.0, -0.1, 0.0], (20, 1))
    caught(lambda statistic: statistic(rows) <= 0, claim.median, np.mean)
    told = np.zeros((20, 3, 7))
    told[..., 3:5] = 0.9
    assert (claim.over(told) == 1).all()


@pytest.mark.parametrize("coding", [MINE, COLOUR])
def test_pictures_have_colours_whoever_is_to_move(coding):
    match = Match(prepare("othello", TEXT, {"coding": coding}))
    boards = match.game.boards[0, :6] if coding == MINE else othello.coloured(match.game.boards)[0, :6]
    match.lens = Says(0, torch.from_numpy(boards.astype(np.int64))[:, None].expand(6, 7, 36))
    assert (match.read().argmax(-1) == match.true()[:, None]).all()


def test_a_run_ends_with_a_move_that_is_not_legal_and_says_so():
    job = prepare("othello", TEXT)
    legal = FIRST + int(np.flatnonzero(Match(job).game.legal[0, 5])[0])
    for choice, share in (((legal,), 100), ((legal, legal), 50), ((FIRST,), 0), ((END,), 0)):
        *_, last, close = written(Match(replace(job, choice=tuple((id,) for id in choice))))
        assert close.facts["legal"].value == share
        assert choice[-1] != END or not last.step.distributions and "; it had " in last.step.note, "no square"
    trace = run("othello", TEXT, {"moves": 32, "temperature": 0.0}).traces["sample"]
    assert len(trace.steps) <= 38 and (trace.steps[5].ids >= 0).sum() == 5
    with pytest.raises(SubjectError, match="not legal"):
        run("othello", from_text("c2 c2"))


def test_the_squares_of_the_best_features_are_counted_by_kind(monkeypatch):
    """Mutant: pairs that tell nothing fill the fifty."""
    match = Match(prepare("othello", TEXT))
    match.lens.maps.zero_()[..., 5, 1] = 0.4  # a corner, of either side
    match.lens.maps[..., 14, 0] = 0.5  # in the middle, but empty is no colour

    def corners_alone(least: float) -> bool:
        monkeypatch.setattr(record, "TELLING", least)
        return np.allclose(next(iter(kinds(match).series.values())), [12 / record.PAIRS, 0, 0, 0])
    caught(corners_alone, 0.7, 0.0)
