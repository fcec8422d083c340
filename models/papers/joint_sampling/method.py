"""ADJUST: after one full pass, one cheap layer tells the remaining masks about each token just drawn.

arXiv 2509.22738. One round of K tokens: (1) a full pass of the frozen model gives states H and the first token;
(2) K - 1 times: write the token, run the layer g on (H, embeddings of the tokens now), draw the next token from the
frozen head on what g returns; (3) the next round begins with a full pass. H stays as it is for the round: a network
that saw the new tokens would be exact sampling. `sampler` also runs the two ways in between which ADJUST stands:

exact      one token per full pass, the joint distribution that ADJUST approximates
marginal   K tokens per full pass, drawn independently (the baseline, `mdm`, with as many passes)

Positions are chosen by orders that do not look at what is drawn, else even exact sampling would distort the joint.
With D layers a round costs D + K layers instead of K D (the paper's D + K - 1, and one for our wiring). Not covered:
MAUVE and Dream-7B; rounds of unequal length by a confidence threshold.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Annotated

import torch
from torch import Tensor, nn

import kernels
from models.baselines.mdm import method as mdm
from models.engine.method import Card, Close, Emit, Event, Method, Open, Turn
from models.loops.unmask.canvases import Board, text_board
from models.loops.unmask.loop import Evaluation, Moment, Move, Plan, Record, full_cost, indices, read, shots
from models.loops.unmask.two_masks import FIXED, Between, joint_record
from models.papers.joint_sampling.record import FIELDS, Watch
from models.trace import Cost, Fact
from models.trace.params import Choice, Flag, Span

LAYER = "text-joint-2"
ORDERS = ("random", "peak", "entropy", "leftmost")
SAMPLERS = ("adjust", "exact", "marginal")
TURN_TOKENS = 4


@dataclass(frozen=True)
class Params:
    together: Annotated[int, Span(1, 8, 1, "Tokens per full pass", "K: one from the full pass, the others from the "
                                  "layer.")] = 4
    sampler: Annotated[str, Choice(SAMPLERS, "Sampler", "How the tokens of a round know of each other.",
                                   titles=("one layer in between (the method)", "a full pass per token (exact)",
                                           "not at all (marginal)"))] = "adjust"
    order: Annotated[str, Choice(ORDERS, "Order", "Which position is next; never by what was drawn there.",
                                 titles=("random", "surest position", "lowest entropy", "left to right"))] = "peak"
    temperature: Annotated[float, Span(0, 1.5, 0.05, "Temperature", "At 0 the joint and its marginals often share the "
                                       "best token, which hides the difference.")] = 1.0
    length: Annotated[int, Span(4, 128, 4, "New tokens", "How many follow a text that has no blanks.")] = 32
    truth: Annotated[bool, Flag("Compare with the true distribution", "One full pass more per token, for the picture "
                                "only; it is not work and the layer does not see it.", fold=True)] = True
    pair: Annotated[int, mdm.PAIR] = 1


def rounds(unknown: int, together: int, sampler: str = "adjust") -> tuple[Move, ...]:
    """Rounds of at most K tokens, evenly shared: a full pass each, then one layer pass per further token."""
    sizes = kernels.schedule(unknown, passes(unknown, 1 if sampler == "exact" else together), "linear")
    if sampler == "marginal":
        return tuple(Move(size) for size in sizes)
    return tuple(move for size in sizes for move in (Move(1), *[Move(1, "layer")] * (size - 1)))


def passes(unknown: int, together: int) -> int:
    """Full passes that fill in `unknown` tokens, K at a time."""
    return max(1, math.ceil(unknown / together))


def gain(together: int, layers: int) -> float:
    """Tokens per cost of a full pass of D layers: K D / (D + K). Layer passes are not free. The paper has
    K D / (D + K - 1), without the pass by which our layer first reads the round's own text."""
    return together * layers / (layers + together) if together > 1 else 1.0


@dataclass
class Adjust:
    """Evaluates all rows by the trunk ("full") or by the layer on what the trunk left at the round's start ("layer").

    start: states of the round's full pass; before [B, N, D]: what the layer said of that text, once it has been asked.
    """

    trunk: nn.Module
    layer: nn.Module
    forbidden: tuple[int, ...] = ()
    start: tuple[Tensor, ...] | None = None
    before: Tensor | None = None

    def __call__(self, moment: Moment) -> Evaluation:
        positions, (embedded, angles) = indices(moment.masked), self.trunk.embed(moment.ids)
        shape = len(moment.ids), embedded.shape[1], positions.shape[1]
        if moment.move.label == "full":
            self.start, self.before = self.full_pass(embedded, angles), None
            states, cost = self.start.hidden, full_cost(self.trunk, *shape)
        else:
            cost = self.layer_cost(*shape, first=self.before is None)
            states = self.told(embedded, angles)
        return Evaluation(positions, read(self.trunk, states, positions, 0.0, self.forbidden),
                          torch.ones_like(moment.masked), cost)

    def full_pass(self, embedded: Tensor, angles):
        """The trunk on a text: last states, the stream that the layer reads, and the embeddings."""
        from models.papers.joint_sampling.network import full_pass
        return full_pass(self.trunk, embedded, angles, self.layer.tap)

    def told(self, embedded: Tensor, angles) -> Tensor:
        """The layer's states for the tokens as they stand now."""
        if self.before is None:
            self.before = self.layer.said(self.start, self.start.embedded, angles)
        return self.layer(self.start, embedded, angles, self.before)

    @torch.inference_mode()
    def after(self, ids: Tensor) -> Callable[[Tensor], Tensor]:
        """The layer's states [A, N, D] of texts [A, N] in which tokens were written since one full pass on ids [1, N].
        """
        embedded, angles = self.trunk.embed(ids)
        start = self.full_pass(embedded, angles)
        return lambda texts: self.layer(start, self.trunk.embed(texts)[0], angles)

    def layer_cost(self, batch: int, tokens: int, read_out: int, first: bool) -> Cost:
        """One layer of the trunk's shape, two projections and the trunk's head; a layer more the first time."""
        cost = full_cost(self.trunk, batch, tokens, read_out, layers=2 if first else 1)
        return replace(cost, macs=cost.macs + 2 * batch * tokens * self.trunk.config.hidden_size**2)


