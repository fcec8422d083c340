"""Masked diffusion text: blocks, orders and the judge."""

import math

import pytest
import torch

from models.baselines.mdm import method as mdm
from models.engine.method import run
from models.loops.unmask.canvases import text_board
from models.loops.unmask.loop import Full, Plan, fill
from models.trace.subject import SubjectError, from_text


def test_blocks_are_filled_from_the_left(tiny):
    trace = run("mdm", params={"block": 8, "length": 32, "steps": 8}).traces["unmask"]
    blanks = [i for i, role in enumerate(trace.canvas.roles) if role == "fill"]
    block = {token: place // 8 for place, token in enumerate(blanks)}

    def ordered(trace) -> bool:
        when = [(block[t], i) for i, step in enumerate(trace.steps) for t in step.where("new").tolist()]
        return all(b <= c for (b, i), (c, j) in zip(when, when[1:]))

    assert ordered(trace) and len(trace.steps) == 8
    whole = run("mdm", params={"block": 128, "length": 32, "steps": 8}).traces["unmask"]
    assert not ordered(whole), "without blocks the order must not be left to right"


def test_steps_are_shared_among_blocks_and_add_up(tiny):
    model, tokenizer = tiny.bundle("text-mdm-2").model, tiny.text_tokenizer()
    board = text_board(model, tokenizer, "Once upon a time", 44)
    for length, steps, expected in ((16, 9, 9), (16, 2, 3), (128, 5, 5), (4, 11, 11)):
        planned = mdm.Blocks.of(board, length).moves(steps)
        assert sum(move.count for move in planned) == 44 and len(planned) == expected


def test_bits_are_the_judges_and_count_only_from_the_first_blank(tiny):
    """A uniform judge needs log2(V) bits per token; the prompt is not charged."""
    tokenizer = tiny.text_tokenizer()
    model = tiny.bundle("text-mdm-2").model
    board = text_board(model, tokenizer, "The hen lived ___", 8)

    class Uniform:
        device, tokenizer = "cpu", tiny.text_tokenizer()

        @staticmethod
        def model(ids):
            return type("Out", (), {"logits": torch.zeros(*ids.shape, len(tokenizer))})

    ids = board.ids.clone()
    ids[board.ids == board.mask_id] = torch.tensor(tokenizer(" near a mill")["input_ids"][:3])
    filled = tokenizer.decode(ids[0][-3:])
    tokens = len(tokenizer(filled)["input_ids"])
    wanted = tokens * math.log2(len(tokenizer)) / len(filled)
    assert mdm.bits(Uniform, tokenizer, board, ids) == pytest.approx(wanted, rel=1e-4)
    assert len(tokenizer("The hen lived")["input_ids"]) > 1, "charging the prompt would change the number"


def test_a_choice_outside_the_block_is_refused_by_the_loop_and_frees_the_method_from_blocks(tiny):
    model, tokenizer = tiny.bundle("text-mdm-2").model, tiny.text_tokenizer()
    board = text_board(model, tokenizer, "Once", 16)
    blocks = mdm.Blocks.of(board, 4)
    plan = Plan(blocks.moves(8), Full(model), allowed=blocks.allowed)
    last = board.canvas.size - 1
    with pytest.raises(ValueError, match="block"):
        list(fill(board.ids, board.mask_id, plan, torch.Generator(), ((last - 1, last),)))
    trace = run("mdm", from_text("Once"), {"block": 4, "length": 16, "steps": 8}, choice=((last - 1, last),))
    assert trace.traces["unmask"].steps[0].where("new").tolist() == [last - 1, last]


def test_a_text_that_is_too_long_is_refused(tiny):
    with pytest.raises(SubjectError, match="512"):
        run("mdm", from_text("Once upon a time there was a hen. " * 200))


def test_blanks_alone_are_enough(tiny):
    trace = run("mdm", from_text("_" * 12), {"steps": 3}).traces["unmask"]
    assert trace.canvas.size == 12 and math.isfinite(trace.facts["bits"].value)
