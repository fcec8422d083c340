"""ENAT: the spec's faithfulness traps, each with the mutant that the same assertion rejects."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from models.baselines.maskgit import method as maskgit
from models.engine.method import follow as followed
from models.engine.method import prepare, run, twin
from models.loops.unmask import loop
from models.loops.unmask.canvases import scene_board
from models.loops.unmask.loop import Plan, fill
from models.papers.enat import method as enat
from models.papers.enat import network as enat_net
from models.papers.enat import record as enat_records
from models.papers.enat.network import EnatTransformer, State

ATOL = 2e-5
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def scene(tiny):
    """Two encoder layers and one decoder layer in which tokens really depend on each other, and an empty board."""
    trunk, tokenizer = tiny.masked_scene(), tiny.scene_tokenizer()
    torch.manual_seed(1)
    model = EnatTransformer(tokenizer.codebook_size, 32, 2, 1, 4, 64, trunk.grid, trunk.embed_cond.num_embeddings,
                            trunk.cond_length).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=0.15)
    return model, scene_board(model, tokenizer, "red circle, blue square")


def played(evaluate, board, steps=6, seed=0):
    plan = Plan(loop.moves(256, steps, maskgit.SCHEDULE), evaluate, noise=1.0)
    return list(fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(seed)))


def as_(cls, model):
    """The same weights under another class."""
    other = copy.deepcopy(model)
    other.__class__ = cls
    return other


@torch.inference_mode()
def halves(model, board):
    """A board a quarter of which is known, and the state of the pass when half of that was known."""
    order = torch.randperm(256, generator=torch.Generator().manual_seed(3))
    codes = torch.randint(0, model.vocab_size, (1, 256), generator=torch.Generator().manual_seed(4))

    def shown(count):
        hidden = torch.ones(1, 256, dtype=torch.bool)
        hidden[0, order[:count]] = False
        return codes.masked_fill(hidden, model.mask_token_id)

    return shown(64), model(shown(32), board.cond).state


# --- known tokens never look at MASK tokens -------------------------------------------------------------------------

class SeesMasks(EnatTransformer):
    """Mutant: MASK tokens stand among what the encoder may look at."""

    def encode(self, caption, canvas, visible, before=None):
        return super().encode(caption.beside(canvas.at(~visible)), canvas, visible, before)


@torch.inference_mode()
def moved_by_mask(model, board) -> tuple[float, float]:
    """How far the encoder's features and the decoder's states move when the MASK embedding does."""
    ids, before = halves(model, board)
    here = model(ids, board.cond, before)
    model.embed_tokens.weight[model.mask_token_id] += 1
    there = model(ids, board.cond, before)
    return tuple(float((a - b).abs().max()) for a, b in
                 ((here.state.features, there.state.features), (here.hidden, there.hidden)))


def test_known_tokens_never_attend_to_masks(scene):
    model, board = scene
    encoder, decoder = moved_by_mask(copy.deepcopy(model), board)
    assert encoder == 0 and decoder > 100 * ATOL
    assert moved_by_mask(as_(SeesMasks, model), board)[0] > 100 * ATOL, "the mutant whose encoder sees masks must fail"


@torch.inference_mode()
def test_the_allowed_edges_are_those_of_the_network(scene):
    """The matrix shown beside the analysis, against what really moves when one side of an edge does."""
    model, board = scene
    ids, _ = halves(model, board)
    here, known = model(ids, board.cond), ids[0] != model.mask_token_id
    changed = ids.clone()
    changed[0, known.nonzero()[0]] = (changed[0, known.nonzero()[0]] + 1) % model.vocab_size
    there, others = model(changed, board.cond), known.clone()
    others[known.nonzero()[0]] = False
    by_known = float((here.state.features - there.state.features)[:, others].abs().max()), \
        float((here.hidden - there.hidden).abs().max())
    to_known, to_masked = moved_by_mask(model, board)
    found = dict(zip(enat_records.EDGES, (by_known[1], to_masked, by_known[0], to_known)))
    allowed = np.maximum(*map(np.array, enat_records.ALLOWED.values()))
    assert [value > ATOL for value in found.values()] == [bool(flag) for flag in allowed]


# --- the first pass has nothing to encode ---------------------------------------------------------------------------

class EncodesNothing(EnatTransformer):
    """Mutant: the first pass, which knows nothing, sends the MASK tokens through the encoder."""

    def encode(self, caption, canvas, visible, before=None):
        return super().encode(caption, canvas, visible if visible.any() else ~visible, before)


def encoder_calls(model, board) -> list[int]:
    """Encoder layers run in each of the first three passes."""
    calls, counted = [0], []
    hooks = [layer.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1)) for layer in model.encoder]
    plan = Plan(loop.moves(256, 3), enat.Reusing(model, board.cond, 0.5))
    for _ in fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)):
        counted.append(calls[0])
        calls[0] = 0
    for hook in hooks:
        hook.remove()
    return counted


def test_the_first_pass_skips_the_encoder(scene):
    model, board = scene
    layers = len(model.encoder)
    assert encoder_calls(model, board) == [0, layers, layers]
    assert encoder_calls(as_(EncodesNothing, model), board)[0] == layers, "the mutant that encodes masks must fail"
    assert model.work(0, 0, 256)[0] == 0


# --- one state per guidance branch ----------------------------------------------------------------------------------

class SharedState(enat.Reusing):
    """Mutant: the unconditional branch goes on from the conditional branch's features."""

    def __call__(self, moment):
        if self.state is not None and len(self.state.features) == 2:
            self.state.features[1] = self.state.features[0]
        return super().__call__(moment)