def run(job) -> Iterator[Event]:
    board, p, record = text_board(job.model, job.tokenizer, job.subject.text, job.params.length), job.params, Record()
    adjust = Adjust(job.model, job.companion(LAYER).model, board.forbidden)
    plan = Plan(rounds(board.unknown, p.together, p.sampler), adjust, p.order, sampler=kernels.Sampler(p.temperature))
    watch = Watch(board, adjust, p.truth)
    between = Between("layer", "the layer", "ADJUST", adjust.after(board.ids))
    yield Open("unmask", board.canvas, FIELDS, len(plan.moves))
    filled = (Emit("unmask", *watch.seen(shot)) for shot in shots(job, board, plan, record))
    pair = joint_record(board, job.model, p.pair, p.temperature, between)
    yield from chain(islice(filled, 1), pair, filled)  # whoever looks at either tab sees something at once
    facts = {**mdm.text_facts(job, board, record), **cost_facts(board, plan, watch, record), **watch.facts()}
    yield Close("unmask", sentence(facts, p, board, plan), (*record.charts(), *watch.charts()), facts,
                path=record.path)


def cost_facts(board: Board, plan: Plan, watch: Watch, record: Record) -> dict[str, Fact]:
    """What a token costs, counted in layers, against one full pass for each."""
    full = sum(move.label == "full" for move in plan.moves)
    layers, extra = len(watch.adjust.trunk.layers), len(plan.moves) - full
    spent = record.cost.rows / board.canvas.size
    return {"full": Fact("Full passes", full, "of the model", "lower"),
            "extra": Fact("Layer passes", extra, "of one layer"),
            "gain": Fact("Tokens per cost of a full pass", board.unknown * layers / spent, "by layers run", "higher")}


def sentence(facts: dict[str, Fact], p: Params, board: Board, plan: Plan) -> str:
    """What this sampler did, and how far from the truth the layer was."""
    start = f"{board.unknown} tokens took {facts['full'].value:.0f} full passes"
    if p.sampler == "exact":
        return start + ": every token was drawn by a model that had read all others, which is exact and dear."
    if p.sampler == "marginal" or "kl" not in facts:
        return start + (": tokens of the same pass did not know of each other." if p.sampler == "marginal" else
                        f" and {facts['extra'].value:.0f} passes of one layer, which tells the masks what was drawn.")
    return (f"{start} and {facts['extra'].value:.0f} passes of one layer. After each new token the layer is "
            f"{facts['kl'].value:.2f} nats per mask from what a full pass would say, unchanged guesses "
            f"{facts['stale'].value:.2f}.")


def unknown_in(job) -> int:
    return text_board(job.model, job.tokenizer, job.subject.text, job.params.length).unknown


def beside(p: Params) -> dict:
    """The marginal baseline: the same order and temperature, no blocks."""
    return {"order": p.order, "temperature": p.temperature, "length": p.length, "pair": p.pair, "block": mdm.WHOLE}


def budget(job) -> dict:
    """As many full passes as the method makes, at most mdm's 128."""
    return {"steps": min(128, passes(unknown_in(job), job.params.together))}


METHOD = Method(
    bound="its small layer was trained for its own checkpoint",
    card=Card(
        id="joint-sampling", title="ADJUST: approximate joint sampling", tabs=("unmask", "sample"), arxiv="2509.22738",
        year=2025, seed="A",
        summary="Several tokens from one look at a text do not know of each other. ADJUST runs one small layer after "
                "each drawn token, which tells the remaining masks about it without another look by the whole model.",
        flow="text with masks > full pass > one word drawn > *one small layer updates the other masks > "
             "next word drawn; next word drawn ~> *one small layer updates the other masks",
        look_at="Point at a masked word just after a neighbour was filled in: its guess by the layer, by a full pass, "
                "and as it was before.",
        not_covered="Dream-7B and its published layer (7 B parameters, remote code); MAUVE, which needs a large "
                    "encoder; rounds whose length follows a confidence threshold.",
        unverified="How states and tokens are fused before the layer (ours starts as a copy of the model's layer 3, is "
                   "fed from mid-stack with that layer's input, and adds what changes to the last states), which "
                   "positions the training loss averages over, and the order of positions."),
    params=Params, accepts="text", checkpoints=("text-mdm-2",), companions=(LAYER, "text-ar-1"), run=run,
    examples=mdm.EXAMPLES, baseline="mdm", baseline_params=beside, baseline_budget=budget,
    turn=Turn("Choose the tokens that are filled in first, one after the other; the method goes on from there.", "bits",
              lambda job: (1,) * min(TURN_TOKENS, unknown_in(job))),
    fixed=FIXED)
