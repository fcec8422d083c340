"""The loop's promises on tiny random weights: exact counts, known tokens stay, the visitor's choice is obeyed."""

import numpy as np
import pytest
import torch

from models.engine.method import prepare, run
from models.loops.unmask.canvases import code_names, scene_board, text_board
from models.loops.unmask.loop import Full, Move, Plan, fill, full_cost, moves
from models.trace import CODE
from models.trace.subject import SubjectError, from_text

MASK = 36  # codebook size of the tiny tokenizer


def board(tiny, caption="red circle"):
    model = tiny.bundle("scene-mgm-1").model
    return model, scene_board(model, tiny.scene_tokenizer(), caption)


def played(plan, given, seed=0, choice=None):
    return list(fill(given.ids, given.mask_id, plan, torch.Generator().manual_seed(seed), choice))


@pytest.mark.parametrize("order", ["confidence", "entropy", "margin", "random"])
def test_every_move_reveals_exactly_its_count_and_known_tokens_stay(order, tiny):
    model, given = board(tiny)
    plan = Plan(moves(256, 9), Full(model, given.cond, 1.0), order, noise=2.0)
    before = given.ids
    for turn, move in zip(played(plan, given), plan.moves, strict=True):
        changed = turn.ids != before
        assert int(turn.revealed.sum()) == move.count and torch.equal(changed, turn.revealed)
        before = turn.ids
    assert not bool((before == given.mask_id).any())


def test_counts_that_do_not_add_up_are_refused(tiny):
    model, given = board(tiny)
    with pytest.raises(ValueError, match="as many tokens"):
        played(Plan((Move(10),), Full(model, given.cond)), given)


def test_tokens_picked_out_ahead_extend_one_ranking(tiny):
    """The targets of a group are the base model's next choices: the same noise ranks both."""
    model, given = board(tiny)
    plan = Plan((Move(5, ahead=(7,)), Move(7), Move(244)), Full(model, given.cond, 1.0), noise=3.0)
    wide = Plan((Move(12), Move(244)), Full(model, given.cond, 1.0), noise=3.0)

    def noise(plan, at):  # the annealing depends on the number of moves, so compare at an equal temperature
        return plan.noise * (1 - 1 / len(plan.moves)) if at == 0 else 0

    wide = Plan(wide.moves, wide.evaluate, noise=noise(plan, 0) / (1 - 1 / 2))
    first, second = played(plan, given)[:2]
    assert torch.equal(first.revealed | second.revealed, played(wide, given)[0].revealed)
    assert torch.equal(second.moment.aside == 1, second.revealed)


def test_guidance_is_one_plus_g_conditional_minus_g_unconditional(tiny):
    model, given = board(tiny)
    found = played(Plan((Move(256),), Full(model, given.cond, 1.5)), given)[0].found
    with torch.inference_mode():
        wanted = 2.5 * model(given.ids, given.cond) - 1.5 * model(given.ids, None)
    swapped = 2.5 * model(given.ids, None) - 1.5 * model(given.ids, given.cond)
    assert torch.allclose(found.logits, wanted, atol=1e-5)
    assert not torch.allclose(found.logits, swapped, atol=1e-5), "the mutant with swapped branches must fail"