def branch_error(cls, scene) -> float:
    """Largest difference between guided logits and those put together from two separate one-branch runs."""
    model, board = scene
    guided, worst = cls(model, board.cond, 1.5), 0.0
    alone = [enat.Reusing(model, cond) for cond in (board.cond, torch.zeros_like(board.cond))]
    for turn in played(guided, board):
        with torch.inference_mode():
            yes, no = (one(turn.moment).logits for one in alone)
        worst = max(worst, float((turn.found.logits - 2.5 * yes + 1.5 * no).abs().max()))
    return worst


def test_each_guidance_branch_keeps_its_own_state(scene):
    assert branch_error(enat.Reusing, scene) < 20 * ATOL
    assert branch_error(SharedState, scene) > 200 * ATOL, "the mutant with one state for both must fail"


def test_where_guidance_ends_the_conditional_state_goes_on(scene):
    """Both halves until then, one after; the conditional half must not notice."""
    model, board = scene
    guided, alone = enat.Reusing(model, board.cond, 1.5, until=0.5), enat.Reusing(model, board.cond)
    counted, plan = [], Plan(loop.moves(256, 6, maskgit.SCHEDULE), guided)
    for turn in fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)):  # not a list: states move on
        counted.append(guided.branches)
        with torch.inference_mode():
            yes = alone(turn.moment).logits
        same = torch.allclose(yes, turn.found.logits, atol=20 * ATOL)
        assert same == (guided.branches == 1) and torch.allclose(alone.state.features[0], guided.state.features[0],
                                                                 atol=20 * ATOL)
    assert counted == [2, 2, 2, 1, 1, 1]


# --- a plain second implementation, whose switches are the known mistakes -------------------------------------------

def naive(model, ids, cond, before, *, project=True, own_matrices=True, frozen=True):
    """One token at a time: hidden [M, D] of the MASK tokens. project=False: features go on without P, a key-value
    cache. own_matrices=False: supporting tokens use the layer's own norm and matrices. frozen=False: they pass through
    the encoder layers as well."""
    caption, canvas = model.parts(ids, cond)
    known = (ids[0] != model.mask_token_id).tolist()
    old = [i for i, flag in enumerate(known) if flag and bool(before.visible[0, i])]
    new = [i for i, flag in enumerate(known) if flag and i not in old]

    def token(rows, i):
        return rows.hidden[0, i], rows.angles[0][0, i], rows.angles[1][0, i]

    words = [token(caption, i) for i in range(model.cond_length)]
    support = [(before.features[0, i], *token(canvas, i)[1:]) for i in old]
    support = [(model.reuse(x) if project else x, c, s) for x, c, s in support]
    rows = [token(canvas, i) for i in new]
    for layer in model.encoder:
        beside = words + support
        if not frozen:
            support = [one(layer, row, support, words, own_matrices) for row in support]
        rows = [one(layer, row, rows, beside, own_matrices) for row in rows]
    beside, masks = words + support + rows, [token(canvas, i) for i, flag in enumerate(known) if not flag]
    for layer in model.decoder:
        masks = [one(layer, row, masks, beside, own_matrices) for row in masks]
    return torch.stack([hidden for hidden, _, _ in masks])


