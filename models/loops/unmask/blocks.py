"""Unmask: text written in blocks. Say how long the next block is, fill it in by the one loop, and begin the next.

    for turn in by_blocks(model, [[END, *prompt]], choose, dice, length=80):
        turn.sizes, turn.blocks         # of the texts that are still being written

A block of L words takes STEPS[L] passes, words in random order (or one pass for each word: first hitting, arXiv
2409.02908), and one more pass reads it when it is finished and looks at what may come: the policy's only eyes.
Letters: B texts, R of them still written, L words of a block, V words.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import kernels
from models.backbones.block_diffusion import LONGEST, SIZES, Ahead, BlockStream
from models.engine.events import Event
from models.engine.recording import Filling
from models.loops.unmask.evaluation import Evaluation, Moment, indices
from models.loops.unmask.loop import Move, Plan, Reveal, fill
from models.trace import Cost, Field
from models.worlds.world import END, MASK

STEPS = dict(zip(SIZES, (1, 2, 3, 4, 6)))  # passes that fill in a block: longer ones are cheaper per word
PLAIN = kernels.Sampler()
FIELDS = {"block": Field("Number of its block", "", 1.0),
          "ahead": Field("Entropy before the block began", "nats", 0.0),
          "confidence": Field("Probability of the word when it was drawn", "probability", 0.0, 1.0)}
Choose = Callable[[Ahead, Sequence[int]], Sequence[int]]  # of which texts -> sizes [R]
Guide = Callable[[Tensor, Tensor, Tensor], Tensor]  # logits [R, P, V], texts [R, N], masked places [R, P] -> logits


class BlockTurn(NamedTuple):
    """One block of every text that is still written: which ones, what was known, sizes, ids, the moves inside, and the
    logits [R, P, V] of each before they were guided. Texts with blocks of one size share their moves."""

    rows: list[int]
    ahead: Ahead
    sizes: list[int]
    blocks: list[list[int]]
    moves: list[list[Reveal]]
    plain: list[list[Tensor]]


@dataclass
class Inside:
    """One evaluation of a block behind its finished text; guide: what a classifier makes of the logits."""

    stream: BlockStream
    rows: list[int]
    guide: Guide | None = None
    plain: list[Tensor] = field(default_factory=list)  # logits before they were guided

    def __call__(self, moment: Moment) -> Evaluation:
        logits, cost = self.stream.inside(self.rows, moment.ids)
        at = indices(moment.masked)
        found = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[2]))
        self.plain.append(found)
        if self.guide:
            places = self.stream.known[self.rows][:, None] + torch.arange(moment.ids.shape[1], device=at.device)
            text = self.stream.ids[self.rows].scatter(1, places, moment.ids)
            found = self.guide(found, text, places.gather(1, at))
        return Evaluation(at, found, torch.ones_like(moment.masked), cost)


def steps_of(size: int, hitting: bool = False) -> int:
    """Passes that fill in a block of any size: those of the next listed one, and never more than it has words."""
    return size if hitting else min(size, next(STEPS[one] for one in SIZES if one >= size))


def calls_of(sizes: Sequence[int], hitting: bool = False) -> int:
    """Passes of a text in blocks of these sizes: those that fill in, and one for each block that reads it."""
    return sum(steps_of(size, hitting) + 1 for size in sizes)


def by_blocks(model, prompts: Sequence[Sequence[int]], choose: Choose, dice: torch.Generator, length: int, *,
              hitting: bool = False, guide: Guide | None = None, sampler: kernels.Sampler = PLAIN
              ) -> Iterator[BlockTurn]:
    """Texts behind their prompts, until each has ended or is `length` words long."""
    stream, rows = BlockStream(model, len(prompts), length), list(range(len(prompts)))
    last = [list(prompt[max(0, len(prompt) - 1) // LONGEST * LONGEST :]) for prompt in prompts]
    for row, prompt in enumerate(prompts):
        for at in range(0, len(prompt) - len(last[row]), LONGEST):
            stream.look([row], [prompt[at : at + LONGEST]])
    while rows:
        ahead = stream.look(rows, last)
        sizes = [min(size, int(room)) for size, room in zip(choose(ahead, rows), ahead.room, strict=True)]
        blocks, moves, plain = ([[]] * len(rows) for _ in range(3))
        for size in sorted(set(sizes)):
            here = [at for at, one in enumerate(sizes) if one == size]
            inside = Inside(stream, [rows[at] for at in here], guide)
            plan = Plan(tuple(map(Move, kernels.schedule(size, steps_of(size, hitting), "linear"))), inside,
                        order="random", sampler=sampler)
            made = list(fill(torch.full((len(here), size), MASK, device=ahead.state.device), MASK, plan, dice))
            for at, ids in zip(here, made[-1].ids.tolist(), strict=True):
                blocks[at], moves[at], plain[at] = ids, made, inside.plain
        yield BlockTurn(rows, ahead, sizes, blocks, moves, plain)
        alive = [at for at, block in enumerate(blocks) if END not in block and ahead.room[at] > len(block)]
        rows, last = [rows[at] for at in alive], [blocks[at] for at in alive]


def entropies(ahead: Ahead) -> Tensor:
    """Of the next 16 words [R, 16], in nats; 0 where there is no room."""
    found = kernels.vocab_stats(ahead.logits, top_k=1).entropy.float()
    return found * (torch.arange(LONGEST, device=found.device) < ahead.room[:, None])


def by_entropy(most: float) -> Choose:
    """The rule of thumb: as many words as are surer than `most` nats, one after the other, rounded down to a size."""
    def choose(ahead: Ahead, rows: Sequence[int]) -> list[int]:
        sure = (entropies(ahead) <= most).long().cumprod(1).sum(1).tolist()
        return [max(size for size in SIZES if size <= max(1, count)) for count in sure]
    return choose


def by_size(at: float) -> Choose:
    """Every text in blocks of one size: of size number `at`, or, as often as its fraction says, of the next."""
    def choose(ahead: Ahead, rows: Sequence[int]) -> list[int]:
        return [SIZES[min(int(at) + (0.618034 * (row + 1) % 1 < at % 1), len(SIZES) - 1)] for row in rows]
    return choose


def at_random(tilt: float, rng: np.random.Generator) -> Choose:
    """Sizes that look at nothing, each drawn e^tilt times as often as the one before; 0: all as often."""
    shares = np.exp(tilt * np.arange(len(SIZES)))
    return lambda ahead, rows: rng.choice(SIZES, len(rows), p=shares / shares.sum()).tolist()


class Text(NamedTuple):
    """What stands behind a prompt, with its end where it has one, and the sizes of its blocks."""

    ids: list[int]
    sizes: list[int]

    @property
    def calls(self) -> float:
        """Passes for one word."""
        return calls_of(self.sizes) / len(self.ids)


def texts(turns: Iterator[BlockTurn], count: int) -> list[Text]:
    made = [Text([], []) for _ in range(count)]
    for turn in turns:
        for row, size, block in zip(turn.rows, turn.sizes, turn.blocks, strict=True):
            made[row].ids.extend(block[: block.index(END) + 1] if END in block else block)
            made[row].sizes.append(size)
    return made


# --- the record -----------------------------------------------------------------------------------------------------

def spans(first: int, text: Text) -> list[range]:
    """Where each block lies on a canvas whose prompt has `first` words; what stands behind the end is not on it."""
    ends = first + np.minimum(np.cumsum(text.sizes), len(text.ids))
    return [range(*pair) for pair in zip([first, *ends[:-1]], ends)]


def filled(page: Filling, turns: Sequence[BlockTurn], where: Sequence[range], begun: Callable[[int, range], None],
           steered: bool) -> Iterator[Event]:
    """A step for each block of one text, and one inside it for each pass. begun(block, places): what is noted of a
    block as it begins."""
    made = 0
    yield page.open(sum(1 + len(turn.moves[0]) for turn in turns))
    for number, (turn, span) in enumerate(zip(turns, where), 1):
        here = range(span.start, min(span.start + LONGEST, page.canvas.size))
        page.note(here, ahead=entropies(turn.ahead)[0, : len(here)])
        page.fill(span, state="masked", block=[number] * len(span))
        begun(number - 1, span)
        yield page.step(f"block {number}: {turn.sizes[0]} word{'s' * (turn.sizes[0] > 1)}", level="block",
                        cost=turn.ahead.cost)
        parent, made = made, made + 1 + len(turn.moves[0])
        for step, (move, plain) in enumerate(zip(turn.moves[0], turn.plain[0]), 1):
            at = move.found.positions[0]
            there, ids = at + span.start < page.canvas.size, torch.where(move.revealed[0], move.ids[0], -1)
            guesses(page, (at + span.start)[there], move.found.logits[0][there], plain[0][there], ids[at][there],
                    steered)
            new = [one for one in move.revealed[0].nonzero()[:, 0].tolist() if one < len(span)]
            page.fill([span.start + one for one in new], ids[new])
            yield page.step(f"block {number}, pass {step} of {len(turn.moves[0])}", parent=parent,
                            cost=move.found.cost + Cost(ms=move.ms))


def drawn(page: Filling, turns: Sequence[BlockTurn], where: Sequence[range], steered: bool) -> Iterator[Event]:
    """A step for each block of one text: every word with the distribution that it was drawn from."""
    yield page.open(len(turns))
    for number, (turn, span) in enumerate(zip(turns, where), 1):
        found = {}
        for move, plain in zip(turn.moves[0], turn.plain[0]):
            for row, place in enumerate(move.found.positions[0].tolist()):
                if move.revealed[0, place]:
                    found[place] = move.found.logits[0, row], plain[0, row]
        rows = (torch.stack([found[place][which] for place in range(len(span))]) for which in (0, 1))
        ids = page.canvas.ids[span.start : span.stop]
        guesses(page, span, *rows, ids, steered)
        page.fill(span, ids, block=[number] * len(span))
        yield page.step(f"block {number}: {len(span)} word{'s' * (len(span) > 1)}", level="block")


def guesses(page: Filling, at, logits: Tensor, plain: Tensor, ids, steered: bool) -> None:
    """What words were drawn from, and where a classifier pulled, what they would have been drawn from otherwise."""
    if len(at):
        page.guess(at, logits, ids, "steered" if steered else "model")
        if steered:
            page.guess(at, plain, ids, "not steered", measure=False)
