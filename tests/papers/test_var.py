"""VAR's traps: residual maps, accumulated inputs, block-causal attention, growing guidance, one draw per token."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kernels import Sampler, draw
from models.engine.method import prepare, run
from models.papers.var import method as var
from models.papers.var import record as var_records
from models.papers.var.tokens import down, up
from models.worlds import scenes

ATOL = 2e-4


@pytest.fixture()
def parts(tiny):
    """Tokenizer, transformer, and three pictures."""
    rng = np.random.default_rng(3)
    pictures = np.stack([scenes.draw(scenes.sample(rng)) for _ in range(3)])
    tokenizer, model = copy.deepcopy(tiny.fresh("scene-mvq-1")), tiny.fresh("scene-var-1").eval()
    return tokenizer, model, torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255


def lesson(tokenizer, pictures):
    """Pyramid and the features that teacher forcing reads."""
    with torch.no_grad():
        found = tokenizer.quantise(tokenizer.features(pictures))
        return found, tokenizer.inputs(found.sums)


# --- the tokenizer --------------------------------------------------------------------------------------------------

def naive(tokenizer, f, *, residual=True, filtered=True, area="area", cubic="bicubic"):
    """ids [B, L] and f_hat by the paper's steps, with torch's own resizing; the switches are the known mistakes."""
    rest, total, ids = f.clone(), torch.zeros_like(f), []
    for scale, side in enumerate(tokenizer.scales):
        small = rest if side == tokenizer.side else F.interpolate(rest, size=(side, side), mode=area)
        rows = small.permute(0, 2, 3, 1).reshape(-1, tokenizer.channels)
        found = ((rows[:, None] - tokenizer.entries) ** 2).sum(-1).argmin(1).reshape(len(f), side, side)
        h = tokenizer.entries[found].permute(0, 3, 1, 2)
        h = h if side == tokenizer.side else F.interpolate(h, size=(tokenizer.side,) * 2, mode=cubic)
        wide = tokenizer.phi_of(scale)(h)
        total = total + wide
        rest = rest - (wide if filtered else h) if residual else rest
        ids.append(found.flatten(1))
    return torch.cat(ids, 1), total


@torch.no_grad()
def test_tokens_are_the_papers(parts):
    tokenizer, _, pictures = parts
    f = tokenizer.features(pictures)
    found, (ids, total) = tokenizer.quantise(f), naive(tokenizer, f)
    assert torch.equal(found.ids, ids) and torch.allclose(found.sums[-1], total, atol=ATOL)
    for mistake in ({"residual": False}, {"filtered": False}, {"area": "bicubic"}, {"cubic": "nearest"}):
        assert not torch.equal(naive(tokenizer, f, **mistake)[0], ids), f"the oracle cannot tell {mistake}"


@torch.no_grad()
def test_maps_add_up_to_the_features(parts):
    """With residuals the sum comes close; an independently quantised pyramid is several pictures on top of another."""
    tokenizer, _, pictures = parts
    f = tokenizer.features(pictures)
    rows = f.permute(0, 2, 3, 1).flatten(0, 2)
    tokenizer.entries.data = torch.cat([torch.zeros(1, rows.shape[1]), rows[:: len(rows) // 63][:63]])
    for phi in tokenizer.phi:
        nn.init.dirac_(phi.conv.weight)
    off = [float((naive(tokenizer, f, residual=flag)[1] - f).pow(2).mean()) for flag in (True, False)]
    assert off[0] < f.pow(2).mean() and off[1] > 4 * off[0], "a pyramid without residuals must fail"


@torch.no_grad()
def test_decoding_sums_what_encoding_took(parts):
    tokenizer, _, pictures = parts
    found = tokenizer.quantise(tokenizer.features(pictures))
    for one, other in zip(tokenizer.sums(found.ids), found.sums, strict=True):
        assert torch.allclose(one, other, atol=ATOL)
    assert torch.equal(tokenizer.encode(pictures), found.ids)
    assert tokenizer.decode(found.ids).shape == pictures.shape


@pytest.mark.parametrize("side", (1, 2, 3, 4, 6, 8))
def test_resizing_is_torchs(side):
    small, large = torch.randn(2, 3, side, side), torch.randn(2, 3, 8, 8)
    assert torch.allclose(up(small, 8), small if side == 8 else F.interpolate(small, size=(8, 8), mode="bicubic"),
                          atol=1e-5)
    assert torch.allclose(down(large, side), F.adaptive_avg_pool2d(large, side), atol=1e-5)


def test_four_phis_serve_six_scales(parts):
    tokenizer = parts[0]
    chosen = [list(tokenizer.phi).index(tokenizer.phi_of(scale)) for scale in range(6)]
    assert chosen == [0, 0, 1, 2, 3, 3]
    assert [scale * 4 // 6 for scale in range(6)] != chosen, "equal shares are not the nearest tick"
    x = torch.randn(1, 10, 4, 4)
    assert torch.allclose(tokenizer.phi[0](x), 0.5 * x + 0.5 * tokenizer.phi[0].conv(x))


@torch.no_grad()
def test_the_first_token_knows_where_things_are(parts):
    """Two pictures of one object at different places: without the overview their means, and so r_1, are the same."""
    tokenizer, *_ = parts
    pictures = torch.stack([torch.from_numpy(scenes.draw([scenes.Thing("red", "circle", cell)])) for cell in (0, 10)])
    pictures = pictures.permute(0, 3, 1, 2) / 255
    tokenizer.layouts.data = torch.eye(48)[:16]
    z = tokenizer.features(pictures).mean((2, 3))
    assert torch.allclose(z[0, : tokenizer.local], z[1, : tokenizer.local], atol=1e-5)
    assert not torch.allclose(z[0, tokenizer.local :], z[1, tokenizer.local :], atol=0.01)


# --- what the transformer reads -------------------------------------------------------------------------------------

@torch.no_grad()
def test_inputs_are_the_accumulated_sum_at_the_next_size(parts):
    tokenizer, model, pictures = parts
    found, inputs = lesson(tokenizer, pictures)
    for scale in range(1, 6):
        place, side = model.place(scale), model.scales[scale]
        wanted = F.adaptive_avg_pool2d(found.sums[scale - 1], side).flatten(2).transpose(1, 2)
        got = inputs[:, place.start - 1 : place.stop - 1]
        assert torch.allclose(got, wanted, atol=ATOL)
        raw = F.interpolate(tokenizer.entries[found.ids[:, model.place(scale - 1)]].transpose(1, 2).unflatten(
            2, (model.scales[scale - 1],) * 2), size=(side, side)).flatten(2).transpose(1, 2)
        assert scale == 1 or not torch.allclose(raw, got, atol=0.05), "inputs without accumulation must fail"


def leaks(tokenizer, model, ids, inputs_of) -> list[bool]:
    """For every scale but the first: whether its inputs move with its own tokens."""
    found = []
    for scale in range(1, 6):
        other, place = ids.clone(), model.place(scale)
        other[:, place] = (other[:, place] + 1) % tokenizer.codebook_size
        moved = (inputs_of(ids) - inputs_of(other)).abs().amax((0, 2)) > 1e-6
        found.append(bool(moved[: place.stop - 1].any()))
        assert scale == 5 or bool(moved[place.stop - 1 :].any()), "finer scales must see them"
    return found


@torch.no_grad()
def test_no_scale_reads_its_own_tokens(parts):
    tokenizer, model, pictures = parts
    ids = tokenizer.encode(pictures)

    def leaky(ids):
        """Mutant: the sum with this scale's own map."""
        return torch.cat([tokenizer.following(total, scale) for scale, total in enumerate(tokenizer.sums(ids))][1:], 1)

    assert not any(leaks(tokenizer, model, ids, lambda ids: tokenizer.inputs(tokenizer.sums(ids))))
    assert all(leaks(tokenizer, model, ids, leaky)), "the mutant that leaks must fail"