def one(layer, row, own, beside, own_matrices):
    """One query token through one layer."""
    attention, width = layer.self_attn, layer.self_attn.head_dim
    supporting = layer.support_layernorm, layer.support_k_proj, layer.support_v_proj
    its_own = layer.input_layernorm, attention.k_proj, attention.v_proj

    def turned(x, cos, sin):
        x = x.unflatten(-1, (-1, width))
        left, right = x.chunk(2, -1)
        return x * cos[..., None, :] + torch.cat([-right, left], -1) * sin[..., None, :]  # [R, H, W]

    keys, values = [], []
    for rows, (norm, to_key, to_value) in ((beside, supporting if own_matrices else its_own), (own, its_own)):
        hidden, cos, sin = (torch.stack(part) for part in zip(*rows))
        keys.append(turned(to_key(norm(hidden)), cos, sin))
        values.append(to_value(norm(hidden)).unflatten(-1, (-1, width)))
    query = turned(attention.q_proj(layer.input_layernorm(row[0]))[None], row[1][None], row[2][None])[0]
    weights = (torch.einsum("hw,rhw->hr", query, torch.cat(keys)) * attention.scaling).softmax(-1)
    mixed = torch.einsum("hr,rhw->hw", weights, torch.cat(values)).flatten()
    hidden = row[0] + attention.o_proj(mixed)
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden)), row[1], row[2]


@torch.inference_mode()
def test_a_pass_is_the_papers(scene):
    model, board = scene
    ids, before = halves(model, board)
    ours = model(ids, board.cond, before).hidden[0]
    assert torch.allclose(ours, naive(model, ids, board.cond, before), atol=20 * ATOL)
    for mistake in ("project", "own_matrices", "frozen"):
        wrong = naive(model, ids, board.cond, before, **{mistake: False})
        assert float((ours - wrong).abs().max()) > 200 * ATOL, f"the oracle cannot tell {mistake}"


# --- reused features pass through P again in every later step -------------------------------------------------------

class KeepsFirst(EnatTransformer):
    """Mutant: hands on the features as they were, so that P is applied once and not once per step."""

    def encode(self, caption, canvas, visible, before=None):
        made = super().encode(caption, canvas, visible, before)
        return made if before is None else State(torch.where(before.visible[..., None], before.features,
                                                             made.features), visible)


