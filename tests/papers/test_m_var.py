"""M-VAR's traps: attention that is block-diagonal, a scan that looks back only and is Mamba-2's, a state that is
carried exactly, nine vectors a block; and that its arms differ in one thing.
"""

import copy
import types

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.backbones.pictures import from_uint8
from models.backbones.scales import SCALES
from models.engine.method import run
from models.papers.m_var import claim, network, record, ssm
from models.papers.m_var import method as m_var
from models.worlds import scenes
from tests.traps import as_, caught, moved, work_is_counted
from training.catalog import recipe

ATOL = 1e-4
COND = torch.tensor([[3, 20, 0, 0], [8, 0, 0, 0]])
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture()
def parts(tiny):
    """Tokenizer, M-VAR, and the features of two pictures."""
    tokenizer, model = (tiny.bundle(name).model for name in ("scene-mvq-1", "scene-mvar-1"))
    ids = tokenizer.encode(from_uint8(scenes.pictures(scenes.several(2, 3))))
    return tokenizer, model, ids, tokenizer.inputs(tokenizer.sums(ids))


def level() -> torch.Tensor:
    """The scale of each of the 130 tokens."""
    return torch.repeat_interleave(torch.arange(6), torch.tensor([side**2 for side in SCALES]))


# --- the scan -------------------------------------------------------------------------------------------------------

