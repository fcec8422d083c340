"""Unmask: the one loop that fills in masked tokens. Evaluate, propose, choose which and how many, reveal, repeat.

    plan = Plan(moves(256, 16), Full(model, board.cond, guidance=1.0), order="confidence", noise=1.0)
    yield Open("unmask", board.canvas, FIELDS, len(plan.moves))
    for shot in shots(job, board, plan):
        yield Emit("unmask", shot.step, shot.names)

A method is its Plan: how many tokens each move reveals, how the network is evaluated (every row, or its own choice of
rows), by which order tokens are taken, and which may be taken now. `fill` is the bare loop over a batch, for claims;
`shots` runs it on one board and keeps what a visitor sees. A visitor's own choice (Your turn) replaces the order for
the first moves, the method goes on by itself after them.

Letters: B samples, N tokens, P evaluated masked positions, R rows computed, V vocabulary, C condition words.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

import kernels
from models.engine.events import Emit
from models.engine.recording import Filling, array, line, places
from models.loops.unmask.canvases import Board
from models.loops.unmask.evaluation import Evaluation, Full, Moment, Move, branches, full_cost, indices, read
from models.trace import CODE, Chart, Cost, Field, Step
from models.trace.interventions import NONE, Interventions, Overwrite, reachable
from models.trace.params import ParamError

__all__ = ["Evaluation", "FIELDS", "Full", "Moment", "Move", "Plan", "Record", "Reveal", "Shot", "branches", "fill",
           "full_cost", "indices", "moves", "read", "shots", "token_states"]

FIELDS = {
    "confidence": Field("Confidence: probability of the proposed token", "probability", 0.0, 1.0),
    "entropy": Field("Entropy of the model's guess, where it guessed in this step", "nats", 0.0),
    "revealed": Field("Step in which the token was filled in", "step", 1.0),
}


@dataclass(frozen=True)
class Plan:
    """What a method decides. noise: Gumbel temperature of the order, annealed linearly to 0 over the moves (MaskGIT,
    arXiv 2202.04200); allowed(moment) -> bool [B, N] of tokens that may be revealed now, None for all."""

    moves: tuple[Move, ...]
    evaluate: Callable[[Moment], Evaluation]
    order: str = "confidence"
    noise: float = 0.0
    sampler: kernels.Sampler | None = kernels.Sampler()
    allowed: Callable[[Moment], Tensor | None] = lambda moment: None


@dataclass(frozen=True, eq=False)
class Reveal:
    """What one move did: ids [B, N] after it, revealed bool [B, N], and confidence and entropy [B, P] per position.
    overwritten bool [B, N]: tokens that the visitor put there at its end."""

    moment: Moment
    found: Evaluation
    ids: Tensor
    revealed: Tensor
    overwritten: Tensor
    confidence: Tensor
    entropy: Tensor
    ms: float
    path: str


def moves(unknown: int, steps: int, schedule: str = "cosine") -> tuple[Move, ...]:
    """Full evaluations that reveal `unknown` tokens in `steps` steps."""
    return tuple(Move(count) for count in kernels.schedule(unknown, steps, schedule))


@torch.inference_mode()
def fill(ids: Tensor, mask_id: int, plan: Plan, generator: torch.Generator,
         choice: tuple[tuple[int, ...], ...] | None = None, changes: Interventions = NONE) -> Iterator[Reveal]:
    """Fills every masked token of ids [B, N]; all samples must have equally many.

    Known tokens never change and every move reveals exactly its count. Raises ValueError when the counts do not add up,
    or when a visitor's choice does not fit the moves. What a visitor overwrites (`changes`) counts as just revealed for
    whoever reuses what he computed before.
    """
    masked = ids == mask_id
    _need(bool((masked.sum(1) == sum(move.count for move in plan.moves)).all()),
          "the moves must reveal exactly as many tokens as are masked in every sample")
    _check_choice(choice or (), plan, masked)
    if any(one.step >= len(plan.moves) for one in changes.overwrites):
        raise ParamError(f"this run has {len(plan.moves)} steps; please choose one of them")
    nothing = torch.zeros_like(masked)
    moment = Moment(0, plan.moves[0], ids, masked, nothing, nothing.long())
    for index, move in enumerate(plan.moves):
        moment = replace(moment, index=index, move=move, made=index / len(plan.moves))
        turn, aside = _play(moment, plan, mask_id, generator, choice[index] if choice and index < len(choice) else None)
        turn = _overwritten(turn, changes.after(index), mask_id, plan)
        yield turn
        moment = replace(moment, ids=turn.ids, masked=turn.ids == mask_id, fresh=turn.revealed | turn.overwritten,
                         aside=aside)


def _play(moment: Moment, plan: Plan, mask_id: int, generator, chosen) -> tuple[Reveal, Tensor]:
    """One move, and the tokens that stay picked out for the next ones."""
    began = time.perf_counter()
    found = plan.evaluate(moment)
    evaluated, move = time.perf_counter(), moment.move
    allowed = _allowed(moment, plan, chosen)
    here = torch.full_like(found.positions, mask_id)
    settings = dict(order=plan.order, sampler=plan.sampler, gumbel_temperature=_annealed(plan, moment.index),
                    allowed=None if allowed is None else allowed.gather(1, found.positions), generator=generator)
    state, larger = generator.get_state() if move.ahead else None, []
    for count in accumulate(move.ahead, initial=move.count):
        if larger:
            generator.set_state(state)  # the same draws each time: larger picks extend one ranking
        larger.append(kernels.unmask_step(found.logits, here, mask_id, n_reveal=count, **settings))
    pick, *larger = larger
    _need(bool((pick.revealed.sum(1) == move.count).all()), f"move {moment.index + 1} has too few tokens to reveal")
    revealed = torch.zeros_like(moment.masked).scatter(1, found.positions, pick.revealed)
    ids = torch.where(revealed, moment.ids.scatter(1, found.positions, pick.ids), moment.ids)
    aside = moment.aside * ~revealed
    if larger:  # a token of the j-th later move is in all picks but the first j
        missing = 1 + len(larger) - sum(each.revealed.long() for each in (pick, *larger))
        later = missing * larger[-1].revealed
        aside = torch.zeros_like(moment.aside).scatter(1, found.positions, later)
    ms = found.cost.ms or (evaluated - began) * 1e3
    ms += (time.perf_counter() - evaluated) * 1e3
    nothing = torch.zeros_like(revealed)
    return Reveal(moment, found, ids, revealed, nothing, pick.confidence, pick.entropy, ms, pick.path), aside


def _overwritten(turn: Reveal, changes: Sequence[Overwrite], mask_id: int, plan: Plan) -> Reveal:
    """The turn with what the visitor puts in the place of tokens that stand at its end."""
    for step, at, id in changes:
        reachable({at: id}, 0, turn.ids.shape[1], turn.found.logits.shape[-1])
        if not bool((turn.ids[:, at] != mask_id).all()):
            raise ParamError(f"token {at} is not filled in yet after step {step + 1}; please choose one that is")
        if bool(turn.found.logits[..., id].isneginf().all()):
            raise ParamError(f"{id} is a token that never stands here; please choose another")
        ids, put = turn.ids.clone(), turn.overwritten.clone()
        ids[:, at], put[:, at] = id, True
        turn = replace(turn, ids=ids, overwritten=put)
    return turn


def _allowed(moment: Moment, plan: Plan, chosen: tuple[int, ...] | None) -> Tensor | None:
    """Where this move may reveal: the visitor's choice, what was picked out for it before, or what the method allows.
    """
    if bool(moment.aside.any()):
        return moment.aside == moment.aside[moment.aside > 0].min()
    allowed = plan.allowed(moment)
    if chosen is None:
        return allowed
    _need(allowed is None or bool(allowed[:, list(chosen)].all()), "please choose from the block that is filled in now")
    return torch.zeros_like(moment.masked).index_fill(1, torch.tensor(chosen, device=moment.ids.device), True)


def _annealed(plan: Plan, index: int) -> float:
    return plan.noise * (1 - (index + 1) / len(plan.moves))


def _check_choice(choice: tuple[tuple[int, ...], ...], plan: Plan, masked: Tensor) -> None:
    counts = tuple(move.count for move in plan.moves)[: len(choice)]
    flat = [token for group in choice for token in group]
    _need(len(choice) <= len(plan.moves), f"this run has {len(plan.moves)} steps; please choose no more groups")
    _need(tuple(map(len, choice)) == counts, f"please choose {', '.join(map(str, counts))} tokens, group after group")
    _need(len(set(flat)) == len(flat), "a token was chosen twice; please choose each once")
    inside = all(isinstance(t, int) and 0 <= t < masked.shape[1] and bool(masked[:, t].all()) for t in flat)
    _need(inside, "only tokens that are still masked can be chosen")
    _need(not any(move.ahead for move in plan.moves[: len(choice)]),  # ahead: binds the moves after it
          "with these settings the first steps are not free to choose; start the local passes later")


def _need(sound: bool, sentence: str) -> None:
    if not sound:
        raise ValueError(sentence)


@dataclass(frozen=True, eq=False)
class Shot:
    """One step as a visitor sees it, names for ids that appear for the first time, and the turn behind it."""

    step: Step
    names: Mapping[int, str]
    turn: Reveal


@dataclass
class Record:
    """What a run leaves for its charts: per move the mean entropy of masked tokens and how many were filled in; the
    latest ids [1, N]; sure: mean probability with which tokens were filled in."""

    entropy: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    certainty: float = 0.0  # the sum of those probabilities
    cost: Cost = Cost()
    ids: Tensor | None = None
    path: str = ""

    @property
    def sure(self) -> float:
        return self.certainty / max(1, sum(self.counts))

    def charts(self) -> tuple[Chart, Chart]:
        """Mean entropy of what is still unknown, and tokens revealed, both over the steps."""
        return (line("Mean entropy of masked tokens", "nats", {"entropy": self.entropy},
                     caption="How unsure the model is about what is still masked; a token that a step did not "
                             "recompute counts with its last value."),
                line("Tokens filled in", "tokens", {"tokens": self.counts}))


def shots(job, board: Board, plan: Plan, record: Record | None = None) -> Iterator[Shot]:
    """The steps of one run on one board; `record` collects what its charts need."""
    record = Record() if record is None else record
    page = Filling("unmask", board.canvas, FIELDS, board.names, fleeting=("confidence", "entropy"))
    entropy = np.full(board.canvas.size, np.nan, np.float32)
    given = (board.ids != board.mask_id)[0].cpu().numpy()
    page.fill(given, board.ids[0][given], "context")
    for turn in fill(board.ids, board.mask_id, plan, job.generator(), job.choice, job.interventions):
        given = given | array(turn.overwritten[0], bool)
        entropy[places(turn.found.positions[0])] = array(turn.entropy[0])
        record.entropy.append(float(np.nanmean(entropy[array(turn.moment.masked[0], bool)])))
        record.counts.append(turn.moment.move.count)
        record.certainty += float(turn.confidence[turn.revealed.gather(1, turn.found.positions)].sum())
        record.ids, record.path = turn.ids, f"sdpa + unmask {turn.path}"
        record.cost += replace(turn.found.cost, ms=turn.ms)
        event = _told(page, board, turn, given, len(plan.moves))
        yield Shot(event.step, event.vocabulary, turn)


def _told(page: Filling, board: Board, turn: Reveal, given: np.ndarray, total: int) -> Emit:
    """One move as a step: what was revealed, and the candidates at every position that was evaluated."""
    move, at = turn.moment.move, places(turn.found.positions[0])
    ids, new = array(turn.ids[0], np.int32), array(turn.revealed[0], bool)
    page.fill(new, ids[new], revealed=turn.moment.index + 1)
    page.fill(put := array(turn.overwritten[0], bool), ids[put], "context")
    page.guess(at, turn.found.logits[0], np.where(new[at], ids[at], -1), measure=False)
    page.note(at, confidence=turn.confidence[0], entropy=turn.entropy[0])
    return page.step(f"step {turn.moment.index + 1} of {total}: {move.label} pass, {move.count} filled in",
                     state=token_states(turn, given), picture=board.paint(turn.ids) if board.paint else None,
                     cost=replace(turn.found.cost, ms=turn.ms))


def token_states(turn: Reveal, given: np.ndarray) -> np.ndarray:
    """Codes [N]: new, known, unknown or context; in a pass over some rows also recomputed and reused."""
    def one(flags: Tensor) -> np.ndarray:
        return flags[0].cpu().numpy()

    new, rows, masked = one(turn.revealed), one(turn.found.rows), one(turn.moment.masked)
    state = np.where(masked, CODE["unknown"], np.where(given, CODE["context"], CODE["known"]))
    if not rows.all():
        state = np.where(~masked & ~given & ~rows, CODE["reused"], np.where(rows, CODE["recomputed"], state))
    return np.where(new & ~given, CODE["new"], state).astype(np.uint8)
