"""aMUSEd under the Unmask loop, on a tiny random stand-in in its repository's layout. Never tried: its real weights."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.baselines.maskgit.method import turn_count
from models.checkpoints import store
from models.engine.method import find, follow, prepare, run, twin
from models.loops.unmask.canvases import EMPTY, prompt_board
from models.loops.unmask.loop import Full, Plan, fill, moves
from models.trace.serialize import load, save
from models.trace.subject import SubjectError, from_text
from tests import fake_hub
from visualizers.export.files import export

PROMPT = "a red fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_hub.amused(tmp_path_factory.mktemp("amused") / "amused-256")


@pytest.fixture(scope="module")
def model(folder):
    return store.load(str(folder), dtype="float32").model


def filled(model, guidance=3.0, steps=5, **change):
    board = prompt_board(model, PROMPT)
    plan = Plan(moves(board.unknown, steps), Full(model, board.cond, guidance, board.forbidden, **change), noise=2.0)
    return board, list(fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)))


def reference(model, ids, text):
    """Logits [1, N, V] as the library's pipeline asks its parts: one branch, one prompt."""
    words = model.tokenizer([text], padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        read = model.text_encoder(words, output_hidden_states=True)
        logits = model.transformer(ids.reshape(1, 4, 4), micro_conds=torch.tensor([[8.0, 8.0, 0.0, 0.0, 6.0]]),
                                   pooled_text_emb=read.text_embeds, encoder_hidden_states=read.hidden_states[-2])
    return logits.flatten(2).transpose(1, 2)


# ---- what the network is asked ---------------------------------------------------------------------------------------


def test_a_prompt_is_read_by_the_last_layer_but_one(model):
    """Mutant: the last layer's states, which text encoders of this family are trained to throw away."""
    words = model.tokenizer([PROMPT], padding="max_length", max_length=77, return_tensors="pt").input_ids
    kept = []
    last = [module for module in model.text_encoder.modules() if type(module).__name__ == "CLIPEncoderLayer"][-1]
    hook = last.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    prompt = model.prompt(PROMPT)
    hook.remove()
    with torch.inference_mode():
        last = model.text_encoder(words).last_hidden_state
    assert torch.equal(prompt.words, kept[0][:1]) and not torch.allclose(prompt.words, last)


def test_guidance_is_that_of_two_separate_passes(model):
    """Mutants: the prompt's own sum in the unconditional branch; the branches exchanged; condition words of zero."""
    board, turns = filled(model)
    turn = turns[2]
    own, empty = (reference(model, turn.moment.ids, text) for text in (PROMPT, ""))
    at = turn.found.positions[..., None].expand(-1, -1, own.shape[2])
    wanted = (4 * own - 3 * empty).gather(1, at)
    assert torch.allclose(turn.found.logits, wanted, atol=1e-4)
    assert not torch.allclose(wanted, (4 * empty - 3 * own).gather(1, at), atol=1e-2), "exchanged branches must show"

    cond = board.cond
    for wrong in ((cond.nothing[0], cond.pooled), (torch.zeros_like(cond.words), torch.zeros_like(cond.pooled))):
        full = Full(model, cond._replace(nothing=wrong), 3.0)
        with torch.inference_mode():
            assert not torch.allclose(full(turn.moment).logits, wanted, atol=1e-2)


def test_without_guidance_there_is_one_branch_and_half_the_work(model):
    _, turns = filled(model, until=0.5)
    assert [turn.found.cost.macs // turns[-1].found.cost.macs for turn in turns] == [2, 2, 2, 1, 1]
    last = turns[-1]
    at = last.found.positions[..., None].expand(-1, -1, 40)
    assert torch.allclose(last.found.logits, reference(model, last.moment.ids, PROMPT).gather(1, at), atol=1e-4)


def test_multiply_adds_are_those_of_the_operations_that_ran(model):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    board = prompt_board(model, PROMPT)
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        model.look(board.ids, board.cond)
    assert 2 * model.spent(16, 16)[1] == counter.get_total_flops() > 0


def test_no_row_stands_alone(model):
    """Why `read` gets the whole grid's answer: a code moves the logits of cells far from it."""
    board = prompt_board(model, PROMPT)
    other = board.ids.clone()
    other[0, 15] = 3
    with torch.inference_mode():
        moved = (model.look(board.ids, board.cond) - model.look(other, board.cond)).abs().amax(-1)[0]
    assert bool((moved > 0).all())


# ---- what is filled in -----------------------------------------------------------------------------------------------


def test_known_tokens_stay_and_every_cell_is_filled_in_once(model):
    board, turns = filled(model)
    assert board.mask_id == 47 and bool((board.ids == 47).all()), "the last of the unused ids, not the codebook's size"
    before, times = board.ids, torch.zeros(16)
    for turn in turns:
        assert torch.equal(turn.ids != before, turn.revealed)
        before, times = turn.ids, times + turn.revealed[0]
    assert bool((times == 1).all()) and bool((before < 40).all())


def test_ids_that_are_no_code_are_never_proposed(folder, model):
    """A head rounded up, as vocabularies are: its last ids have logits. Mutant: without `forbidden` they are drawn, the
    mask among them, and the loop loses count of what is filled in."""
    import diffusers

    from models.backbones.amused import Amused
    config = {**model.transformer.config, "codebook_size": 48}
    torch.manual_seed(0)
    rounded = diffusers.UVit2DModel.from_config(config).eval().requires_grad_(False)
    bias = torch.zeros(48)
    bias[40:] = 50.0
    rounded.mlm_layer.register_forward_hook(lambda _, __, logits: logits + bias[:, None, None])
    wide = Amused(rounded, model.vqvae, model.text_encoder, model.tokenizer)
    assert wide.forbidden == tuple(range(40, 48)) and model.forbidden == ()

    def first(forbidden):
        board = prompt_board(wide, PROMPT)
        plan = Plan(moves(16, 1), Full(wide, board.cond, forbidden=forbidden))
        return next(iter(fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)))).ids
    assert int(first(wide.forbidden).max()) < 40
    assert int(first(()).max()) >= 40


