"""ENAT: the spec's faithfulness traps, each with the mutant that the same assertion rejects; what training meets."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from models.backbones.stand_in import stirred
from models.baselines.maskgit import method as maskgit
from models.engine.method import prepare, run
from models.loops.unmask import loop
from models.loops.unmask.canvases import scene_board
from models.loops.unmask.loop import Plan
from models.papers.enat import method as enat
from models.papers.enat.network import EnatTransformer, State
from tests.filling import both, each_branch_its_own, going
from tests.painters import painter
from tests.traps import as_, caught, moving, work_is_counted

ATOL = 2e-5
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def scene(tiny):
    """Two encoder layers and one decoder layer in which tokens really depend on each other, and an empty board."""
    trunk, tokenizer = tiny.masked_scene(), tiny.scene_tokenizer()
    torch.manual_seed(1)
    model = EnatTransformer(tokenizer.codebook_size, 32, 2, 1, 4, 64, trunk.grid, trunk.embed_cond.num_embeddings,
                            trunk.cond_length).eval().requires_grad_(False)
    return stirred(model, std=0.15), scene_board(model, tokenizer, "red circle, blue square")


def played(evaluate, board, steps=6, noise=1.0):
    return going(Plan(loop.moves(256, steps, maskgit.SCHEDULE), evaluate, noise=noise), board)


def halves(model, board):
    """A board a quarter of which is known, and the state of the pass when half of that was known."""
    order = torch.randperm(256, generator=torch.Generator().manual_seed(3))
    codes = torch.randint(0, model.vocab_size, (1, 256), generator=torch.Generator().manual_seed(4))

    def shown(known):
        return codes.index_fill(1, order[known:], model.mask_token_id)

    return shown(64), model(shown(32), board.cond).state


# --- who looks at whom ----------------------------------------------------------------------------------------------

class SeesMasks(EnatTransformer):
    """Mutant: MASK tokens stand among what the encoder may look at."""

    def encode(self, caption, canvas, visible, before=None):
        return super().encode(caption.beside(canvas.at(~visible)), canvas, visible, before)


def edges(model, board) -> list[bool]:
    """Of ROLES: what moves when one side of an edge does. A known token is exchanged, or the MASK embedding."""
    ids, _ = halves(model, board)
    here, known = model(ids, board.cond), (ids[0] != model.mask_token_id).nonzero()[:, 0]
    other, masks = ids.clone(), copy.deepcopy(model)
    other[0, known[0]] = (ids[0, known[0]] + 1) % model.vocab_size
    masks.embed_tokens.weight[model.mask_token_id] += 1
    by_known, by_mask = model(other, board.cond), masks(ids, board.cond)

    def far(look, part):
        a, b = ((one.hidden if part == "masked" else one.state.features[:, known[1:]]) for one in (here, look))
        return bool((a - b).abs().max() > ATOL)

    return [far(by_known, "masked"), far(by_mask, "masked"), far(by_known, "known"), far(by_mask, "known")]


def test_known_tokens_never_attend_to_masks(scene):
    model, board = scene
    caught(lambda net: edges(net, board) == [True, True, True, False], model, as_(SeesMasks, model))


class EncodesNothing(EnatTransformer):
    """Mutant: the first pass, which knows nothing, sends the MASK tokens through the encoder."""

    def encode(self, caption, canvas, visible, before=None):
        return super().encode(caption, canvas, visible if visible.any() else ~visible, before)


def encodes_from_the_second_pass_on(model, board) -> bool:
    calls, seen = [], []
    hooks = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in model.encoder]
    for _ in played(enat.Reusing(model, board.cond, 0.5), board, 3):
        seen.append(len(calls))
    for hook in hooks:
        hook.remove()
    return seen == [0, len(hooks), 2 * len(hooks)]


def test_the_first_pass_skips_the_encoder(scene):
    model, board = scene
    caught(lambda net: encodes_from_the_second_pass_on(net, board), copy.deepcopy(model), as_(EncodesNothing, model))
    assert model.work(0, 0, 256)[0] == 0


# --- one state per guidance branch ----------------------------------------------------------------------------------

class SharedState(enat.Reusing):
    """Mutant: the unconditional branch goes on from the conditional branch's features."""

    def __call__(self, moment):
        if self.state is not None and len(self.state.features) == 2:
            self.state.features[1] = self.state.features[0]
        return super().__call__(moment)


def test_each_guidance_branch_keeps_its_own_state(scene):
    model, board = scene

    def each_its_own(cls):
        alone = [enat.Reusing(model, cond) for cond in (board.cond, torch.zeros_like(board.cond))]
        each_branch_its_own(played(cls(model, board.cond, 1.5), board), *alone, 1.5, 20 * ATOL)

    caught(each_its_own, enat.Reusing, SharedState)