# --- who sees whom --------------------------------------------------------------------------------------------------

def block_causal(mask, model) -> bool:
    """Whether a mask lets every scale see exactly itself, coarser ones and the caption."""
    level = [-1] * model.cond_length + [k for k, side in enumerate(model.scales) for _ in range(side**2)]
    return all(bool(mask[0, 0, i, j]) == (level[i] >= level[j]) for i in range(len(level)) for j in range(len(level)))


def test_the_mask_is_block_causal(parts):
    model = parts[1]
    mask = model.mask()
    assert mask.shape == (1, 1, 134, 134) and block_causal(mask, model)
    assert not block_causal(torch.ones_like(mask).tril(), model), "a plain causal mask must fail"
    assert not block_causal(torch.ones_like(mask), model), "no mask must fail"


def reach(model, features, cond, scale) -> tuple[bool, bool]:
    """Whether other inputs of a scale move coarser logits, and all logits of that scale."""
    place, other = model.place(scale), features.clone()
    other[:, place.start - 1] += 1.0  # its first token only
    moved = (model(features, cond) - model(other, cond)).abs().amax((0, 2)) > 1e-5
    return bool(moved[: place.start].any()), bool(moved[place].all())


@torch.no_grad()
def test_tokens_of_a_scale_see_each_other_and_no_finer_one(parts, monkeypatch):
    tokenizer, model, pictures = parts
    features, cond = lesson(tokenizer, pictures)[1], torch.tensor([[3, 20, 0, 0]] * 3)
    assert [reach(model, features, cond, scale) for scale in range(1, 6)] == [(False, True)] * 5
    right = type(model).mask
    monkeypatch.setattr(type(model), "mask", lambda self: torch.ones_like(right(self)))
    assert all(reach(model, features, cond, scale)[0] for scale in range(1, 6)), "the mutant without a mask must fail"
    monkeypatch.setattr(type(model), "mask", lambda self: torch.ones_like(right(self)).tril())
    middle = features.clone()
    middle[:, model.place(3).stop - 2] += 1.0  # its last token: under a causal mask nobody else of its scale sees it
    moved = (model(features, cond) - model(middle, cond)).abs().amax((0, 2))[model.place(3)] > 1e-5
    assert int(moved.sum()) == 1, "the causal mutant must fail"


