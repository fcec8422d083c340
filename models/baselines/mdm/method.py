"""Masked diffusion language model: a text is filled in from masks, in any order, several tokens per step.

LLaDA's sampling (arXiv 2502.09992): guess all masked tokens, keep the most confident (or the lowest-entropy, or random)
ones, repeat; with a block length the text is filled in block by block from the left (semi-autoregressive), the steps
shared evenly among the blocks. It is a baseline of the Unmask tab; in the Sample tab it shows what two tokens of the
same look do not know of each other, in the Attend tab who looks at whom on every board.

Not covered: guidance, remasking of known tokens, early stops at the end of text (the length is fixed).
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

import kernels
from models.backbones.masked_lm import MaskedBackbone
from models.backbones.text import room
from models.checkpoints import families
from models.checkpoints.store import CheckpointError
from models.engine.method import Card, Close, Emit, Method, Open, Turn
from models.loops.attend.boards import BoardLens
from models.loops.unmask.canvases import Board, text_board
from models.loops.unmask.loop import FIELDS, Full, Moment, Move, Plan, Record, moves, shots
from models.loops.unmask.two_masks import FIXED, joint_record
from models.trace import Fact
from models.trace.params import Choice, Span
from models.trace.subject import Example, SubjectError

ORDERS = ("confidence", "entropy", "margin", "random", "peak", "leftmost")
PAIR = Span(1, 100, 1, "Pair of the Sample tab", "This blank and the next one.", fold=True)
WHOLE = 128  # a block this long or longer than the text: no blocks
TURN_STEPS = 4
EXAMPLES = (
    Example("fox", "The fox and the well", "unmask-fox.txt"),
    Example("blanks", "A tale with blanks", "unmask-blanks.txt"),
    Example("between", "Between two sentences", "unmask-between.txt"),
)


@dataclass(frozen=True)
class Params:
    steps: Annotated[int, Span(1, 128, 1, "Steps", "Fewer steps fill in more tokens at once.")] = 24
    length: Annotated[int, Span(4, 128, 4, "New tokens", "How many follow a text that has no blanks.")] = 48
    order: Annotated[str, Choice(ORDERS, "Order", "Which guesses are kept first.")] = "confidence"
    block: Annotated[int, Span(4, WHOLE, 4, "Block length", "Short blocks are filled in from left to right.",
                               unit="tokens")] = 8
    temperature: Annotated[float, Span(0, 2, 0.05, "Temperature", "0 takes the likeliest token.")] = 0.8
    pair: Annotated[int, PAIR] = 1


def run(job):
    network, p, record = backbone(job), job.params, Record()
    board = text_board(network, job.tokenizer, job.subject.text, p.length)
    blocks = Blocks.of(board, WHOLE if job.choice else p.block)  # a visitor may choose anywhere
    moves = blocks.moves(p.steps)
    boards = BoardLens(network, board, moves, job.model) if job.choice is None else None  # a game has one tab
    plan = Plan(moves, Full(boards or network, forbidden=board.forbidden), p.order,
                sampler=kernels.Sampler(p.temperature), allowed=blocks.allowed)
    pair = joint_record(board, network, p.pair, p.temperature) if boards else ()
    yield Open("unmask", board.canvas, FIELDS, len(plan.moves))
    for shot in shots(job, board, plan, record):
        yield Emit("unmask", shot.step, shot.names)
        yield from boards.told(shot) if boards else ()
        yield from pair  # all of it behind the first look: whoever looks at either tab sees something at once
    facts = text_facts(job, board, record)
    yield Close("unmask", sentence(facts, board, len(plan.moves)), record.charts(), facts, path=record.path)
    if boards:
        yield boards.close()


def backbone(job):
    """The network as the loop asks it: ours as it is, a masked language model of the library in its place."""
    if type(job.model).__name__ not in families.MASKED:
        return job.model
    network, most = MaskedBackbone(job.model, job.tokenizer), room(job.model)
    board = text_board(network, job.tokenizer, job.subject.text, job.params.length)
    if len(board.ids[0]) > most:
        raise SubjectError(f"Text and blanks make {len(board.ids[0])} tokens; this checkpoint has room for {most}. "
                           "Please shorten the text, or ask for fewer new tokens.")
    return network


@dataclass(frozen=True, eq=False)
class Blocks:
    """Block number [1, N] of every unknown token, -1 for given ones; a block is finished before the next begins."""

    number: Tensor

    @classmethod
    def of(cls, board: Board, length: int) -> Blocks:
        unknown = board.ids == board.mask_id
        length = board.unknown if length == WHOLE else length
        return cls(torch.where(unknown, (unknown.cumsum(1) - 1) // max(1, length), -1))

    def moves(self, steps: int) -> tuple[Move, ...]:
        """The steps shared evenly among the blocks, at least one each; even counts inside a block."""
        sizes = torch.bincount(self.number[self.number >= 0]).tolist()
        shares = [steps // len(sizes) + (i < steps % len(sizes)) for i in range(len(sizes))]
        return tuple(move for size, share in zip(sizes, shares) for move in moves(size, max(1, share), "linear"))

    def allowed(self, moment: Moment) -> Tensor:
        """The first block that still has masked tokens."""
        number = self.number.expand_as(moment.masked)
        first = torch.where(moment.masked, number, number.max() + 1).amin(1, keepdim=True)
        return number == first


def text_facts(job, board: Board, record: Record) -> Mapping[str, Fact]:
    """How likely the finished text is to the left-to-right model, how varied it is, and what it cost."""
    found = {}
    try:
        surprise = bits(job.companion("text-ar-1"), job.tokenizer, board, record.ids)
        found["bits"] = Fact("Surprise of a left-to-right model", surprise, "bits per character", "lower")
    except CheckpointError:  # without the judge the rest still stands
        pass
    filled = record.ids[0][board.ids[0] == board.mask_id].tolist()
    pairs = list(zip(filled, filled[1:]))
    varied = 100 * len(set(pairs)) / max(1, len(pairs))
    return {**found, "varied": Fact("Distinct pairs of tokens", varied, "%", "higher"),
            "sure": Fact("Confidence when filled in", record.sure, "probability"),
            "macs": Fact("Work", record.cost.macs / 1e9, "G multiply-adds", "lower")}


@torch.inference_mode()
def bits(judge, tokenizer, board: Board, ids: Tensor) -> float:
    """Bits per character of everything from the first blank on, read by a left-to-right model after a start token.

    The text is tokenised anew, so that an unusual split into tokens is not rewarded or punished.
    """
    first = int((board.ids[0] == board.mask_id).nonzero()[0])
    before, text = (tokenizer.decode(ids[0][:end], clean_up_tokenization_spaces=False) for end in (first, None))
    read = judge.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    tokens = torch.tensor([[judge.tokenizer.eos_token_id, *read["input_ids"]]], device=judge.device)
    counted = torch.tensor([end > len(before) for _, end in read["offset_mapping"]], device=judge.device)
    logits = judge.model(tokens[:, :-1]).logits[0]
    logp = kernels.vocab_stats(logits, top_k=1, chosen=tokens[0, 1:]).chosen_logp
    return float(-logp[counted].sum() / np.log(2) / max(1, len(text) - len(before)))


def sentence(facts: Mapping[str, Fact], board: Board, steps: int) -> str:
    judged = (f"; a left-to-right model needs {facts['bits'].value:.2f} bits per character to read it"
              if "bits" in facts else "")
    return (f"{board.unknown} masked tokens were filled in with {steps} looks at the text, {board.unknown / steps:.1f} "
            f"at a time{judged}. Words guessed in the same look did not know of each other.")


def turn_count(job) -> tuple[int, ...]:
    """Tokens per group of a visitor's turn: what the first steps reveal."""
    board = text_board(backbone(job), job.tokenizer, job.subject.text, job.params.length)
    return tuple(move.count for move in Blocks.of(board, WHOLE).moves(job.params.steps)[:TURN_STEPS])


METHOD = Method(
    card=Card(
        id="mdm", title="Masked diffusion text", tabs=("unmask", "sample", "attend"), arxiv="2502.09992", year=2025,
        summary="A text appears from masks in any order: all masked tokens are guessed, the surest guesses stay.",
        flow="masked words > network reads both sides > confidence of every guess > some words revealed; "
             "some words revealed ~> masked words",
        look_at="Which words come first: often the small common ones, and those beside what is known.",
        not_covered="Guidance, remasking, early stops at the end of text."),
    params=Params, accepts="text", layouts=families.MASKED,
    checkpoints=("text-mdm-2",), companions=("text-ar-1",), run=run, examples=EXAMPLES,
    turn=Turn("Choose the tokens that are filled in first, group after group; the model goes on from there, without "
              "blocks.", "bits",
              turn_count),
    fixed={**FIXED, "attend": "It shows how the model reads the boards of the Unmask tab; change those."})
