"""Selfie: patches read alone, shuffled pieces of the same photo, nothing painted; traps beside their mutants."""
import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from models.claims.probe import finetuned
from models.engine.method import prepare, run, twin
from models.loops.mask.photos import taken
from models.papers.selfie.claim import TunedPatches
from models.papers.selfie.method import METHOD, by_hand, cut
from models.papers.selfie.network import SIZES, SelfieNet, scores, split
from models.papers.selfie.recipe import PhotoSelfie
from models.papers.selfie.record import asked
from models.serving.turns import playable
from models.trace.params import ParamError
from tests import tiny as stand_ins
from tests.traps import as_, caught, learns, only_these_move

pytestmark = pytest.mark.usefixtures("one_thread")
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
VISIBLE, HOLES = split(torch.rand(2, 16, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def model():
    return stand_ins.fresh("photo-selfie-1").float().eval().requires_grad_(False)


class Cropped(SelfieNet):
    """A 3 x 3 convolution over the whole photo before it is cut: pixels of a hole reach its neighbours."""

    def features(self, pixels, size):
        return super().features(conv2d(pixels, torch.ones(3, 1, 3, 3) / 9, padding=1, groups=3), size)


class Peeking(SelfieNet):
    """What is asked for is pooled from all patches."""

    def queries(self, h, visible, holes, size, seen=None):
        return super().queries(h, torch.arange(h.shape[1]).expand(len(h), -1), holes, size, seen)


class Placeless(SelfieNet):
    def positions(self, size):
        return torch.zeros_like(super().positions(size))


def test_each_patch_is_read_alone(model):
    inside = torch.zeros(1, 3, 64, 64)
    inside[..., 16:32, 16:32] = 1.0  # one patch of 16, four of 8

    def stays_inside(network):
        for size, cells in ((16, [5]), (8, [18, 19, 26, 27])):
            apart = (network.features(PIXELS, size) - network.features(PIXELS + inside, size))[0].abs().amax(1)
            assert (apart > 1e-6).nonzero()[:, 0].tolist() == cells
    caught(stays_inside, model, as_(Cropped, model))


def test_the_query_knows_nothing_of_the_holes(model):
    h = model.features(PIXELS, 16)

    def blind(network):
        def apart(at):
            other = h.index_add(1, at, torch.linspace(-1, 1, 16).expand(2, 1, 16))
            found = [network.queries(one, VISIBLE, HOLES, 16)[0] for one in (h, other)]
            return float((found[0] - found[1]).abs().max())
        assert apart(HOLES[0, :1]) < 1e-6 < apart(VISIBLE[0, :1])
    caught(blind, model, as_(Peeking, model))


def test_holes_are_told_apart_by_their_place_alone(model):
    """a_jk - a_ik = (pos_j - pos_i) . h_k / sqrt(D), whatever the visible patches are."""
    place, h = model.positions(16), taken(model.features(PIXELS, 16), HOLES)
    wanted = scores(place[HOLES] - place[HOLES[:, :1]], h)

    def only_place(network):
        found = network(PIXELS, VISIBLE, HOLES, 16)
        assert found.std() > 1e-3 and torch.allclose(found - found[:, :1], wanted, atol=1e-4)
    caught(only_place, model, as_(Placeless, model))
    rows = model.positions(8).unflatten(0, (8, 8))
    assert torch.allclose(rows[3, 5] - rows[3, 2], rows[6, 5] - rows[6, 2], atol=1e-6)  # row and column are summed


def test_the_order_of_the_strip_tells_nothing(tiny):
    v, h, order = torch.randn(2, 4, 16), torch.randn(2, 4, 16), torch.tensor([2, 0, 3, 1])
    caught(lambda score: torch.allclose(score(v, h)[:, :, order], score(v, h[:, order]), atol=1e-5), scores,
           lambda v, h: scores(v, h + torch.arange(4.0)[:, None]))

    def shuffled(order):
        jobs = [prepare(METHOD, params={"order": order}, seed=seed) for seed in range(6)]
        assert len({tuple(cut(job).right) for job in jobs}) > 3
    caught(shuffled, "shuffled", "original")


def test_the_pieces_are_the_hidden_patches_of_this_photo(tiny):
    def own(source):
        puzzle = cut(prepare(METHOD, params={"distractors": source, "grid": "8 x 8"}))
        wanted = puzzle.view.target[0, puzzle.holes[0]]
        assert puzzle.offered.all() and torch.equal(puzzle.strip[puzzle.right], wanted)
        assert len(puzzle.strip) == len(set(puzzle.right)) == 16
    caught(own, "same", "other")
    broken = cut(prepare(METHOD, params={"distractors": "other"}))
    assert broken.offered[range(4), broken.right].all() and (broken.offered.sum(1) == 4).all()
    assert torch.isinf(asked(stand_ins.fresh("photo-selfie-1").float(), broken)).sum() == 12


def test_another_photo_around_leaves_holes_and_strip_as_they_are(tiny):
    own, other = cut(prepare(METHOD)), cut(twin(prepare(METHOD)))
    assert torch.equal(own.strip, other.strip) and own.right.tolist() == other.right.tolist()
    same = (own.view.target == other.view.target).all(2)[0]
    assert same[own.holes[0]].all() and not same[own.visible[0]].any()


def test_holes_are_filled_with_real_pieces(tiny):
    puzzle, chosen = cut(prepare(METHOD)), np.array([2, 2, 0, -1])

    def real(painted):
        cells = [painted[row:row + 16, 16 + column:32 + column] for column, row in puzzle.places * 16]
        for hole, piece in zip(puzzle.ids, (2, 2, 0, puzzle.right[3])):  # a hole still open keeps its own, covered
            assert (cells[hole] == cells[16 + piece]).all()
    blend = (puzzle.sheet(chosen) // 2 + puzzle.sheet() // 2).astype(np.uint8)
    caught(real, puzzle.sheet(chosen), puzzle.sheet(), blend)


@pytest.mark.parametrize("params", [{"grid": "4 x 4", "hidden": 0.1, "distractors": "other", "order": "original"},
                                    {"grid": "8 x 8", "hidden": 0.5}])
def test_a_run_shows_who_filled_which_hole(tiny, params):
    found = run(METHOD, params=params).traces
    mask, rows = found["mask"], found["attend"].rows
    holes = mask.steps[0].where("masked-random")
    for step, fact in zip(mask.steps[1:3], ("right", "rule")):
        judged = [len(step.where(name)) for name in ("accepted", "refused")]
        assert sum(judged) == len(holes) and mask.facts[fact].value == pytest.approx(100 * judged[0] / len(holes))
    table = next(iter(mask.charts[0].series.values()))
    assert len(table) == len(holes) and np.allclose(table.sum(1), 1, atol=1e-3)
    assert mask.canvas.picture.shape[0] == mask.canvas.picture.shape[1]
    first, *others = (rows.row(1, 0, int(hole)) for hole in holes)
    assert all(np.array_equal(first, one) for one in others) and first[holes].sum() == 0


def test_the_visitor_fills_the_holes_from_the_strip(tiny):
    mine, right = run(METHOD).traces["mask"], cut(prepare(METHOD)).right
    assert playable(mine).tolist() == [16, 17, 18, 19]  # no patch of the photo, no hole
    for count in (4, 1):
        part = run(METHOD, choice=tuple((16 + int(one),) for one in right[:count])).traces["mask"]
        assert part.facts["right"].value == 25 * count and len(part.steps[1].where("masked-random")) == 4 - count
    for wrong in (((0,),), ((20,),), ((16,),) * 5):
        job = prepare(METHOD, choice=wrong)
        with pytest.raises(ParamError, match="pieces of the strip"):
            by_hand(job, cut(job))


def test_a_step_asks_on_both_grids_and_the_loss_falls():
    recipe = PhotoSelfie(0)
    recipe.train, recipe.batch_size = (PIXELS.clamp(-1, 1) * 100 + 120).to(torch.uint8), 6
    batch, model = recipe.batch(0, 0.0), SelfieNet(width=24, inside=24, depth=1, layers=1, heads=2, pool_inside=24)
    assert [batch[f"holes {size}"].shape[1] for size in SIZES] == [16, 4]
    learns(model, lambda model: recipe.loss(model, batch, 0.0)[0], steps=30, rate=1e-2, below=0.9)
    only_these_move(model, lambda model: recipe.loss(model, batch, 0.0)[0],
                    ("patch_network", "layers", "norm", "start_embed", "place_embed"))


def test_fine_tuning_trains_the_patch_network_too(model):
    parts = ("patch_network", "place", "layer", "norm", "head")
    frozen = TunedPatches(model)
    frozen.patch_network.requires_grad_(False)
    caught(lambda network: only_these_move(network, lambda tuned: tuned(PIXELS).square().sum(), parts),
           TunedPatches(model).requires_grad_(True), frozen)
    before = model.patch_network.norm.weight.clone()
    finetuned(TunedPatches(model), PIXELS, np.arange(2), 1, size=4)
    assert torch.equal(model.patch_network.norm.weight, before), "the shipped network is not touched"