def test_where_guidance_ends_the_conditional_state_goes_on(scene):
    """Both halves until then, one after; the conditional half must not notice."""
    model, board = scene
    guided, alone, counted = enat.Reusing(model, board.cond, 1.5, until=0.5), enat.Reusing(model, board.cond), []
    for turn in played(guided, board):
        counted.append(guided.branches)
        same = torch.allclose(alone(turn.moment).logits, turn.found.logits, atol=20 * ATOL)
        assert same == (guided.branches == 1)
        assert torch.allclose(alone.state.features[0], guided.state.features[0], atol=20 * ATOL)
    assert counted == [2, 2, 2, 1, 1, 1]


# --- a plain second implementation, whose switches are the known mistakes -------------------------------------------

def naive(model, ids, cond, before, *, project=True, own_matrices=True, frozen=True):
    """Hidden [M, D] of the MASK tokens of one picture; rows are (hidden, cos, sin). project=False: features go on
    without P, a key-value cache. own_matrices=False: supporting tokens use the layer's own norm and matrices.
    frozen=False: they pass through the encoder layers as well."""
    words, cells = ((part.hidden[0], *(angle[0] for angle in part.angles)) for part in model.parts(ids, cond))
    known, seen = ids[0] != model.mask_token_id, before.visible[0]
    features = before.features[0, seen]
    old = (model.reuse(features) if project else features, *(part[seen] for part in cells[1:]))
    rows, masks = (tuple(part[which] for part in cells) for which in (known & ~seen, ~known))
    for layer in model.encoder:
        beside = joined(words, old)
        if not frozen:
            old = through(layer, old, words, own_matrices)
        rows = through(layer, rows, beside, own_matrices)
    beside = joined(joined(words, old), rows)
    for layer in model.decoder:
        masks = through(layer, masks, beside, own_matrices)
    return masks[0]


def joined(one, other):
    return tuple(torch.cat(pair) for pair in zip(one, other))


def through(layer, own, beside, own_matrices):
    """Rows through one layer, beside supporting ones."""
    attention, width = layer.self_attn, layer.self_attn.head_dim
    supporting = layer.support_layernorm, layer.support_k_proj, layer.support_v_proj
    its_own = layer.input_layernorm, attention.k_proj, attention.v_proj

    def heads(x):
        return x.unflatten(-1, (-1, width))

    def turned(x, cos, sin):
        left, right = heads(x).chunk(2, -1)
        return heads(x) * cos[:, None] + torch.cat([-right, left], -1) * sin[:, None]  # [R, H, W]

    sources = (beside, supporting if own_matrices else its_own), (own, its_own)
    keys = torch.cat([turned(to_key(norm(x)), cos, sin) for (x, cos, sin), (norm, to_key, _) in sources])
    values = torch.cat([heads(to_value(norm(x))) for (x, _, _), (norm, _, to_value) in sources])
    query = turned(attention.q_proj(layer.input_layernorm(own[0])), *own[1:])
    weights = (torch.einsum("qhw,khw->hqk", query, keys) * attention.scaling).softmax(-1)
    hidden = own[0] + attention.o_proj(torch.einsum("hqk,khw->qhw", weights, values).flatten(1))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden)), *own[1:]


def test_a_pass_is_the_papers(scene):
    model, board = scene
    ids, before = halves(model, board)
    ours = model(ids, board.cond, before).hidden[0]
    caught(lambda mistakes: torch.allclose(ours, naive(model, ids, board.cond, before, **mistakes), atol=20 * ATOL),
           {}, {"project": False}, {"own_matrices": False}, {"frozen": False})


class KeepsFirst(EnatTransformer):
    """Mutant: hands on the features as they were, so that P is applied once and not once per step."""

    def encode(self, caption, canvas, visible, before=None):
        made = super().encode(caption, canvas, visible, before)
        return made if before is None else State(torch.where(before.visible[..., None], before.features,
                                                             made.features), visible)


def test_reuse_is_reused(scene):
    """After two more passes the first known tokens' features went through P twice."""
    model, board = scene

    def passes_through_p_again(net):
        ids, before = halves(net, board)
        twice, first = net(ids, board.cond, net(ids, board.cond, before).state).state, before.features[before.visible]
        return torch.allclose(twice.features[before.visible], net.reuse(net.reuse(first)), atol=ATOL)

    caught(passes_through_p_again, model, as_(KeepsFirst, model))


def test_without_reuse_every_pass_starts_afresh(scene):
    model, board = scene
    for turn in played(enat.Reusing(model, board.cond, 0.0, reuse=False), board):
        look = model(turn.moment.ids, board.cond)
        assert torch.equal(turn.found.logits, model.head(look.hidden))
        assert torch.equal(turn.found.rows, ~turn.moment.masked)


def test_samples_of_a_batch_do_not_meet(scene):
    """A batch encodes other places in every sample; each must come out as if it were alone."""
    model, board = scene
    three = dataclasses.replace(board, ids=board.ids.repeat(3, 1), cond=board.cond.repeat(3, 1))
    turns = list(played(enat.Reusing(model, three.cond, 0.5), three, 4, noise=2.0))
    assert not torch.equal(turns[2].moment.masked[0], turns[2].moment.masked[1])
    alone = enat.Reusing(model, board.cond, 0.5)
    for turn in turns:
        moment = dataclasses.replace(turn.moment, ids=turn.moment.ids[1:2], masked=turn.moment.masked[1:2])
        assert torch.allclose(alone(moment).logits[0], turn.found.logits[1], atol=20 * ATOL)


