"""VAR's traps: accumulated inputs, block-causal attention, growing guidance, a first token that decides; and its
recipe: a part of a pyramid is enough for coarse maps. Residual maps are tests/training/test_scene_mvq.py's, and that
every token is drawn once tests/loops/test_growth.py's.
"""

import copy
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.backbones.pictures import from_uint8
from models.backbones.scales import SCALES
from models.engine.method import run
from models.loops.unmask import growth
from models.loops.unmask import pyramids as records
from models.papers.var import method as var
from models.papers.var.network import ScaleTransformer
from models.trace import Cost
from models.worlds import scenes
from tests.painters import painter
from tests.traps import as_, caught, moved, work_is_counted

ATOL = 2e-4
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture()
def parts(tiny):
    """Tokenizer, transformer, and three pictures."""
    tokenizer, model = (tiny.bundle(name).model for name in ("scene-mvq-1", "scene-var-1"))
    return tokenizer, model, from_uint8(scenes.pictures(scenes.several(3, 3)))


def level() -> torch.Tensor:
    """The scale of each of the 130 tokens."""
    return torch.repeat_interleave(torch.arange(6), torch.tensor([side**2 for side in SCALES]))


# --- what the transformer reads -------------------------------------------------------------------------------------

def test_inputs_are_the_accumulated_sum_at_the_next_size(parts):
    tokenizer, model, pictures = parts
    found = tokenizer.quantise(tokenizer.features(pictures))
    inputs = tokenizer.inputs(found.sums)
    for scale in range(2, 6):
        place, before, side = model.place(scale), model.scales[scale - 1], model.scales[scale]
        raw = tokenizer.entries[found.ids[:, model.place(scale - 1)]].transpose(1, 2).unflatten(2, (before, before))
        got = inputs[:, place.start - 1 : place.stop - 1].transpose(1, 2).unflatten(2, (side, side))
        caught(lambda x, got=got: torch.allclose(x, got, atol=ATOL),
               F.adaptive_avg_pool2d(found.sums[scale - 1], side), F.interpolate(raw, size=(side, side)))


def test_no_scale_reads_its_own_tokens(parts):
    tokenizer, model, pictures = parts
    ids = tokenizer.encode(pictures)

    def from_coarser_tokens_only(inputs):
        """Other tokens of a scale move the inputs of finer scales and no others."""
        for scale in range(1, 6):
            found = moved(inputs, ids, model.place(scale), size=64)
            assert not found[level()[1:] <= scale].any() and (scale == 5 or found.any())

    def leaky(ids):
        """Mutant: the sum with this scale's own map."""
        return torch.cat([tokenizer.following(total, scale) for scale, total in enumerate(tokenizer.sums(ids))][1:], 1)

    caught(from_coarser_tokens_only, lambda ids: tokenizer.inputs(tokenizer.sums(ids)), leaky)


# --- who sees whom --------------------------------------------------------------------------------------------------

class Unmasked(ScaleTransformer):
    """Mutant: everybody sees everybody."""

    def mask(self):
        return torch.ones_like(super().mask())


class Causal(ScaleTransformer):
    """Mutant: the plain causal mask; tokens of one scale see those before them only."""

    def mask(self):
        return torch.ones_like(super().mask()).tril()


def test_attention_is_block_causal(parts):
    """By the mask, and by what other inputs of a scale's last token move: its own scale and the finer ones."""
    tokenizer, model, pictures = parts
    features = tokenizer.inputs(tokenizer.quantise(tokenizer.features(pictures)).sums)
    cond, where = torch.tensor([[3, 20, 0, 0]] * 3), torch.cat([torch.full((4,), -1), level()])

    def block_causal(model):
        assert torch.equal(model.mask()[0, 0], where[:, None] >= where)

    def hears_its_own_and_coarser_scales(model):
        for scale in range(1, 6):
            found = moved(lambda x: model(x, cond), features, model.place(scale).stop - 2, atol=1e-5)
            assert np.array_equal(found, level() >= scale)

    mutants = as_(Unmasked, model), as_(Causal, model)
    caught(block_causal, model, *mutants)
    caught(hears_its_own_and_coarser_scales, model, *mutants)
    whole, short = model(features, cond), model(features[:, :29], cond)
    assert short.shape[1] == 30 and torch.allclose(whole[:, :30], short, atol=ATOL), "a pyramid cut short is exact"


# --- drawing --------------------------------------------------------------------------------------------------------

def grown(parts, guidance=0.0, seed=0, count=2, **options):
    tokenizer, model, _ = parts
    cond = torch.tensor([[3, 20, 0, 0], [8, 0, 0, 0]])[:count]
    return list(var.grow(model, tokenizer, cond, torch.Generator().manual_seed(seed), guidance, **options)), cond