def test_the_picture_is_the_vq_models_own(model):
    board, turns = filled(model)
    ids = turns[-1].ids
    with torch.inference_mode():
        quantised = F.embedding(ids, model.vqvae.quantize.embedding.weight).reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
        theirs = model.vqvae.decoder(model.vqvae.post_quant_conv(quantised)).clip(0, 1)[0].permute(1, 2, 0)
    painted = board.paint(ids)
    assert painted.shape == (8, 8, 3) and np.array_equal(painted, (theirs * 255).round().byte().numpy())
    early, grey = board.paint(turns[0].ids), (turns[0].ids == board.mask_id).reshape(4, 4).numpy()
    assert early.shape == (4, 4, 3), "every second pixel while cells are open"
    assert (early[grey] == EMPTY).all() and not (early[~grey] == EMPTY).all()


def test_the_vq_model_stays_in_full_precision(folder):
    half = store.load(str(folder), dtype="bfloat16").model
    assert next(half.transformer.parameters()).dtype == next(half.text_encoder.parameters()).dtype == torch.bfloat16
    assert next(half.vqvae.parameters()).dtype == torch.float32
    _, turns = filled(half, steps=2)
    assert bool((turns[-1].ids < 40).all())


# ---- as a method -----------------------------------------------------------------------------------------------------


def test_maskgit_runs_on_it_under_a_free_prompt(folder, one_thread):
    job = prepare("maskgit", from_text("a photo of a blue teapot", "prompt"), {"steps": 4, "guidance": 9.0},
                  checkpoint=str(folder), dtype="float32")
    *_, last = follow(job)
    trace = last.traces["unmask"]
    assert len(trace.steps) == 4 and trace.canvas.shape == (4, 4) and trace.steps[-1].picture.shape == (8, 8, 3)
    assert set(trace.facts) == {"sure", "entropy", "macs"} and 0 < trace.facts["sure"].value <= 1
    assert trace.facts["macs"].value * 1e9 == pytest.approx((2 * 2 + 2) * job.model.spent(16, 16)[1])
    assert export(trace, "png") and export(trace, "gif") and load(save(trace)).canvas.shape == (4, 4)
    assert "score" not in trace.sentence and set(trace.vocabulary.values()) <= {f"code {i}" for i in range(40)}


def test_another_prompt_paints_another_picture(folder, one_thread):
    def painted(text):
        trace = run("maskgit", from_text(text, "prompt"), {"steps": 3, "temperature": 0.0, "noise": 0.0},
                    checkpoint=str(folder), dtype="float32").traces["unmask"]
        return trace.steps[-1].ids
    assert np.array_equal(painted(PROMPT), painted(PROMPT)) and not np.array_equal(painted(PROMPT), painted("a teapot"))


def test_each_checkpoint_brings_its_own_subjects(folder):
    method = find("maskgit")
    assert method.kind() == "caption" and method.kind(str(folder)) == method.kind("amused/amused-256") == "prompt"
    assert all(example.kind == "prompt" for example in method.examples_for("prompt"))
    assert not any(example.kind for example in method.examples_for("caption"))
    with pytest.raises(SubjectError, match="needs a prompt"):
        prepare("maskgit", from_text("red circle", "caption"), checkpoint=str(folder))


def test_what_cannot_be_is_one_sentence(folder):
    job = prepare("maskgit", from_text("x" * 200, "prompt"), checkpoint=str(folder), dtype="float32")
    with pytest.raises(SubjectError, match="under 78"):
        list(follow(job))
    with pytest.raises(SubjectError, match="no game"):
        turn_count(dataclasses.replace(job, subject=from_text(PROMPT, "prompt")))
    assert twin(job) is None