@torch.no_grad()
def test_a_pyramid_cut_short_is_exact(parts):
    """Training reads most pictures up to 4 x 4 only: finer maps must not have mattered."""
    tokenizer, model, pictures = parts
    features, cond = lesson(tokenizer, pictures)[1], torch.tensor([[3, 20, 0, 0]] * 3)
    whole, short = model(features, cond), model(features[:, :29], cond)
    assert short.shape[1] == 30 and torch.allclose(whole[:, :30], short, atol=ATOL)


# --- drawing --------------------------------------------------------------------------------------------------------

def grown(parts, guidance=0.0, seed=0, count=2, **options):
    tokenizer, model, _ = parts
    cond = torch.tensor([[3, 20, 0, 0], [8, 0, 0, 0]])[:count]
    return list(var.grow(model, tokenizer, cond, torch.Generator().manual_seed(seed), guidance, **options)), cond


@torch.no_grad()
def test_cached_passes_are_the_masked_pass(parts):
    tokenizer, model, _ = parts
    maps, cond = grown(parts)
    ids = torch.cat([found.ids for found in maps], 1)
    assert torch.allclose(model(tokenizer.inputs(tokenizer.sums(ids)), cond), torch.cat([m.logits for m in maps], 1),
                          atol=ATOL)
    assert torch.allclose(maps[-1].total, tokenizer.sums(ids)[-1], atol=ATOL)


def by_hand(parts, maps, cond, ramp=lambda scale: scale / 5, mixed=False):
    """Guided logits of a run's own tokens from two whole passes; mixed: the unconditional one reads other tokens."""
    tokenizer, model, _ = parts
    ids = torch.cat([found.ids for found in maps], 1)
    yes, no = (model(tokenizer.inputs(tokenizer.sums(one)), words) for one, words in
               ((ids, cond), (ids.flip(0) if mixed else ids, torch.zeros_like(cond))))
    made = []
    for scale in range(6):
        pull, place = 2.0 * ramp(scale), model.place(scale)
        made.append((1 + pull) * yes[:, place] - pull * no[:, place])
    return torch.cat(made, 1)


@torch.no_grad()
def test_guidance_grows_and_both_branches_read_the_same_tokens(parts):
    maps, cond = grown(parts, guidance=2.0)
    found = torch.cat([m.logits for m in maps], 1)
    assert torch.allclose(found, by_hand(parts, maps, cond), atol=20 * ATOL)
    assert not torch.allclose(found, by_hand(parts, maps, cond, ramp=lambda scale: 1.0), atol=0.05), "constant guidance"
    assert not torch.allclose(found, by_hand(parts, maps, cond, mixed=True), atol=0.05), "two sets of tokens"
    assert [m.pull for m in maps] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2.0])


def test_every_token_is_drawn_once_from_its_own_distribution(parts):
    for sampler in (Sampler(), Sampler(1.0, 5, 0.6)):
        generator = torch.Generator().manual_seed(4)
        for found in grown(parts, seed=4, sampler=sampler)[0]:
            assert torch.equal(found.ids, draw(found.logits, sampler, generator))
    maps = grown(parts, sampler=Sampler(1.0, 1, 1.0))[0]
    assert all(torch.equal(found.ids, found.logits.argmax(-1)) for found in maps), "top-k 1 is the likeliest entry"


def test_the_first_map_is_one_token_that_everything_depends_on(parts):
    """No blurring of a finished picture: scale 1 is drawn before anything else is there."""
    tokenizer, model, _ = parts
    maps, _ = grown(parts, count=1)
    assert maps[0].ids.shape == (1, 1) and maps[0].logits.shape[1] == 1
    ids = torch.cat([found.ids for found in maps], 1)
    forced = var.Given(ids.clone(), torch.ones(130, dtype=torch.bool))
    forced.ids[:, 0] = (ids[:, 0] + 1) % 64
    forced.inside[0] = False
    other, _ = grown(parts, count=1, given=forced)
    assert torch.equal(other[0].logits, maps[0].logits)
    assert all(not torch.allclose(a.logits, b.logits, atol=1e-3) for a, b in zip(maps[1:], other[1:]))


