"""CAE: the traps its spec names, each with the mutant that the same check must refuse."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.backbones.pictures import MEAN, STD
from models.baselines.mae.method import masks
from models.engine import prepare, run, twin
from models.papers.cae import record
from models.papers.cae.guesses import OTHER, PLACE, PLAIN, TRUE, examined
from models.papers.cae.recipe import PhotoCAE, PhotoCAEAlone, PhotoCodesMAE
from tests import tiny as stand_ins
from tests.photo_nets import filled, photos
from tests.traps import caught, dice, multiply_adds, only_these_move


@cache
def model():
    net = stand_ins.fresh("photo-cae-1").eval().requires_grad_(False)
    for seed, norm in enumerate(one for one in net.regressor.modules() if isinstance(one, nn.LayerNorm)):
        norm.bias.copy_(torch.randn(norm.bias.shape, generator=torch.Generator().manual_seed(seed)))  # each its own
    return net


@cache
def halves(count: int = 2):
    """Pixels, visible [B, 32] and hidden [B, 32]."""
    return photos(count), *masks("block", (8, 8), 32, count, dice())


# ---- the network, in the spec's formulas; each switch is a mistake

def normed(x, norm):
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def attended(block, q, k, v):
    q, k, v = (one.unflatten(-1, (block.heads, -1)).transpose(1, 2) for one in (block.q(q), block.k(k), block.v(v)))
    return block.out(((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))


def reference(net, placed_values=False, rewritten=False, peeking=False, one_norm=False):
    """Z^ [B, M, D] and logits [B, M, C]."""
    pixels, visible, hidden = halves()
    seen, at, at_seen = net.encode(pixels, visible), net.positions(hidden), net.positions(visible)
    q = net.mask_token.expand(2, 32, -1)
    for block in net.regressor:
        both, places = torch.cat([seen, q], 1), torch.cat([at_seen, at], 1)
        who, where = (both, places) if rewritten else (q, at)
        values = both + places if placed_values else both
        heard = attended(block, normed(who + where, block.norm_q), normed(both + places, block.norm_k),
                         normed(values, block.norm_k if one_norm else block.norm_v))
        new = normed(who + block.gamma_attention * heard, block.norm_mlp)
        new = new + block.gamma_mlp * block.mlp(new)
        seen, q = (new[:, :32], new[:, 32:]) if rewritten else (seen, new)
    latents = normed(q, net.regressor_norm)
    shown = torch.cat([latents + at, seen + at_seen], 1) if peeking else latents + at
    return latents, net.through(shown)[:, :32]


def test_holes_alone_change_values_have_no_places_and_the_decoder_sees_guesses_alone():
    made, right = model()(*halves()), reference(model())
    placed, rewritten, peeking, shared = (reference(model(), **{one: True}) for one in (
        "placed_values", "rewritten", "peeking", "one_norm"))
    caught(lambda other: torch.allclose(made.latents, other, atol=1e-4), right[0], placed[0], rewritten[0], shared[0])
    caught(lambda other: torch.allclose(made.logits, other, atol=1e-3), right[1], peeking[1])


def test_what_is_hidden_is_not_seen_and_the_target_sees_nothing_else():
    pixels, visible, hidden = halves()

    def hears(f, patch):
        other, (y, x) = pixels.clone(), divmod(int(patch), 8)
        other[0, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] += 1
        return not torch.allclose(f(other), f(pixels), atol=1e-5)

    def codes(x):
        return model()(x, visible, hidden).logits

    def whole(x):  # the whole picture is encoded and the hidden patches are read off
        return model().encode(x, torch.arange(64).expand(2, -1))[:, hidden[0]]
    gone, there = hidden[0, 5], visible[0, 5]
    caught(lambda patch: not hears(codes, patch), gone, there)
    caught(lambda target: hears(target, gone) and not hears(target, there), lambda x: model().target(x, hidden), whole,
           lambda x: model().encode(x, visible))


def test_the_target_is_the_encoder_of_this_moment_and_gets_no_gradient():
    net = stand_ins.fresh("photo-cae-1")
    average = copy.deepcopy(net)  # an EMA teacher as it stands one step later
    net.vit.layers[0].mlp.fc1.weight.data.add_(0.1)
    pixels, _, hidden = halves()
    with torch.no_grad():
        now = net.encode(pixels, hidden)
    caught(lambda said: torch.equal(said, now) and not said.requires_grad, net.target(pixels, hidden),
           average.target(pixels, hidden), net.encode(pixels, hidden))


# ---- training

def recipe_of(kind, monkeypatch):
    recipe = filled(kind, monkeypatch)
    recipe.codebook = stand_ins.fresh("photo-vq-1").requires_grad_(False)
    return recipe


def test_masks_are_blocks_of_exactly_half(monkeypatch):
    def in_blocks(hidden):
        grid = F.one_hot(hidden, 64).sum(1).view(-1, 8, 8)
        beside = (grid[:, 1:] * grid[:, :-1]).sum((1, 2)) + (grid[:, :, 1:] * grid[:, :, :-1]).sum((1, 2))
        return hidden.shape[1] == 32 and (grid <= 1).all() and float(beside.float().mean()) > 36  # at random: 28

    def of(rule, count):
        return masks(rule, (8, 8), count, 8, dice())[1]
    batch = recipe_of(PhotoCAE, monkeypatch).batch(5, 0.5)
    caught(in_blocks, batch["hidden"], of("random", 32), of("random", 48), of("block", 48))
    assert (torch.cat([batch["visible"], batch["hidden"]], 1).sort().values == torch.arange(64)).all()


def test_arms_see_the_same_and_differ_in_alignment_or_in_the_decoder(monkeypatch):
    full, alone, style = (recipe_of(kind, monkeypatch) for kind in (PhotoCAE, PhotoCAEAlone, PhotoCodesMAE))
    mine, *others = (one.batch(5, 0.5) for one in (full, alone, style))
    caught(lambda batch: all(torch.equal(mine[name], batch[name]) for name in mine), others[0], full.batch(6, 0.5))
    assert all(torch.equal(mine[name], others[1][name]) for name in mine)
    colours = mine["pixels"] * torch.from_numpy(STD)[:, None, None] + torch.from_numpy(MEAN)[:, None, None]
    caught(lambda shown: torch.equal(full.codebook.encode(shown).flatten(1).gather(1, mine["hidden"]), mine["codes"]),
           colours, mine["pixels"])  # mutant: the tokenizer gets what encoders get
    net = full.build()
    made = net(mine["pixels"], mine["visible"], mine["hidden"])
    named = F.cross_entropy(made.logits.flatten(0, 1), mine["codes"].flatten())
    off = (made.latents - net.target(mine["pixels"], mine["hidden"])).pow(2).mean()
    caught(lambda total: torch.allclose(full.loss(net, mine, 0.0)[0], total), named + 2 * off, named + off, named)
    assert torch.allclose(alone.loss(net, mine, 0.0)[0], named)
    shared = ("vit.", "mask_token", "decoder", "head")
    only_these_move(net, lambda net: full.loss(net, mine, 0.0)[0], (*shared, "regressor"))
    only_these_move(style.build(), lambda net: style.loss(net, mine, 0.0)[0], shared)


# ---- how guesses are judged

class Judged(torch.nn.Module):
    """Guesses near the truth, or blind ones that know the places alone; all features as large as one likes."""

    def __init__(self, large: float = 1.0, blind: bool = False):
        super().__init__()
        self.large, self.blind = large, blind
        self.centre = self.target(*halves(4)[::2]).mean((0, 1))

    def target(self, pixels, hidden):
        return self.large * model().target(pixels, hidden)

    def forward(self, pixels, visible, hidden):
        made, near = model()(pixels, visible, hidden), self.target(pixels, hidden)
        blind = self.centre + self.large * model().positions(hidden)
        return made._replace(latents=blind if self.blind else near + 0.1 * self.large * made.latents)


def test_guesses_are_judged_by_their_direction_beside_another_photos():
    def judged(*how):
        found = examined(Judged(*how), stand_ins.fresh("photo-vq-1"), *halves(4))
        return {name: float(one.mean()) for name, one in found.items()}

    def squared(large):
        return float((Judged(large)(*halves(4)).latents - Judged(large).target(*halves(4)[::2])).pow(2).mean())
    plain, small, blind = judged(1.0), judged(0.1), judged(1.0, True)
    caught(lambda one, other: one == pytest.approx(other, rel=1e-3), (plain[TRUE], small[TRUE]),
           (squared(1.0), squared(0.1)))
    caught(lambda one: one[TRUE] > 0.2 + max(one[OTHER], one[PLACE]), plain, blind)
    judge, hidden = Judged(), halves(4)[2]
    own, guessed = (one - judge.centre for one in (judge.target(halves(4)[0], hidden), judge(*halves(4)).latents))
    caught(lambda others: float(F.cosine_similarity(guessed, others, dim=-1).mean()) == pytest.approx(
        plain[OTHER], abs=1e-4), own.roll(1, 0), own.roll(1, 1))  # mutant: other patches of the same photo
    assert plain[PLAIN[1]] > plain[OTHER], "the shared mean makes any pair alike"


# ---- the records

def test_work_is_counted():
    one = [part[:1] for part in halves()]
    caught(lambda cost: multiply_adds(lambda: model()(*one)) == cost.macs, record.work(model(), 32, 32),
           record.work(model(), 16, 48))


def test_the_records_set_the_guess_beside_the_encoders_own_word(tiny):
    found = run("cae", params={"hole": 9}).traces
    mask, attend = found["mask"], found["attend"]
    hidden = mask.steps[0].where("masked")
    assert len(hidden) == 32 and [len(step.where("new")) for step in mask.steps] == [0] + [32] * 5
    assert mask.steps[-1].label.endswith(record.GUESS), "the last picture is the method's own, not the true tiles"
    cells = attend.canvas.picture.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, 64, 3)
    assert (cells[hidden] == cells[hidden[0], 0]).all(), "no hole shows the pixels that no network read"
    g = record.guess(prepare("cae"))
    caught(lambda latents: torch.allclose(model().draw(latents, torch.from_numpy(hidden)[None])[0].argmax(-1),
                                          torch.from_numpy(g.drawn[record.OWN]["code"])),
           g.latents[record.OWN], g.latents[record.GUESS])
    rows = attend.rows.weights.astype(float) / 255 * attend.rows.scale[..., None]
    np.testing.assert_array_equal(attend.rows.queries, hidden)
    np.testing.assert_allclose(rows.sum(-1), 1, atol=0.1)
    to_seen = 100 * rows[..., g.visible].sum(-1).mean((1, 2))  # of each block
    caught(lambda share: np.allclose(attend.charts[0].series["visible"], share, atol=2), to_seen, 100 - to_seen)
    told = record.facts(g._replace(drawn={by: g.drawn[by] | {"right": np.arange(4) < count} for by, count in (
        (record.GUESS, 1), (record.OWN, 2))}))
    assert (told["guessing"].value, told["drawing"].value) == (25, 50), "a quarter right, half with its own features"
    assert np.isnan(attend.steps[0].fields["entropy"]).sum() == 32 and len(attend.steps[0].where("new")) == 1


@pytest.mark.parametrize("params", ({"mask_ratio": 0.25, "hole": 63, "rule": "random"}, {"mask_ratio": 0.75}))
def test_every_setting_runs_beside_the_same_mask(tiny, params):
    job = prepare("cae", params=params, seed=8)
    assert len(record.guess(job).hidden.ids) == round(64 * params["mask_ratio"])
    other = twin(job)
    assert other.params.mask_ratio == params["mask_ratio"] and other.params.rule == params.get("rule", "block")
