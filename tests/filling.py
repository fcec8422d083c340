"""Filling in a board in tests: turn by turn, beside the baseline, and one guidance branch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from models.engine.method import Job, follow, twin
from models.loops.unmask.canvases import Board
from models.loops.unmask.evaluation import Evaluation, Moment
from models.loops.unmask.loop import Plan, Reveal, fill
from models.trace import UnmaskTrace

Evaluate = Callable[[Moment], Evaluation]


def going(plan: Plan, board: Board, seed: int = 0) -> Iterator[Reveal]:
    """Turn by turn: an evaluation's state belongs to the turn just made."""
    return fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(seed))


def both(job: Job) -> tuple[UnmaskTrace, UnmaskTrace]:
    """The records of a run and of its baseline, which reveals as many tokens in as many steps."""
    ours, theirs = ([*follow(one)][-1].traces["unmask"] for one in (job, twin(job)))
    assert [len(step.where("new")) for step in ours.steps] == [len(step.where("new")) for step in theirs.steps]
    return ours, theirs


def each_branch_its_own(turns: Iterable[Reveal], given: Evaluate, null: Evaluate, pull: float, atol: float) -> None:
    """Guided logits are those put together from two separate runs of one branch: of the caption, and of nothing."""
    for turn in turns:
        yes, no = given(turn.moment).logits, null(turn.moment).logits
        assert torch.allclose(turn.found.logits, (1 + pull) * yes - pull * no, atol=atol)