# --- repainting -----------------------------------------------------------------------------------------------------

def test_outside_the_box_every_map_keeps_the_given_tokens(parts):
    tokenizer, model, _ = parts
    kept = var.given(tokenizer, "red circle, blue square", "left", 0)
    maps, _ = grown(parts, count=1, given=kept)
    ids = torch.cat([found.ids for found in maps], 1)
    assert torch.equal(ids[:, ~kept.inside], kept.ids[:, ~kept.inside])
    assert not torch.equal(ids[:, kept.inside], kept.ids[:, kept.inside])
    sides = [int(kept.inside[model.place(scale)].sum()) for scale in range(6)]
    assert sides == [0, 2, 3, 8, 18, 32], "half of every map whose tokens can be halved"
    assert var.given(tokenizer, "red circle", "none", 0) is None


# --- what is shown --------------------------------------------------------------------------------------------------

def test_a_run_has_one_pass_per_map_and_says_what_it_costs(tiny):
    found = run("var", seed=1, params={"guidance": 2}).traces["unmask"]
    assert [len(step.where("new")) for step in found.steps] == [1, 4, 9, 16, 36, 64]
    assert [step.level for step in found.steps] == ["scale"] * 6 and found.cost.calls == 6
    assert found.facts["passes"].value == 6 and found.facts["tokens"].value == 130
    assert found.cost.rows == 2 * 2 * 134, "two layers, two branches, and the caption once"
    assert found.steps[-1].cost.cache_bytes == 2 * 2 * 2 * 134 * 32 * 4
    assert not np.array_equal(found.steps[1].picture, found.steps[2].picture)
    assert np.isnan(found.steps[2].fields["entropy"][14:]).all() and found.steps[-1].fields["entropy"].min() >= 0


@torch.no_grad()
def test_work_is_what_is_computed(parts):
    tokenizer, model, _ = parts
    total, lengths = [0], []

    def linear(module, inputs, out):
        total[0] += out.numel() * module.in_features

    hooks = [part.register_forward_hook(linear) for part in model.modules() if isinstance(part, nn.Linear)]
    for found in grown(parts, count=1)[0]:
        rows = model.scales[found.scale] ** 2 + (4 if found.scale == 0 else 0)
        total[0] += len(model.layers) * 2 * rows * (4 + model.place(found.scale).stop) * 32
        lengths.append(found.cost.macs)
    for hook in hooks:
        hook.remove()
    unread = model.embed_features.weight.numel()  # the start is no feature
    assert sum(lengths) == total[0] + unread


def test_the_pyramid_lies_in_one_square_without_overlap():
    corners, whole = var_records.shelves((1, 2, 3, 4, 6, 8))
    taken = np.zeros((whole, whole), int)
    for (top, left), side in zip(corners, (1, 2, 3, 4, 6, 8)):
        taken[top : top + side, left : left + side] += 1
    assert whole == 15 and taken.max() == 1 and taken.sum() == 130
    canvas = var_records.pyramid((1, 2, 3, 4, 6, 8))
    assert canvas.size == 130 and len({tuple(p) for p in canvas.positions}) == 130


def test_attention_between_maps_adds_up_and_is_block_causal(tiny):
    found = run("var").traces["attend"]
    chart = next(chart for chart in found.charts if chart.title == "Attention by map")
    mass = chart.series["share of attention"]
    assert np.allclose(mass.sum(1), 1, atol=1e-3) and mass.shape == (6, 7)
    assert np.abs(np.triu(mass[:, 1:], 1)).max() == 0, "no map looks at a finer one"
    rows = np.stack([found.rows.row(1, 0, query) for query in (0, 3, 129)])
    assert rows[0, 1:].max() == 0 and rows[1, 5:].max() == 0 and rows[2, 5:].max() > 0


@pytest.mark.parametrize("show", var_records.SHOWN)
def test_maps_show_what_was_asked(tiny, show):
    step = run("var", params={"show": show}).traces["unmask"].steps[-1]
    assert step.picture.shape == (240, 240, 3) and len(np.unique(step.picture.reshape(-1, 3), axis=0)) > 3


def test_a_box_is_given_and_marked(tiny):
    steps = run("var", params={"box": "upper"}).traces["unmask"].steps
    assert len(steps[-1].where("visible")) == 130 - len(steps[-1].where("new", "known")) > 60
    assert len(steps[0].where("visible")) == 1, "the single token of the first map lies on the border"


def test_words_outside_the_world_are_refused(tiny):
    job = prepare("var")
    job = dataclasses.replace(job, subject=dataclasses.replace(job.subject, text="purple cow"))
    with pytest.raises(ValueError, match="colour"):
        list(var.run(job))