def token_by_token(layer: ssm.Mamba2, x: torch.Tensor) -> torch.Tensor:
    """Mamba-2 by its definition: one token after the other, its state written out."""
    gate, mixed, dt = layer.in_proj(x).split([layer.inner, layer.inner + 2 * layer.state, layer.heads], -1)
    padded = F.pad(mixed, (0, 0, layer.taps - 1, 0))
    state, found = torch.zeros(len(x), layer.heads, layer.inner // layer.heads, layer.state), []
    for t in range(x.shape[1]):
        window = padded[:, t : t + layer.taps]  # [B, 4, I + 2N]
        u, b, c = F.silu((window * layer.conv.weight[:, 0].T).sum(1) + layer.conv.bias).split(
            [layer.inner, layer.state, layer.state], -1)
        step, u = F.softplus(dt[:, t] + layer.dt_bias), u.unflatten(-1, (layer.heads, -1))
        decay = torch.exp(-step * layer.A_log.exp())
        state = decay[..., None, None] * state + step[..., None, None] * u[..., None] * b[:, None, None]
        y = (state * c[:, None, None]).sum(-1) + layer.D[:, None] * u
        found.append(layer.out_proj(layer.norm(y.flatten(1) * F.silu(gate[:, t]))))
    return torch.stack(found, 1)


def averaged(u, dt, fall, b, c, state):
    """Mutant: a moving average, which forgets at one rate and writes and reads what B and C do not choose."""
    return SCAN(u, torch.ones_like(dt), torch.full_like(fall, -0.1), torch.ones_like(b), torch.ones_like(c), state)


def undecayed(u, dt, fall, b, c, state):
    """Mutant: linear attention, which forgets nothing."""
    return SCAN(u, dt, torch.zeros_like(fall), b, c, state)


def forgetful(u, dt, fall, b, c, state):
    """Mutant: every chunk begins with an empty state."""
    return SCAN(u, dt, fall, b, c, torch.zeros_like(state))


SCAN = ssm.scan


@torch.no_grad()
def test_chunks_agree_with_the_recurrence_token_by_token(parts, monkeypatch):
    layer = copy.deepcopy(parts[1].layers[0].ssm)
    x = torch.randn(2, 130, 32, generator=torch.Generator().manual_seed(0))
    wanted = token_by_token(layer, x)

    def is_mamba(scan):
        monkeypatch.setattr(ssm, "scan", scan)
        for layer.chunk in (7, 32, 130):
            found, _ = layer(x)
            assert torch.allclose(found, wanted, atol=ATOL)

    caught(is_mamba, SCAN, averaged, undecayed, forgetful)


# --- who hears whom -------------------------------------------------------------------------------------------------

class Both(ssm.Mamba2):
    """Mutant: the scan runs from fine to coarse as well."""

    def forward(self, x, before=None):
        (one, carried), (other, _) = super().forward(x, before), super().forward(x.flip(1))
        return one + other.flip(1), carried


def with_scans(model, cls):
    other = as_(type(model), model)
    for layer in other.layers:
        layer.ssm.__class__ = cls
    return other


class Across(network.DecoupledScales):
    """Mutant: full block-causal attention that is called intra-scale."""

    def mask(self):
        return self.ranks()[None, None, :, None] >= self.ranks()


@torch.no_grad()
def test_attention_hears_its_own_map_and_the_scan_the_coarser_ones(parts):
    model = parts[1]
    x = torch.randn(1, 130, 32, generator=torch.Generator().manual_seed(1))

    def stays_inside(model):
        attention = model.layers[0].self_attn
        for scale in (1, 2, 4):
            heard = moved(lambda x: attention(x, position_embeddings=model.angles(), attention_mask=model.mask())[0],
                          x, model.place(scale).start)
            assert np.array_equal(heard, level() == scale)

    caught(stays_inside, model, as_(Across, model))
    heard = moved(lambda x: model.layers[0].ssm(x)[0], x, 1, atol=1e-7)
    assert heard[1:5].all() and heard[level() == 2].any() and not heard[0], "later tokens of its map and finer maps"


@torch.no_grad()
def test_no_map_hears_a_finer_one(parts):
    model, features = parts[1], parts[3]

    def looks_back(model):
        for scale in (2, 5):
            heard = moved(lambda x: model(x, COND), features, model.place(scale).stop - 2, atol=1e-5)
            assert not heard[level() < scale].any() and heard[level() == scale].all()

    caught(looks_back, model, with_scans(model, Both))
    short = model(features[:, :29], COND)
    assert torch.allclose(model(features, COND)[:, :30], short, atol=ATOL), "a pyramid cut short is exact"


@torch.no_grad()
@pytest.mark.parametrize("name", ["scene-mvar-1", "scene-mvar-full-1", "scene-mvar-intra-1"])
def test_what_is_carried_is_what_reading_everything_again_gives(parts, tiny, name):
    tokenizer, _, ids, features = parts
    model = tiny.bundle(name).model

    def map_by_map(zero):
        reader = m_var.Maps(model, tokenizer, COND, zero)
        return torch.cat([record.read_on(reader, scale, ids) for scale in range(6)], 1)

    def exact(zero):
        return torch.allclose(map_by_map(zero), model(features, COND), atol=ATOL)

    if model.layers[0].ssm is None:
        assert exact(0)
    else:
        caught(exact, 0, 3)
        assert torch.equal(map_by_map(3)[:, :14], map_by_map(0)[:, :14]), "what came before is not touched"


@torch.no_grad()
def test_a_state_is_thrown_away_once(parts):
    tokenizer, model, ids, _ = parts
    once, plain = (m_var.Maps(model, tokenizer, COND, zero) for zero in (3, 0))
    for scale in range(5):
        if scale == 4:
            plain.carried = list(once.carried)
        found = [record.read_on(reader, scale, ids) for reader in (once, plain)]
    assert torch.allclose(*found, atol=ATOL), "what map 3 says is carried on"


@torch.no_grad()
def test_where_nothing_is_carried_no_map_hears_another(parts):
    tokenizer, model, ids, features = parts

    def cut(read):
        heard = moved(read, features, 1)  # a feature of the 2 x 2 map
        assert heard[level() == 1].any() and not heard[level() > 1].any()

    caught(cut, lambda x: claim.emptied(model, tokenizer, ids, x, COND), lambda x: model(x, COND))


# --- nine vectors ---------------------------------------------------------------------------------------------------

class Six(network.DecoupledBlock):
    """Mutant: the third sub-layer takes what it is given as it is."""

    def forward(self, x, told, *others):
        plain = torch.zeros_like(told)
        plain[:, :6] = told[:, :6]
        return super().forward(x, plain, *others)


@torch.no_grad()
def test_each_sub_layer_has_its_gamma_scale_and_shift(parts):
    model, x = parts[1], torch.randn(1, 130, 32, generator=torch.Generator().manual_seed(2))
    told = torch.zeros(1, 9, 32)

    def nine(kind):
        block = as_(kind, model.layers[0])
        assert block.own.shape == (9, 32)
        play = lambda told: block(x, told, model.angles(), model.mask(), None, None)[0].flatten()  # noqa: E731
        for vector in range(9):
            other = told.clone()
            other[:, vector] = 0.5
            assert not torch.allclose(play(other), play(told), atol=1e-4)

    caught(nine, network.DecoupledBlock, Six)
    words = model.told(COND)
    assert words.shape == (2, 9, 32) and not torch.allclose(words[0], words[1])


@torch.no_grad()
def test_gamma_closes_a_sub_layer_and_scale_and_shift_stand_inside(parts):
    """Three times x + gamma f(LN(x) (1 + scale) + shift), by hand."""
    model, dice = parts[1], torch.Generator().manual_seed(3)
    block, x, told = model.layers[0], torch.randn(1, 130, 32, generator=dice), torch.randn(1, 9, 32, generator=dice)
    turned = dict(position_embeddings=model.angles(), attention_mask=model.mask())
    wanted = x
    parts = lambda seen: block.self_attn(seen, **turned)[0], lambda seen: block.ssm(seen)[0], block.mlp
    for part, (gamma, scale, shift) in zip(parts, (block.own + told).view(3, 3, 32), strict=True):
        wanted = wanted + gamma * part(F.layer_norm(wanted, (32,)) * (1 + scale) + shift)
    caught(lambda told: torch.allclose(block(x, told, model.angles(), model.mask(), None, None)[0], wanted, 1e-3, 1e-3),
           told, told.unflatten(1, (3, 3)).flip(2).flatten(1, 2))


# --- work and record ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["scene-mvar-1", "scene-mvar-full-1"])
def test_work_and_pairs_are_what_is_computed(parts, tiny, name):
    tokenizer, model = parts[0], tiny.bundle(name).model
    reader, told = m_var.Maps(model, tokenizer, COND[:1]), model.embed_modulation.weight.numel()
    reader.features = lambda scale, ids: None if scale == 0 else torch.ones(1, SCALES[scale] ** 2, 10)
    unread = model.embed_features.weight.numel()  # the start is no feature
    for scale in range(6):
        work_is_counted(lambda at=scale: reader.read(at, None), model.work(scale) - told - (scale == 0) * unread)
    counted = sum(int(model.mask()[0, 0][model.place(k)].sum()) for k in range(6))
    assert sum(map(model.pairs, range(6))) == counted


def test_what_is_kept_does_not_grow_with_the_tokens(parts, tiny):
    tokenizer, model, ids, _ = parts
    reader = m_var.Maps(model, tokenizer, COND)
    for scale in range(6):
        record.read_on(reader, scale, ids)
        held = sum(one.state.numel() + one.tail.numel() for one in reader.carried)
        assert held == 2 * model.kept(scale) == 2 * model.kept(0)
    assert tiny.bundle("scene-mvar-full-1").model.kept(5) == 26 * tiny.bundle("scene-mvar-full-1").model.kept(1)


def test_attention_is_split_by_maps_and_pairs_are_counted(tiny):
    found = run("m-var", seed=1).traces["attend"]
    mass, pairs, strip = (next(iter(chart.series.values())) for chart in found.charts[:3])
    assert np.allclose(mass.sum(1), 1, atol=1e-3) and np.abs(np.triu(mass, 1)).max() == 0
    assert pairs.sum() == pytest.approx(1, abs=1e-3) and found.facts["cost"].value == pytest.approx(100 * 5746 / 11323)
    assert strip.shape == (5, 3) and (strip >= 0).all() and (strip[:, 1] < 1).all()
    assert strip.max(0)[[0, 2]] == pytest.approx(1), "size and effect are shares of their largest"
    rows = np.stack([found.rows.row(1, 0, query) for query in (0, 3, 129)])
    assert rows[0, 1:].max() == 0 and rows[1, 0] == rows[1, 5:].max() == 0 and rows[2, :66].max() == 0
    assert record.uniform(SCALES) == pytest.approx(0.5355, abs=1e-3)


def test_thrown_away_means_from_the_next_map_on(tiny):
    plain, bare = (run("m-var", seed=1, params={"zero": zero}).traces["unmask"] for zero in (0, 2))
    same = [np.array_equal(plain.steps[-1].ids[part], bare.steps[-1].ids[part]) for part in (slice(5), slice(5, 130))]
    assert same == [True, False]
    assert plain.steps[-1].cost.cache_bytes == bare.steps[-1].cost.cache_bytes > 0


# --- the recipe -----------------------------------------------------------------------------------------------------

def test_arms_see_the_same_and_differ_in_one_thing(tiny):
    made = [recipe(name)(3) for name in ("scene-mvar-1", "scene-mvar-full-1", "scene-mvar-intra-1")]
    tokenizer = types.SimpleNamespace(codebook_size=1536, channels=32, scales=SCALES)
    models = []
    for one in made:
        one.tokenizer, one.size, one.more = tokenizer, 1, 1
        models.append(one.build())
        one.tokenizer = tiny.fresh("scene-mvq-1")
    sizes = [sum(p.numel() for p in model.parameters()) for model in models]
    caught(lambda sizes: max(sizes) < 1.01 * min(sizes), sizes, [sizes[0], 2 * sizes[1]])
    assert [(model.across, model.layers[0].ssm is not None) for model in models] == [
        (False, True), (True, False), (False, False)]
    batches = [one.batch(5, 0.1) for one in made]
    assert all(torch.equal(batches[0][key], other[key]) for other in batches[1:] for key in batches[0])
    assert len({(one.steps, one.lr, one.lr_adam, one.decay, one.ema, one.pack) for one in made}) == 1


def test_a_step_reaches_every_part(tiny):
    made, model = recipe("scene-mvar-1")(0), tiny.fresh("scene-mvar-1")
    made.tokenizer, made.size, made.more = tiny.fresh("scene-mvq-1"), 2, 3
    made.loss(model, made.batch(0, 0.0), 0.0)[0].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
