"""MLM-U: what is visible, who reads what, equal depth; every trap of the paper beside its mutants. Exact paths are
judged in tests/claims/test_maze_lab.py."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.backbones.stand_in import stirred
from models.engine.method import follow, prepare, run
from models.papers.maze_mlmu.method import METHOD, ways
from models.papers.maze_mlmu.network import PlaceReader, PlaceTransformer
from models.papers.maze_mlmu.recipe import MazeMLMU
from models.papers.maze_mlmu.record import RATES
from models.papers.maze_mlmu.walk import AT_ONCE, LEFT, SUREST, MazeWalk, drawn_visible
from models.trace import CODE
from models.trace.subject import SubjectError, from_text
from models.worlds import mazes
from models.worlds.mazes import FIRST, PREFIX
from models.worlds.world import PAD
from tests.traps import caught, dice, moved
from training.trunks.maze import MazeAR

ASKED = mazes.mazes(5, 24)
IDS = torch.from_numpy(np.stack([mazes.ids(one) for one in ASKED]))
pytestmark = pytest.mark.usefixtures("one_thread", "tiny")


def net(kind=PlaceTransformer):
    torch.manual_seed(0)
    return stirred(kind(47, 32, 2, 2, 4, 64).eval().requires_grad_(False))


def prepared(kind):
    recipe = kind()
    recipe.prepare(None)
    return recipe


def test_the_prefix_is_always_visible_and_the_share_of_the_path_is_uniform():
    """Mutants: the prefix masked, too; 15 % always; one rate for a whole batch."""
    ids = IDS.repeat(40, 1)
    ids[:, PREFIX:] = 5  # long paths, whose shares come in small steps

    def holds(rule) -> bool:
        visible = rule(ids, dice(0))
        thirds = np.histogram(visible[:, PREFIX:].float().mean(1).numpy(), (0, 1 / 3, 2 / 3, 1.01))[0] / len(ids)
        return bool(visible[:, :PREFIX].all()) and bool((abs(thirds - 1 / 3) < 0.07).all())

    def everything(ids, generator):
        return torch.rand(ids.shape, generator=generator) < torch.rand(len(ids), 1, generator=generator)

    def fixed(ids, generator):
        return drawn_visible(ids, generator, 0.85)

    def together(ids, generator):
        return drawn_visible(ids, generator, float(torch.rand((), generator=generator)))
    caught(holds, drawn_visible, everything, fixed, together)
    assert not drawn_visible(IDS, dice(0), 1.0)[IDS == PAD].any()


def test_the_loss_is_the_mean_over_the_hidden_steps_of_all_paths():
    """Mutants: visible steps count, too; padding counts; each maze's own mean."""
    recipe, model = prepared(MazeMLMU), net()
    batch = recipe.batch(3, 0.5)
    ids, visible = batch["ids"][:, PREFIX:], batch["visible"][:, PREFIX:]
    each = cross_entropy(model(batch["ids"], batch["visible"], PREFIX).mT, ids, reduction="none")
    counts, wanted = ~visible & (ids != PAD), recipe.loss(model, batch, 0.5)[0]
    own = ((each * counts).sum(1) / counts.sum(1).clip(1))[counts.any(1)].mean()
    caught(lambda loss: torch.allclose(loss, wanted), each[counts].mean(), each[ids != PAD].mean(),
           each[~visible].mean(), own)


class ReadsHidden(PlaceTransformer):
    def forward(self, ids, visible, first=0):
        return super().forward(ids, torch.ones_like(visible), first)


class MaskToken(ReadsHidden):
    def forward(self, ids, visible, first=0):
        return super().forward(torch.where(visible, ids, 1), visible, first)


def test_hidden_tokens_are_keys_for_nobody_and_no_mask_stands_for_them():
    """Neither what is hidden nor how much moves what is said. Mutants: keys of hidden tokens; [MASK] as a key."""
    visible = drawn_visible(IDS[:1], dice(2), 0.4)
    hidden = torch.nonzero(~visible[0])[:, 0].tolist()

    def holds(model) -> bool:
        def told(ids):
            return model(ids, visible, PREFIX)
        shorter = model(IDS[:1, :-3], visible[:, :-3], PREFIX)
        return not moved(told, IDS[:1], hidden, size=47, atol=1e-4).any() and bool(
            moved(told, IDS[:1], 3, size=47).all()) and torch.allclose(shorter, told(IDS[:1])[:, :-3], atol=1e-4)
    assert not visible[0, -3:].any()
    caught(holds, net(), net(ReadsHidden), net(MaskToken))


class LooksAside(PlaceReader):
    def forward(self, hidden_states, *given, **options):
        return super().forward(hidden_states + hidden_states.cumsum(1), *given, **options)


def self_attending():
    model = net()
    for layer in model.decoder:
        layer.self_attn.__class__ = LooksAside
    return model