# --- work is counted, and steps are not saved -----------------------------------------------------------------------

def test_work_is_what_is_computed(scene):
    model, board = scene
    ids, before = halves(model, board)

    def passes(seen, state=None):
        return lambda: model.head(model(seen, board.cond, state).hidden)

    work_is_counted(passes(ids, before), sum(model.work(32, 32, 192)))
    work_is_counted(passes(ids), sum(model.work(64, 0, 192)))
    work_is_counted(passes(board.ids), sum(model.work(0, 0, 256)))


def test_as_many_steps_each_with_less_work(tiny):
    ours, theirs = both(prepare("enat", seed=2))
    again = run("enat", seed=2, params={"reuse": False}).traces["unmask"]
    assert len(ours.steps) == len(again.steps)
    assert ours.cost.macs < theirs.cost.macs and ours.facts["encoded"].value < 256 < again.facts["encoded"].value
    share = 100 * ours.cost.macs / theirs.cost.macs
    assert ours.facts["work"].value == pytest.approx(share), "the plain model's work is the baseline's"
    for before, step in zip(ours.steps, ours.steps[1:]):
        assert np.array_equal(step.where("recomputed"), before.where("new"))
        assert len(step.where("reused", "recomputed", "new", "unknown")) == 256
    assert len(ours.steps[0].where("recomputed", "reused")) == 0 and len(ours.steps[-1].where("reused"))


# --- training meets reused features as sampling will ----------------------------------------------------------------

@pytest.fixture
def recipe(tiny, monkeypatch):
    return painter("scene-enat-1", tiny, monkeypatch, seed=5)


def test_it_starts_as_its_trunk(tiny, recipe):
    trunk, model = tiny.bundle("scene-mgm-1").model, recipe.build()
    ours, x = model.state_dict(), torch.randn(2, 3, 32)
    assert all(torch.equal(ours[name], weight) for name, weight in trunk.state_dict().items())
    for layer in model.layers:
        assert torch.equal(layer.support_k_proj.weight, layer.self_attn.k_proj.weight)
        assert torch.equal(layer.support_v_proj.weight, layer.self_attn.v_proj.weight)
    assert torch.equal(model.reuse(x), x), "an untrained projection hands features on as they are"


def test_half_of_the_batches_simulate_earlier_passes(recipe):
    recipe.build()
    batches = [recipe.batch(step, 0.9)["seen"].tolist() for step in range(400)]
    reusing = [seen for seen in batches if len(seen) > 1]
    assert 0.42 < len(reusing) / len(batches) < 0.58
    assert all(0 < a < b for seen in reusing for a, b in zip(seen, seen[1:])), "every pass must show more"
    assert {0, 63} <= {seen[-1] for seen in batches}, "the empty canvas and the last token are both met in sampling"
    assert max(map(len, reusing)) > 3 and 0.15 < np.mean([seen[-1] / 64 for seen in batches]) < 0.4


def lesson(recipe, passes=1):
    """The first batch that simulates more earlier passes than that."""
    return next(b for b in (recipe.batch(step, 0.9) for step in range(40)) if len(b["seen"]) > passes)


def test_reuse_is_learned_from_features_of_the_teacher(recipe):
    """Without the simulation nothing teaches P, and sampling with reuse would meet a network that never saw it."""
    model, batch = recipe.build(), lesson(recipe)
    recipe.teacher.requires_grad_(True)
    nn.init.normal_(model.reuse.narrow.weight, std=0.1)

    def teaches_reuse(batch):
        assert any(name.startswith("reuse.") for name in moving(model, lambda net: recipe.loss(net, batch, 0.9)[0]))
        assert all(p.grad is None for p in recipe.teacher.parameters()), "earlier passes carry no gradient"

    caught(teaches_reuse, batch, batch | {"seen": batch["seen"][-1:]})


@torch.no_grad()
def test_the_lesson_is_the_pass_that_sampling_makes(recipe):
    """The loss against the network's own forward, one earlier pass after the other."""
    model, batch = recipe.build(), lesson(recipe, 2)
    before, (*earlier, now) = None, batch["seen"].tolist()

    def seen(known):
        return batch["ids"].masked_fill(batch["rank"] >= known, model.mask_token_id)

    for known in earlier:
        before = recipe.teacher(seen(known), batch["cond"], before).state
    look = model(seen(now), batch["cond"], before)
    wanted = nn.functional.cross_entropy(model.head(look.hidden).flatten(0, 1),
                                         batch["ids"].gather(1, look.positions).flatten())
    assert torch.allclose(recipe.loss(model, batch, 0.9)[0], wanted, atol=1e-5)
