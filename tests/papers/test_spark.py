"""SparK: the traps its spec names, each with the mutant that the same check must refuse.

The reference for the sparse layers is models/papers/spark/claim_exact.py, which gathers kept positions and computes no
others.
"""

import copy
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, max_pool2d, relu

from models.backbones.convnet import Conv, Norm, at
from models.engine.method import find, prepare, run, twin
from models.loops.mask.photos import photo
from models.papers.spark import claim_exact, holes, kernel_paths
from models.papers.spark import method as spark
from models.papers.spark.network import SparkNet, kept_cells, kept_count
from models.papers.spark.recipe import PhotoSpark
from models.trace import CODE
from models.trace.subject import from_image
from tests import tiny
from tests.mask_nets import picture
from tests.tiny import mae
from tests.traps import caught, work_is_counted
from visualizers import draw
from visualizers.drawing.canvas import own_cells

KEPT, BATCH = 26, 3


@cache
def network():
    """The tiny stand-in in double precision, with statistics that are not the identity."""
    model = tiny.fresh("photo-spark-1").double()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, std=0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model.eval().requires_grad_(False)


def masked(seed: int = 0, side: int = 8, kept: int = KEPT):
    """Pixels [B, 3, 64, 64] and kept cells [B, 1, f, f]."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(BATCH, 3, 64, 64, generator=generator, dtype=torch.float64)
    noise = torch.rand(BATCH, side * side, generator=generator)
    return pixels, kept_cells(noise, kept).unflatten(1, (side, side))[:, None]


# ---- trap: the mask is applied once, to the input

def the_holes_stay(layers):
    """Non-zero positions are exactly the kept cells, after every layer."""
    for seed in range(3):
        pixels, active = masked(seed)
        for found in layers(pixels * at(active, pixels), active):
            assert torch.equal(found.ne(0).any(1, keepdim=True), at(active, found))


def equals_the_gathered_convolution(layers):
    pixels, active = masked()
    found = list(layers(pixels * at(active, pixels), active))
    for i in range(BATCH):
        for mine, exact in zip(found, claim_exact.layers(network().encoder, pixels[i], active[i, 0]), strict=True):
            assert float((mine[i] - exact).abs().max()) < 1e-5


def masked_once(pixels, active):
    return network().encoder.layers(pixels)


def masked_between_layers(pixels, active):
    """Dense inside a block, emptied after it: what leaked in has been mixed by then."""
    x = relu(network().encoder.norm(network().encoder.stem(pixels)))
    for block in (None, *network().encoder.blocks()):
        x = x if block is None else block(x)
        x = x * at(active, x)
        yield x


def finer(pixels, active):
    """A mask grid finer than the total stride: what a coarse position would have to be called."""
    return network().encoder.layers(pixels, max_pool2d(masked(0, 16, 102)[1].double(), 2) > 0)


def test_the_encoder_is_a_submanifold_convolution():
    caught(the_holes_stay, network().encoder.layers, masked_once, finer)
    caught(equals_the_gathered_convolution, network().encoder.layers, masked_once, masked_between_layers)


def test_a_cell_is_as_large_as_the_total_stride():
    model = network()
    assert model.config.patch_size == 64 // model.encoder(torch.zeros(1, 3, 64, 64).double())[-1].shape[-1] == 8
    assert model.grid == (8, 8)


# ---- trap: biases write into holes

def a_bias_leaves_holes_empty(kind):
    layer, (pixels, active) = kind(3, 4, 3, 2, 1).double(), masked()
    nn.init.ones_(layer.bias)
    y = layer(pixels * at(active, pixels), active)
    assert not y[~at(active, y).expand_as(y)].any()


class Forgetful(nn.Conv2d):
    def forward(self, x, active):
        return super().forward(x)


def test_a_bias_is_emptied_again():
    caught(a_bias_leaves_holes_empty, Conv, Forgetful)


# ---- trap: norms count empty positions

def statistics_ignore_holes(kind):
    """In training: the kept positions alone are normalised, and theirs are the running statistics."""
    norm, (pixels, active) = kind(3).double().train(), masked()
    nn.init.normal_(norm.bias)
    x = (2 * pixels + 1) * at(active, pixels)
    y, here = norm(x, active), at(active, x)[:, 0]
    rows = x.permute(0, 2, 3, 1)[here]
    flat = nn.BatchNorm1d(3).double()
    flat.bias.data = norm.bias.data
    assert torch.allclose(y.permute(0, 2, 3, 1)[here], flat(rows))
    assert torch.allclose(norm.running_mean, flat.running_mean) and torch.allclose(norm.running_var, flat.running_var)
    assert not y.permute(0, 2, 3, 1)[~here].any()


class Everywhere(nn.BatchNorm2d):
    def forward(self, x, active):
        y = super().forward(x)
        return y * at(active, y)


class Unemptied(Norm):
    def forward(self, x, active):
        y = super().forward(x, active)
        return y + self.bias[:, None, None] * ~at(active, y)


def test_norms_count_kept_positions_only():
    caught(statistics_ignore_holes, Norm, Everywhere, Unemptied)


# ---- the weights drop back into a plain dense network

def plain(weights: dict, x: torch.Tensor, depth: int = 2, stages: int = 3) -> list[torch.Tensor]:
    """The encoder by torch's own functions alone, from its state dict."""
    def conv(name, x, stride=1):
        weight = weights[f"{name}.weight"]
        return conv2d(x, weight, weights.get(f"{name}.bias"), stride, weight.shape[-1] // 2)

    def norm(name, x):
        return batch_norm(x, *(weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    x, maps = relu(norm("norm", conv("stem", x, 2))), []
    for n in range(stages):
        for i in range(depth):
            at_, stride = f"stages.{n}.{i}", 2 if n and not i else 1
            y = relu(norm(f"{at_}.norm", conv(f"{at_}.first", x, stride)))
            y = norm(f"{at_}.norm_second", conv(f"{at_}.second", y))
            if f"{at_}.shortcut.weight" in weights:
                x = norm(f"{at_}.norm_shortcut", conv(f"{at_}.shortcut", x, stride))
            x = relu(x + y)
        maps.append(x)
    return maps


def test_trained_weights_drop_back_into_the_dense_network():
    encoder, (pixels, active) = network().encoder, masked()
    dense = plain(encoder.state_dict(), pixels)
    for maps in (encoder(pixels), encoder(pixels, torch.ones_like(active))):
        assert all(torch.allclose(mine, theirs, atol=1e-10) for mine, theirs in zip(maps, dense, strict=True))
    assert not torch.allclose(encoder(pixels * at(active, pixels), active)[-1], dense[-1], atol=1e-2)


# ---- coverage of the dense arm

def changes(encoder, pixels, active) -> list[np.ndarray]:
    """Where the layers change when visible pixels do, over several changes."""
    seen = at(active, pixels)
    before = list(encoder.layers(pixels * seen))
    found = [torch.zeros_like(y[:, :1], dtype=torch.bool) for y in before]
    for seed in range(6):
        other, _ = masked(100 + seed)
        for i, y in enumerate(encoder.layers(3 * other * seen)):
            found[i] |= (y - before[i]).ne(0).any(1, keepdim=True)
    return found


def reach_is_what_changes(reach):
    pixels, active = masked()
    for told, true in zip(reach(at(active, pixels)), changes(network().encoder, pixels, active), strict=True):
        assert torch.equal(told, true)


def half_a_kernel_too_far(seen):
    return [max_pool2d(found.double(), 3, 1, 1) > 0 for found in network().encoder.reach(seen)]


def by_values_alone(seen):
    """Every position that is not zero: biases and norms fill them all at once."""
    pixels, active = masked()
    return [y.ne(0).any(1, keepdim=True) for y in network().encoder.layers(pixels * seen)]


def test_reach_is_where_changes_of_visible_pixels_arrive():
    caught(reach_is_what_changes, network().encoder.reach, half_a_kernel_too_far, by_values_alone,
           lambda seen: [torch.ones_like(y) for y in network().encoder.reach(seen)])


def test_holes_dissolve_in_the_dense_arm_before_the_last_stage():
    pixels, active = masked()
    walks = [holes.walk(network().encoder, pixels[:1], active[:1], sparse) for sparse in (True, False)]
    skipped, dense = (found.shares() for found in walks)
    assert np.all(skipped == KEPT / 64)
    assert np.all(np.diff(dense) >= 0) and dense[0] < 1 and dense[4] == 1  # layers 5 and 6 are the last stage


# ---- who reaches whom

def walled():
    """Kept cells [1, 1, 8, 8] on both sides of a wall one patch wide, and which cells are left and right of it."""
    active = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    active[..., 3] = False
    column = np.arange(64) % 8
    return active, column < 3, column > 3


def a_wall_is_not_crossed(shares):
    active, left, right = walled()
    rows = shares(network().encoder, active)
    assert not rows[:, left][..., right].any() and not rows[:, right][..., left].any()
    assert np.allclose(rows[:, left | right].sum(-1), 1) and not rows[:, ~(left | right)].any()


def test_paths_do_not_lead_through_skipped_holes():
    caught(lambda sparse: a_wall_is_not_crossed(lambda encoder, active: kernel_paths.shares(encoder, active, sparse)),
           True, False)


def test_paths_are_counted_as_a_network_of_ones_adds_them():
    encoder = SparkNet(widths=(1, 1, 1), depth=2, decoder_width=8).encoder.double().eval()
    for name, value in encoder.state_dict().items():
        value.fill_(float(name.endswith(("weight", "running_var"))))
    for norm in (module for module in encoder.modules() if isinstance(module, Norm)):
        norm.eps = 0.0
    _, active = masked()
    pixel = torch.zeros(1, 3, 64, 64).double()
    pixel[0, 0] = at(active[:1], pixel)[0, 0] * torch.randn(64, 64).exp()
    for inside in (None, active[:1]):
        for mine, added in zip(encoder.paths(pixel[:, :1], inside), encoder.layers(pixel, inside), strict=True):
            assert torch.allclose(mine / mine.sum(), added.detach() / added.sum())


# ---- mask, loss, densify

def test_the_share_kept_is_rounded():
    assert kept_count(64, 0.6) == 26 != int(64 * 0.4)  # the tab's other methods cut off
    assert (kept_count(64, 0.999), kept_count(64, 0.001)) == (1, 63)
    assert kept_cells(torch.rand(5, 64), KEPT).sum(1).tolist() == [KEPT] * 5


def test_only_hidden_cells_are_scored():
    kept = torch.tensor([[True, False]])
    says = SimpleNamespace(patchify=lambda pixels: pixels)
    made = SimpleNamespace(answer=lambda *_: torch.tensor([[[9.0], [2.0]]]))
    assert PhotoSpark.error(made, says, torch.zeros(1, 2, 1), (~kept).float()).tolist() == [4.0]


def test_patches_are_cut_as_the_other_networks_cut_them():
    pixels = torch.randn(2, 3, 64, 64)
    assert torch.equal(network().patchify(pixels), mae().patchify(pixels))
    assert torch.equal(network().unpatchify(network().patchify(pixels)), pixels)


def test_holes_get_the_mask_vector_and_a_scale_can_be_switched_off():
    model, (pixels, active) = copy.deepcopy(network()), masked()
    model.projections = nn.ModuleList(nn.Identity() for _ in model.projections)
    maps = model.encoder(pixels * at(active, pixels), active)
    full = model.densify(maps, active, active, (True, False, True))
    for i, (coarse, use) in enumerate(zip(full, (True, False, True))):
        own = model.mask_vectors[i].expand_as(coarse)
        there = at(active & use, coarse).expand_as(coarse)
        assert torch.equal(coarse[~there], own[~there])
        assert not use or not torch.equal(coarse[there], own[there])


def test_multiply_adds_are_those_of_the_convolutions():
    model = tiny.fresh("photo-spark-1").eval()
    work_is_counted(lambda: model(torch.zeros(1, 3, 64, 64), torch.ones(1, 64, dtype=torch.bool)), sum(model.macs()))


# ---- the run

def test_a_visitor_sees_holes_that_stay_and_holes_that_dissolve(tiny):
    job = prepare("spark")
    own, other = run("spark").traces["mask"], run("zero-fill").traces["mask"]
    leaked = [[len(step.where("recomputed")) for step in trace.steps if step.level == "layer"]
              for trace in (own, other)]
    assert leaked[0] == [0] * 7 and leaked[1][-1] == 38
    assert np.array_equal(own.steps[0].state, other.steps[0].state), "not the same mask"
    assert twin(job).params == spark.Params(0.6)
    assert own.facts["covered"].value == pytest.approx(100 * KEPT / 64) and other.facts["covered"].value == 100


def test_the_visitor_can_ask_who_reaches_whom(tiny):
    own, other = (run(id).traces["attend"] for id in ("spark", "zero-fill"))
    assert len(own.rows.queries) == KEPT and len(other.rows.queries) == 64  # nobody reaches a skipped hole
    assert own.facts["reached"].value < other.facts["reached"].value <= KEPT
    assert len(own.steps[0].where("new")) == 1 and len(own.steps[0].where("masked-random")) == 64 - KEPT


def test_the_modes_are_what_ifs_and_say_so(tiny):
    trained, what_if = (run("spark", params={"mode": mode}).traces["mask"] for mode in ("trained", "zero-fill"))
    assert "what-if" in what_if.sentence and "what-if" not in trained.sentence
    assert any(np.any(step.state == CODE["recomputed"]) for step in what_if.steps)


def test_a_hand_drawn_mask_hides_exactly_those(tiny):
    chosen = tuple(range(38))
    trace = run("spark", choice=(chosen,)).traces["mask"]
    assert trace.steps[0].where("masked").tolist() == list(chosen)


def test_the_stem_sees_less_of_a_shift_when_holes_are_skipped(tiny):
    job = prepare("spark")
    view = photo(picture(), job.model)
    active = spark.kept_of(view, spark.hide(job, view)).unflatten(1, view.grid)[:, None]
    values = holes.norm_values(job.model.encoder, view.pixels, active)
    assert len(values["holes skipped"][0]) == 16 * KEPT and len(values["whole photo"][0]) == 32 * 32
    shift = holes.shifts(values)
    assert shift["holes skipped"][0] < shift["holes zero-filled"][0]


# ---- the recipe

def test_the_arms_differ_in_one_thing(tmp_path):
    from training.catalog import recipe
    arms = [recipe(name)(0) for name in ("photo-spark-1", "photo-spark-zero-1")]
    built, batches = [], []
    for arm in arms:
        arm.batch_size, arm.train = 4, torch.arange(8 * 3 * 64 * 64).reshape(8, 3, 64, 64).to(torch.uint8)
        torch.manual_seed(0)
        built.append(arm.build())
        batches.append(arm.batch(3, 0.1))
    assert (built[0].sparse, built[1].sparse) == (True, False)
    assert all(torch.equal(a, b) for a, b in zip(built[0].state_dict().values(), built[1].state_dict().values()))
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in batches[0])
    assert batches[0]["kept"].sum(1).tolist() == [KEPT] * 4


def test_a_network_is_read_as_it_was_saved(tmp_path):
    from models.checkpoints.store import load
    from training.export import save_hub
    model = SparkNet(widths=(4, 4, 8), depth=1, decoder_width=8, sparse=False).eval()
    save_hub(model, tmp_path)
    again = load(str(tmp_path), dtype="float32").model
    pixels, kept = torch.randn(1, 3, 64, 64), kept_cells(torch.rand(1, 64), KEPT)
    assert not again.sparse and torch.equal(again(pixels, kept), model(pixels, kept))


def test_the_baseline_is_the_control():
    assert find("spark").baseline == "zero-fill" and find("zero-fill").checkpoints == ("photo-spark-zero-1",)
    assert replace(find("spark").params(), mode="sparse").mask_ratio == 0.6


def test_both_tabs_keep_the_photo_as_sharp_as_it_came(tiny):
    """Fault 18: the Attend tab's canvas was the mosaic of holes, so the sharp photo was left out."""
    large = from_image(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    for tab, trace in run("spark", large).traces.items():
        assert trace.canvas.photo is not None, tab
        first = trace.steps[1]
        hidden = first.where("masked-random", "recomputed", "masked")
        own = own_cells(trace.canvas, first.picture)
        assert len(hidden) and not own[hidden].any() and own[first.where("visible", "new")].all(), tab
    assert not draw(trace).frames[-1].clean, "nothing was painted in Attend: there is no finished picture"