class TableOfPlaces(PlaceTransformer):
    def places(self, batch, count):
        return super().places(batch, count) + torch.arange(count)[:, None]


def test_places_do_not_look_at_each_other_and_differ_in_their_angles_alone():
    """Mutants: self-attention in the decoder; a vector for each place."""
    visible = drawn_visible(IDS[:2], dice(1))

    def alone(model) -> bool:
        some, more = model(IDS[:2], visible, PREFIX + 4), model(IDS[:2], visible, PREFIX)
        return torch.allclose(more[:, 4:], some, atol=1e-4) and not torch.allclose(more[:, 4], more[:, 5], atol=1e-2)
    caught(alone, net(), self_attending(), net(TableOfPlaces))


def test_the_control_is_as_deep_as_both_stacks_and_reads_the_same_mazes():
    """Mutant: half the depth."""
    mine, half = prepared(MazeMLMU), prepared(MazeAR)
    half.shape = half.shape._replace(layers=6)
    model = mine.build()

    def equal(control) -> bool:
        sizes = [sum(weight.numel() for weight in one.parameters()) for one in (model, control)]
        return len(control.model.layers) == len(model.layers) + len(model.decoder) and max(sizes) < 1.01 * min(sizes)
    caught(equal, prepared(MazeAR).build(), half.build())
    assert torch.equal(mine.batch(7, 0.1)["ids"], half.batch(7, 0.1)["ids"])


def test_angles_are_not_rounded():
    """Mutant: rotary angles in half precision."""
    def precise(model) -> bool:
        cos, _ = model.embed(torch.zeros(1, 400, dtype=torch.long))[1]
        return bool((cos[0, :, 0] - (torch.arange(400) + 1.0).cos()).abs().max() < 1e-3)
    caught(precise, net(), net().bfloat16())
    assert not MazeMLMU.autocast and not MazeAR.autocast


def test_orders_fill_in_what_they_should_and_a_causal_network_only_the_next():
    job = prepare("maze-mlmu", from_text(ASKED[3].asked))
    taken = {order: [said.taken for said in MazeWalk(job).steps(order)] for order in (LEFT, SUREST, AT_ONCE)}
    assert sum(taken[LEFT], []) == list(range(len(taken[LEFT]))) and len(taken[AT_ONCE][0]) > 1
    assert all(len(places) == 1 for places in taken[SUREST]) and taken[SUREST] != taken[LEFT]
    plain = MazeWalk(prepare("maze-mlmu", from_text(ASKED[3].asked), checkpoint="maze-ar-1"))
    assert all(said.places == said.taken and len(said.taken) == 1 for said in plain.steps(AT_ONCE))


def test_a_visitor_decides_at_forks_and_a_wrong_way_ends_it():
    job = prepare("maze-mlmu")
    path = mazes.read(job.subject.text).truth.path

    def played(picks):
        *_, last = follow(replace(job, choice=tuple((pick,) for pick in picks)))
        return last.traces["unmask"]
    picks = []
    while offered := ways(played(picks)):
        right, = {FIRST + cell for cell in path} & set(offered.picks) - set(picks)
        picks.append(right)
    won, first = played(picks), ways(played([]))
    stray = next(pick for pick in first.picks if pick != picks[0])
    lost = played([stray])
    assert won.facts[METHOD.turn.fact].value == 100 and len(picks) > 1 and ways(lost) is None
    assert lost.facts[METHOD.turn.fact].value == pytest.approx(100 / len(path))
    assert lost.steps[-1].state[stray - FIRST] == CODE["refused"]
    assert all("ahead" not in step.fields for step in won.steps)


def test_more_and_more_of_the_path_is_visible_in_mask():
    steps = run("maze-mlmu", from_text(ASKED[3].asked)).traces["mask"].steps
    given = [set(step.where("context").tolist()) for step in steps]
    assert len(given) == len(RATES) and not given[0] and all(one <= more for one, more in zip(given, given[1:]))
    assert all({*step.where("context", "accepted", "refused").tolist()} == {*ASKED[3].path} for step in steps)


@pytest.mark.parametrize("name", ["maze-mlmu-1", "maze-ar-1"])
def test_a_path_that_is_visible_to_its_end_leaves_nothing_to_do(name):
    one = min(ASKED, key=lambda maze: len(maze.path))
    job = next(job for job in (prepare("maze-mlmu", from_text(one.asked), {"visible": 0.9}, checkpoint=name, seed=seed)
                               for seed in range(99)) if not MazeWalk(job).hidden)
    *_, last = follow(job)
    assert len(last.traces["unmask"].steps) == 1 and last.traces["unmask"].facts["right"].value == 100


def test_what_is_no_maze_is_refused():
    with pytest.raises(SubjectError, match="off from"):
        run("maze-mlmu", from_text("a1-b1 from a1 to b1 path"))