@torch.inference_mode()
def aged(model, board) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the first known tokens after two more passes, and P applied twice to what the first pass left."""
    ids, before = halves(model, board)
    twice = model(ids, board.cond, model(ids, board.cond, before).state).state
    return twice.features[before.visible], model.reuse(model.reuse(before.features[before.visible]))


def test_reuse_is_reused(scene):
    model, board = scene
    found, wanted = aged(model, board)
    assert torch.allclose(found, wanted, atol=ATOL)
    found, wanted = aged(as_(KeepsFirst, model), board)
    assert not torch.allclose(found, wanted, atol=0.01), "the mutant that applies P once must fail"


@torch.inference_mode()
def test_without_reuse_every_pass_starts_afresh(scene):
    model, board = scene
    for turn in played(enat.Reusing(model, board.cond, 0.0, reuse=False), board):
        look = model(turn.moment.ids, board.cond)
        assert torch.equal(turn.found.logits, model.head(look.hidden)) and torch.equal(turn.found.rows,
                                                                                       ~turn.moment.masked)


@torch.inference_mode()
def test_samples_of_a_batch_do_not_meet(scene):
    """A batch encodes other places in every sample; each must come out as if it were alone."""
    model, board = scene
    ids, cond = board.ids.repeat(3, 1), board.cond.repeat(3, 1)
    plan = Plan(loop.moves(256, 4), enat.Reusing(model, cond, 0.5), noise=2.0)
    turns = list(fill(ids, board.mask_id, plan, torch.Generator().manual_seed(0)))
    assert not torch.equal(turns[2].moment.masked[0], turns[2].moment.masked[1])
    alone = enat.Reusing(model, board.cond, 0.5)
    for turn in turns:
        moment = dataclasses.replace(turn.moment, ids=turn.moment.ids[1:2], masked=turn.moment.masked[1:2])
        assert torch.allclose(alone(moment).logits[0], turn.found.logits[1], atol=20 * ATOL)


# --- work is counted, and steps are not saved -----------------------------------------------------------------------

@torch.inference_mode()
def counted(model, board, before, ids, monkeypatch) -> int:
    """Multiply-adds of one pass, counted where they happen."""
    total = [0]

    def linear(module, inputs, out):
        total[0] += out.numel() * module.in_features

    def attention(q, k, v, scale):
        total[0] += 2 * q.shape[2] * k.shape[2] * q.shape[1] * q.shape[3]
        return nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)

    monkeypatch.setattr(enat_net, "fused", attention)
    hooks = [part.register_forward_hook(linear) for part in model.modules() if isinstance(part, nn.Linear)]
    look = model(ids, board.cond, before)
    for hook in hooks:
        hook.remove()
    return total[0] + look.hidden.shape[1] * model.vocab_size * 32


def test_work_is_what_is_computed(scene, monkeypatch):
    model, board = scene
    ids, before = halves(model, board)
    assert sum(model.work(32, 32, 192)) == counted(model, board, before, ids, monkeypatch)
    assert sum(model.work(64, 0, 192)) == counted(model, board, None, ids, monkeypatch)
    assert sum(model.work(0, 0, 256)) == counted(model, board, None, board.ids, monkeypatch)


def test_as_many_steps_each_with_less_work(tiny):
    ours, theirs = (next(r for r in followed(job) if r.done).traces["unmask"]
                    for job in (prepare("enat", seed=2), twin(prepare("enat", seed=2))))
    again = run("enat", seed=2, params={"reuse": False}).traces["unmask"]
    assert len(ours.steps) == len(theirs.steps) == len(again.steps)
    assert [len(s.where("new")) for s in ours.steps] == [len(s.where("new")) for s in theirs.steps]
    assert ours.cost.macs < theirs.cost.macs and ours.facts["encoded"].value < 256 < again.facts["encoded"].value
    share = 100 * ours.cost.macs / theirs.cost.macs
    assert ours.facts["work"].value == pytest.approx(share), "the plain model's work is the baseline's"


def test_states_show_what_was_encoded_and_what_was_reused(tiny):
    steps = run("enat", params={"steps": 6}).traces["unmask"].steps
    for before, step in zip(steps, steps[1:]):
        assert np.array_equal(step.where("recomputed"), before.where("new"))
        assert len(step.where("reused")) + len(step.where("recomputed")) + len(step.where("new", "unknown")) == 256
    assert len(steps[0].where("recomputed", "reused")) == 0 and len(steps[-1].where("reused"))


# --- the analysis of the plain model --------------------------------------------------------------------------------

@torch.inference_mode()
def test_roles_are_sums_of_exact_attention(tiny):
    from models.backbones.instrument import observe
    model, known = tiny.masked_scene().eval(), np.arange(256) % 3 == 0
    ids = torch.full((1, 256), model.mask_token_id).masked_fill(torch.from_numpy(known), 5)
    cond = torch.tensor([[1, 20, 0, 0]])
    with observe(model, want={"qk"}) as seen:
        features = enat_records.last_features(model, ids, cond)
    assert torch.allclose(model.head(features), model(ids, cond), atol=ATOL)
    found = enat_records.role_shares(seen, known, model.cond_length)
    rows = seen[1].rows_for([model.cond_length])[0, :, 0, model.cond_length :].mean(0)
    other = seen[1].rows_for(range(model.cond_length, 260))[0, :, :, model.cond_length :].mean(0)
    assert torch.allclose(other[0], rows)
    wanted = [float(other[role][:, to].sum() / role.sum()) for role, to in
              ((~known, known), (~known, ~known), (known, known), (known, ~known))]
    assert found[1] == pytest.approx(wanted, abs=1e-5)


def test_concentration_is_a_share_and_a_lift():
    change, fresh = np.full(8, 0.1), np.zeros(8, bool)
    assert enat_records.concentration(change, fresh)[0] == pytest.approx(0.25)
    change[[2, 5]], fresh[[2, 5]] = 4.7, True
    assert enat_records.concentration(change, fresh) == (pytest.approx(0.94), 4.0)
    assert enat_records.concentration(change, ~fresh)[1] == 0


def test_unchanged_boards_do_not_change_the_plain_model(scene, tiny):
    board, plain = scene[1], tiny.masked_scene().eval()
    looked = enat_records.Plain(plain, board, 9)
    known = np.zeros(256, bool)
    looked.features = looked.read(board.ids, known, False)
    assert np.abs(looked.changed(looked.read(board.ids, known, False), known)).max() < 1e-5


@pytest.mark.parametrize("counts, step", [((1, 1, 2), 2), ((2, 1, 1), 1), ((1, 3), 1)])
def test_heads_are_those_of_the_half_known_board(counts, step):
    assert enat_records.half_known([loop.Move(count) for count in counts]) == step


def test_attention_can_be_looked_at_from_the_first_step_on(tiny):
    """Mutant: heads that come with the end of the run, so that the Attend tab shows nothing until then."""
    results = [result.traces for result in followed(prepare("enat", params={"steps": 8}))]
    first = next(traces for traces in results if "attend" in traces)
    assert len(first["attend"].steps) == 1 and first["attend"].heads is not None
    early, late = first["attend"].heads.entropy, results[-1]["attend"].heads.entropy
    assert early.shape == late.shape and not np.array_equal(early, late)  # the half known board's replace them