def joined(maps, name="ids"):
    return torch.cat([getattr(found, name) for found in maps], 1)


def test_guidance_grows_and_both_branches_read_the_same_tokens(parts):
    """Cached passes are the masked pass over the run's own tokens, guided by hand."""
    tokenizer, model, _ = parts

    def logits(ids, words):
        return model(tokenizer.inputs(tokenizer.sums(ids)), words)

    def by_hand(pull, ramp, mixed):
        maps, cond = grown(parts, pull)
        ids, strength = joined(maps), pull * ramp[level()][:, None]
        no = logits(ids.flip(0) if mixed else ids, torch.zeros_like(cond))
        wanted = (1 + strength) * logits(ids, cond) - strength * no
        return torch.allclose(joined(maps, "logits"), wanted, atol=20 * ATOL)

    rising = torch.arange(6) / 5
    caught(by_hand, (2.0, rising, False), (2.0, torch.ones(6), False), (2.0, rising, True))  # constant; other tokens
    assert by_hand(0.0, rising, False)
    assert [m.pull for m in grown(parts, 2.0)[0]] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2.0])


class Blurred(var.Scales):
    """Mutant: coarse to fine is played with a finished picture, whose maps are shown one after the other."""

    def read(self, scale, ids):
        picture = torch.zeros(1, 3, 64, 64)
        picture[..., 10:30, 10:30] = 1
        finished = self.tokenizer.encode(picture)[:, self.groups[scale]]
        return 20 * F.one_hot(finished, 64).float()


def test_the_first_map_is_one_token_that_everything_depends_on(parts):
    """No blurring of a finished picture: scale 1 is drawn before anything else is there."""
    tokenizer, model, _ = parts

    def decides(reader):
        def play(given=None):
            return list(growth.grow(reader(model, tokenizer, torch.tensor([[3, 20, 0, 0]])), 1,
                                    torch.Generator().manual_seed(0), given=given))
        maps = play()
        assert maps[0].ids.shape == (1, 1) and maps[0].logits.shape[1] == 1
        forced = growth.GivenTokens((joined(maps) + (level() == 0)) % 64, level() > 0)  # another first token
        other = play(forced)
        assert torch.equal(other[0].logits, maps[0].logits)
        assert all(not torch.allclose(a.logits, b.logits, atol=1e-3) for a, b in zip(maps[1:], other[1:]))

    caught(decides, var.Scales, Blurred)


def test_outside_the_box_every_map_keeps_the_given_tokens(parts):
    tokenizer, model, _ = parts
    kept = var.given(tokenizer, "red circle, blue square", "left", 0)
    ids = joined(grown(parts, count=1, given=kept)[0])
    assert torch.equal(ids[:, ~kept.inside], kept.ids[:, ~kept.inside])
    assert not torch.equal(ids[:, kept.inside], kept.ids[:, kept.inside])
    sides = [int(kept.inside[model.place(scale)].sum()) for scale in range(6)]
    assert sides == [0, 2, 3, 8, 18, 32], "half of every map whose tokens can be halved"
    assert var.given(tokenizer, "red circle", "none", 0) is None


# --- what is shown --------------------------------------------------------------------------------------------------

def test_a_run_has_one_pass_per_map_and_says_what_each_costs(tiny):
    found = run("var", seed=1, params={"guidance": 2}).traces["unmask"]
    assert [len(step.where("new")) for step in found.steps] == [1, 4, 9, 16, 36, 64]
    assert [step.level for step in found.steps] == ["scale"] * 6

    def every_step_has_its_cost(steps):
        """K alone would hide that the last map holds half of the tokens."""
        costs = [step.cost for step in steps]
        assert all(cost.calls == 1 and cost.macs > 0 and cost.ms > 0 for cost in costs)
        assert max(costs, key=lambda cost: cost.macs) is costs[-1]
        assert sum(costs, Cost()).rows == 2 * 2 * 134, "two layers, two branches, and the caption once"
        assert costs[-1].cache_bytes == 2 * 2 * 2 * 134 * 32 * 4

    caught(every_step_has_its_cost, list(found.steps), [replace(step, cost=Cost()) for step in found.steps],
           [replace(step, cost=found.steps[0].cost) for step in found.steps])
    assert found.facts["passes"].value == 6 and found.facts["tokens"].value == 130
    assert not np.array_equal(found.steps[1].picture, found.steps[2].picture)
    assert np.isnan(found.steps[2].fields["entropy"][14:]).all() and found.steps[-1].fields["entropy"].min() >= 0