def test_guidance_ends_after_its_share_of_the_moves(tiny):
    """One branch from there on: the conditional one, at half the rows."""
    model, given = board(tiny)
    turns = played(Plan(moves(256, 4), Full(model, given.cond, 1.5, until=0.5)), given)
    assert [turn.found.cost.rows // turns[3].found.cost.rows for turn in turns] == [2, 2, 1, 1]
    with torch.inference_mode():
        late = model(turns[2].moment.ids, given.cond)
    positions = turns[2].found.positions[..., None].expand(-1, -1, late.shape[2])
    assert torch.allclose(turns[2].found.logits, late.gather(1, positions), atol=1e-5)
    assert all(turn.found.cost.rows == turns[0].found.cost.rows
               for turn in played(Plan(moves(256, 4), Full(model, given.cond, 1.5)), given))


def test_multiply_adds_are_those_of_the_modules_that_ran(tiny):
    """As torch counts what it is really asked to do: every linear layer, both attention products, the head."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    model, given = board(tiny)
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        model(given.ids, given.cond)
    tokens = 256 + model.cond_length
    assert full_cost(model, 1, tokens, 256).macs * 2 == counter.get_total_flops()
    assert full_cost(model, 1, tokens, 0).macs * 2 != counter.get_total_flops(), "forgetting the head must show"


def test_the_visitors_groups_come_first_and_the_method_goes_on(tiny):
    job = prepare("maskgit", seed=1)
    sizes = job.method.turn.count(job)
    order = iter(np.random.default_rng(0).permutation(256).tolist())
    choice = tuple(tuple(next(order) for _ in range(size)) for size in sizes)
    trace = run("maskgit", seed=1, choice=choice).traces["unmask"]
    for group, step in zip(choice, trace.steps):
        assert sorted(group) == step.where("new").tolist()
    assert len(trace.steps) == job.params.steps and len(trace.steps[-1].where("unknown")) == 0


@pytest.mark.parametrize("choice, sentence", [
    (((0, 1, 2),), "please choose 1"), (((300,),), "still masked"), (((5,), (5,)), "twice"),
    (tuple((i,) for i in range(40)), "no more groups")])
def test_a_choice_that_does_not_fit_is_refused_in_one_sentence(choice, sentence, tiny):
    with pytest.raises(ValueError, match=sentence):
        run("maskgit", params={"steps": 16}, choice=choice)


def test_states_say_what_is_given_new_and_known(tiny):
    trace = run("mdm", from_text("The cat ____ by the ___."), {"steps": 3}).traces["unmask"]
    blanks = [i for i, role in enumerate(trace.canvas.roles) if role == "fill"]
    assert len(blanks) == 7
    given = np.setdiff1d(np.arange(trace.canvas.size), blanks)
    for step in trace.steps:
        assert (step.state[given] == CODE["context"]).all() and (step.ids[given] >= 0).all()
    assert set(trace.steps[-1].state[blanks].tolist()) <= {CODE["new"], CODE["known"]}


def test_specials_are_never_proposed(tiny):
    model, tokenizer = tiny.bundle("text-mdm-2").model, tiny.text_tokenizer()
    given = text_board(model, tokenizer, "Once upon", 40)
    turns = played(Plan(moves(40, 5, "linear"), Full(model, forbidden=given.forbidden)), given)
    assert not set(turns[-1].ids[0].tolist()) & set(tokenizer.all_special_ids)
    assert all(torch.isinf(turn.found.logits[..., list(given.forbidden)]).all() for turn in turns)


def test_a_blank_swallows_the_space_that_belongs_to_its_word(tiny):
    model, tokenizer = tiny.bundle("text-mdm-2").model, tiny.text_tokenizer()
    given = text_board(model, tokenizer, "The hen ___ slept", 8)
    mask = given.mask_id
    ids = given.ids[0].tolist()
    assert ids == tokenizer("The hen")["input_ids"] + [mask] * 3 + tokenizer(" slept")["input_ids"]


def test_words_outside_the_scene_world_are_refused_with_the_list(tiny):
    model = tiny.bundle("scene-mgm-1").model
    for caption in ("purple cow", "red circle " * 30, "circle red", ","):
        with pytest.raises(SubjectError, match="red, yellow.*circle, square|1 to 4 objects"):
            scene_board(model, tiny.scene_tokenizer(), caption)


def test_the_picture_shows_known_cells_and_leaves_masked_ones_grey(tiny):
    trace = run("maskgit", params={"steps": 4}).traces["unmask"]
    tokenizer, step = tiny.scene_tokenizer(), trace.steps[1]
    for cell in range(256):
        y, x = 4 * (cell // 16), 4 * (cell % 16)
        patch = step.picture[y : y + 4, x : x + 4]
        if step.ids[cell] < 0:
            assert (patch == 217).all()
        else:
            painted = tokenizer.decode(torch.tensor([[[int(step.ids[cell])]]]))[0].permute(1, 2, 0)
            assert np.abs(patch - (painted * 255).round().numpy()).max() <= 1


def test_code_names_are_short_and_numbered(tiny):
    names = code_names(tiny.scene_tokenizer())
    assert len(names) == MASK and all(name.startswith(f"code {i}: ") for i, name in enumerate(names))
    assert max(map(len, names)) < 50
