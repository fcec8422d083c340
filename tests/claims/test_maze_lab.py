"""Judging networks of mazes: exact paths, from left to right, first forks apart; what the causal one learns from."""
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from models.claims.maze_lab import before, by_chance, first_forks, looked, said, walked, whole
from models.worlds import mazes
from models.worlds.mazes import FIRST, PREFIX
from models.worlds.world import END, PAD
from tests import tiny
from tests.traps import caught
from training.trunks.maze import MazeAR

ASKED = mazes.mazes(5, 24)
IDS = torch.from_numpy(np.stack([mazes.ids(one) for one in ASKED]))
pytestmark = pytest.mark.usefixtures("one_thread")


class Knows(torch.nn.Linear):
    """Says the true path, or strays at every fork; it remembers paths by what is asked, and reads nothing else."""

    sees_ahead = True

    def __init__(self, strays: bool):
        super().__init__(1, 1)
        self.paths = {}
        for one, row in zip(ASKED, IDS.clone()):
            asked = tuple(row[:PREFIX].tolist())
            if strays:
                row[[PREFIX + step + 1 for step in one.forks]] = int(row[PREFIX])
            self.paths[asked] = row[PREFIX:]

    def forward(self, ids, visible, first):
        return one_hot(torch.stack([self.paths[tuple(row[:PREFIX].tolist())] for row in ids]), 47).float()


def test_a_path_counts_cell_by_cell_with_its_end():
    """Mutants: whoever reaches the goal; the cells without the end."""
    true = IDS[:, PREFIX:].numpy()
    detour, endless = np.full_like(true, PAD), np.where(true == END, PAD, true)
    for row, one in zip(detour, ASKED):
        long = [*one.path[:2], one.path[0], *one.path[1:]][: len(row)]  # back and forth once
        row[: len(long)] = [FIRST + cell for cell in long]

    def exact(judge) -> bool:
        return judge(ASKED, true).all() and not judge(ASKED, detour).any() and not judge(ASKED, endless).any()

    def reached(asked, paths):
        return np.array([FIRST + one.goal in row for one, row in zip(asked, paths)])

    def cells(asked, paths):
        return np.array([(row == right)[: len(one.path)].all() for one, row, right in zip(asked, paths, true)])
    caught(exact, whole, reached, cells)


def test_forks_are_judged_apart_with_the_path_before_them_given():
    forked = np.array([len(one.forks) > 0 for one in ASKED])
    assert whole(ASKED, walked(Knows(False), ASKED)).all() and first_forks(Knows(False), ASKED).all()
    assert (whole(ASKED, walked(Knows(True), ASKED)) == ~forked).all() and len(first_forks(Knows(True), ASKED)) == sum(
        forked) and not first_forks(Knows(True), ASKED).any()
    for one, ahead, back in zip(ASKED, by_chance(ASKED), by_chance(ASKED, back=True)):
        assert back <= ahead == pytest.approx(100 / np.prod([len(one.choices[step]) for step in one.forks]))


def test_the_causal_network_is_asked_before_it_reads():
    model = tiny.bundle("maze-ar-1").model
    behind = IDS.clone()
    behind[:, PREFIX + 1 :] = 9
    caught(lambda f: torch.allclose(f(behind), f(IDS), atol=1e-4), lambda ids: said(model, ids, PREFIX + 1),
           lambda ids: said(model, ids, PREFIX + 2))


def test_the_causal_networks_loss_is_on_the_path_alone():
    recipe, model = MazeAR(), tiny.bundle("maze-ar-1").model
    recipe.prepare(None)
    ids = recipe.batch(1, 0.0)["ids"]
    with torch.no_grad():
        each = cross_entropy(model(ids[:, :-1]).logits.mT, ids[:, 1:], reduction="none")
        wanted = recipe.loss(model, {"ids": ids}, 0.0)[0]
    path = (ids[:, 1:] != PAD) & (torch.arange(ids.shape[1] - 1) >= PREFIX - 1)
    caught(lambda loss: torch.allclose(loss, wanted), each[path].mean(), each[ids[:, 1:] != PAD].mean())


@pytest.mark.parametrize("name, layers", [("maze-mlmu-1", 2), ("maze-ar-1", 3)])
def test_steps_look_at_visible_tokens_or_at_those_before(name, layers):
    model, one = tiny.bundle(name).model, ASKED[0]
    visible = before(IDS[:1], PREFIX + 1)
    rows, _ = looked(model, IDS[:1], visible, np.arange(2, len(one.path)))  # [L, H, R, N]
    seen = visible[0] if layers == 2 else torch.arange(IDS.shape[1]) < PREFIX + len(one.path) - 1
    assert len(rows) == layers and np.allclose(rows.sum(-1), 1, atol=1e-3) and not rows[..., ~seen.numpy()].any()