def test_work_is_what_is_computed(parts):
    tokenizer, model, _ = parts
    reader = var.Scales(model, tokenizer, torch.tensor([[3, 20, 0, 0]]))
    unread = model.embed_features.weight.numel()  # the start is no feature
    reader.features = lambda scale, ids: None if scale == 0 else torch.ones(1, SCALES[scale] ** 2, 10)
    for scale in range(6):
        work_is_counted(lambda at=scale: reader.read(at, None), model.work(scale) - (scale == 0) * unread)


def test_the_pyramid_lies_in_one_square_without_overlap():
    corners, whole = records.shelves(SCALES)
    taken = np.zeros((whole, whole), int)
    for (top, left), side in zip(corners, SCALES):
        taken[top : top + side, left : left + side] += 1
    assert whole == 15 and taken.max() == 1 and taken.sum() == 130
    canvas = records.pyramid(SCALES)
    assert canvas.size == 130 and len({tuple(p) for p in canvas.positions}) == 130


def test_attention_between_maps_adds_up_and_is_block_causal(tiny):
    found = run("var").traces["attend"]
    chart = next(chart for chart in found.charts if chart.title == "Attention by map")
    mass = chart.series["share of attention"]
    assert np.allclose(mass.sum(1), 1, atol=1e-3) and mass.shape == (6, 7)
    assert np.abs(np.triu(mass[:, 1:], 1)).max() == 0, "no map looks at a finer one"
    rows = np.stack([found.rows.row(1, 0, query) for query in (0, 3, 129)])
    assert rows[0, 1:].max() == 0 and rows[1, 5:].max() == 0 and rows[2, 5:].max() > 0


@pytest.mark.parametrize("show", records.SHOWN)
def test_maps_show_what_was_asked_and_a_box_is_marked(tiny, show):
    steps = run("var", params={"show": show, "box": "upper"}).traces["unmask"].steps
    assert steps[-1].picture.shape == (240, 240, 3)
    assert len(np.unique(steps[-1].picture.reshape(-1, 3), axis=0)) > 3
    assert len(steps[-1].where("visible")) == 130 - len(steps[-1].where("new", "known")) > 60
    assert len(steps[0].where("visible")) == 1, "the single token of the first map lies on the border"


# --- the recipe -----------------------------------------------------------------------------------------------------

@pytest.fixture
def recipe(tiny, monkeypatch):
    return painter("scene-var-1", tiny, monkeypatch)


def test_it_starts_from_the_masked_models_layers_words_and_places(recipe, tiny):
    trunk = copy.deepcopy(tiny.bundle("scene-mgm-1").model)
    trunk.embed_rows, trunk.embed_columns = nn.Embedding(16, 32), nn.Embedding(16, 32)
    made = ScaleTransformer.beside(trunk, recipe.tokenizer)
    ours, names = made.state_dict(), ("layers", "norm", "embed_cond", "embed_slots")
    assert all(torch.equal(ours[name], weight) for name, weight in trunk.state_dict().items() if name.startswith(names))
    last = trunk.embed_rows.weight[15] + trunk.embed_columns.weight[15]
    middle = trunk.embed_rows.weight[7] + trunk.embed_columns.weight[7]  # 8.5 of 16, rounded to even
    assert torch.allclose(made.embed_places.weight[-1], last) and torch.allclose(made.embed_places.weight[0], middle)


@torch.no_grad()
def test_a_scale_counts_with_its_side_and_a_part_where_it_was_read(recipe, tiny):
    model, batch = tiny.fresh("scene-var-1").eval(), recipe.batch(0, 0)
    every = F.cross_entropy(model(batch["features"], batch["cond"]).transpose(1, 2), batch["ids"], reduction="none")
    for scale, found in enumerate(recipe.losses(model, batch, recipe.size)):
        rows = slice(0, 7 if scale < recipe.coarse else recipe.size)
        assert float(found) == pytest.approx(float(every[rows, model.place(scale)].mean()), abs=1e-4)
    assert float(recipe.losses(model, batch)[5]) == pytest.approx(float(every[:, model.place(5)].mean()), abs=1e-4)
    total, logs = recipe.loss(model, batch, 0)

    def weighted(power):
        sides = [side**power for side in model.scales]
        return sum(w * float(one) for w, one in zip(sides, logs.values())) / sum(sides)

    caught(lambda power: float(total) == pytest.approx(weighted(power), rel=1e-5), 1, 2)  # 2: the paper's, by tokens


def test_a_poor_tokenizer_is_refused(recipe, monkeypatch):
    poor = types.SimpleNamespace(card={"metrics": {"parser score of reconstructions": {"value": 0.5}}}, model=None)
    monkeypatch.setattr("training.pyramids.load", lambda *_, **__: poor)
    with pytest.raises(ValueError, match="train it to 0.95 first"):
        recipe.prepare("")
