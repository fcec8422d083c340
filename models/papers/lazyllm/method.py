"""LazyLLM (arXiv 2407.14057): deeper layers keep only the tokens the newest token attends to; the others wait.

The difference from the loop: a token's score is the newest token's attention to it, at this layer and in this step,
mean over heads; it decides who is alive at the NEXT layer; and what left waits in the auxiliary cache, half processed,
so that it can be alive again for any later token at the price of the missing layers only.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from torch import Tensor

from models.backbones.text import encode
from models.checkpoints import families
from models.engine.method import Card, Close, Emit, Event, Job, Method, Open, Turn
from models.engine.recording import line
from models.loops.attend.loop import edges, marked, row_heads
from models.loops.prune import texts
from models.loops.prune.forward import KeepPolicy, LayerSheet, Pass, PruneMoment
from models.loops.prune.layer_steps import FIELDS, Notes, importance
from models.loops.prune.loop import Cuts, generate, rates, reach, survivors
from models.trace import CODE, Canvas, Chart, Cost, Fact, Rows, Step
from models.trace.params import Flag
from models.trace.percent import percent

STORED_TOKENS = 12  # written tokens whose attention rows the Attend record stores
SHOWN_CUTS = 3  # importance charts


@dataclass(frozen=True)
class Params(Cuts):
    revive: Annotated[bool, Flag("Tokens may come back", "Off: what left before the first token is gone for good.",
                                 fold=True)] = True


def score(moment: PruneMoment) -> Tensor:
    """s_i = mean over heads of A_h[newest, i] at this layer, for every token alive here: float [S]."""
    return moment.seen[moment.layer][moment.alive]


def policy(job: Job, layers: int, cuts: tuple[float, ...] | None = None) -> KeepPolicy:
    """cuts: fractions after each layer, instead of those of the parameters (for the sweep)."""
    cuts = cuts or rates(job.params, layers)
    return KeepPolicy(cuts, score, frozenset(i for i, rate in enumerate(cuts) if rate > 0), job.params.revive)


def run(job: Job) -> Iterator[Event]:
    return generate(job, lambda layers: policy(job, layers), [Importance()])


@dataclass
class Importance:
    """The Attend record: per cut the row that decided, the cut-off, and who fell below it."""

    canvas: Canvas | None = None
    layers: int = 0
    queries: list[int] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)  # per written token [L, H, N]
    charts: list[Chart] = field(default_factory=list)
    held: list[float] = field(default_factory=list)  # attention that the kept tokens had, per cut
    luck: list[float] = field(default_factory=list)  # what as many would have on average, drawn by chance
    last: Step | None = None  # the newest token's attention in the last layer, where nothing is cut

    def start(self, canvas: Canvas, layers: int) -> Iterator[Event]:
        self.canvas, self.layers = canvas, layers
        yield Open("attend", canvas, {"importance": FIELDS["importance"]})

    def step(self, now: Pass, notes: Notes) -> Iterator[Event]:
        newest = int(now.sheets[0].alive[-1])
        self.last = Step(f"{notes.label}, no cut", marked(self.canvas.size, newest), "layer", ids=notes.ids,
                         edges={"attention": edges(newest, full_row(now.sheets[-1], self.canvas.size).mean(0), 24)})
        if len(self.queries) < STORED_TOKENS:
            self.queries.append(newest)
            self.rows.append(np.stack([full_row(sheet, self.canvas.size) for sheet in now.sheets]))
        for sheet in now.sheets:
            if sheet.score is not None:
                yield Emit("attend", self.look(sheet, newest, notes, now.ms / len(now.sheets)), notes.words)

    def look(self, sheet: LayerSheet, newest: int, notes: Notes, ms: float) -> Step:
        """One cut: the newest token's row, kept tokens above the cut-off and dropped ones below."""
        kept = ~np.isin(sheet.alive.numpy(), sheet.left.numpy())
        weights = sheet.attention.float().mean(0).cpu().numpy()  # [S]
        cut_off = 100 * float(weights[:-1][kept[:-1]].min(initial=1.0))  # the newest stays whatever its own weight
        self.held.append(float(weights[kept].sum()))
        self.luck.append(float(weights[-1] + weights[:-1].sum() * kept[:-1].mean()))
        if len(self.charts) < SHOWN_CUTS and notes.written:
            self.charts.append(ranked_chart(sheet.layer, 100 * weights, kept, cut_off))
        code = np.full(self.canvas.size, CODE["unknown"], np.uint8)
        code[:newest + 1] = CODE["dropped"]
        code[sheet.alive.numpy()[kept]] = CODE["known"]
        code[newest] = CODE["new"]
        row = np.zeros(self.canvas.size, np.float32)
        row[sheet.alive.numpy()] = weights
        return Step(f"{notes.label}, cut after layer {sheet.layer + 1}", code, "layer", ids=notes.ids,
                    fields=importance(sheet, self.canvas.size), edges={"attention": edges(newest, row, 24)},
                    cost=Cost(1, len(sheet.rows), sheet.macs, ms=ms),
                    note=f"{len(sheet.left)} of {len(kept)} tokens are below the cut-off of {cut_off:.2g} %; the "
                         f"others have {percent(self.held[-1])} of the attention")

    def end(self) -> Iterator[Event]:
        if not self.held and self.last is not None:  # a record has a step, also where nobody left
            yield Emit("attend", self.last)
        rows = np.stack(self.rows, 2)  # [L, H, R, N]
        coords = np.arange(self.canvas.size, dtype=np.float32)[:, None]
        held, luck = (float(np.mean(shares)) if shares else 1.0 for shares in (self.held, self.luck))
        text = (f"At each cut the tokens that stay have {percent(held)} of the newest token's attention on average, as "
                f"many drawn by chance would have {percent(luck)}; the long tail below the dashed line leaves."
                if self.held else "No cut was made, so every token stays.")
        found = {"held": Fact("Attention on the tokens that stay", 100 * held, "%", "higher"),
                 "luck": Fact("The same of as many by chance", 100 * luck, "%")}
        yield Close("attend", text, tuple(self.charts), found, row_heads(rows, self.queries, coords),
                    Rows.pack(np.array(self.queries), rows), "rows-of-newest")


def full_row(sheet: LayerSheet, size: int) -> np.ndarray:
    """The newest token's attention [H, N], 0 for tokens that were not alive."""
    row = np.zeros((len(sheet.attention), size), np.float32)
    row[:, sheet.alive.numpy()] = sheet.attention.float().cpu().numpy()
    return row


def ranked_chart(layer: int, weights: np.ndarray, kept: np.ndarray, cut_off: float) -> Chart:
    """Importance of the alive tokens in falling order, with the cut-off; the kept ones all stand above it."""
    order = np.argsort(-weights, kind="stable")
    return line(f"Importance at layer {layer + 1}, first token", "% of attention", {"tokens": weights[order]}, x="rank",
                first=1, by_step=False, reference=float(cut_off), caption=f"{int(kept.sum())} of {len(kept)} tokens "
                "stand above the dashed cut-off and go on; the newest token always stays.")


def same_cuts(params) -> dict:
    return {name: getattr(params, name) for name in ("first", "second", "third", "length", "where", "revive", "rounds")}


def last_layer_places(job: Job) -> tuple[int, ...]:
    """How many tokens of the prompt are alive at the last layer."""
    config = job.model.config
    ids = encode(job.tokenizer, job.subject.text, reach(job.model) - job.params.length)
    return (survivors(job.params, config.num_hidden_layers, len(ids))[-1],)


METHOD = Method(
    card=Card(
        id="lazyllm", title="LazyLLM", tabs=("prune", "attend"), arxiv="2407.14057", year=2024, seed="B",
        summary="While reading a long prompt, deeper layers only keep the tokens that the newest token attends to. "
                "Tokens that leave are not lost: their half-processed states wait and can come back for a later token.",
        flow="prompt > layers > attention of the last token > *least looked at leave > deeper layers > "
             "next token; *least looked at leave > *waiting states > deeper layers",
        look_at="Which words reach the deepest layer, and which come back (a small triangle) for a later token. Coming "
                "back costs work and pays where a second question needs what the first did not: try the one with two.",
        not_covered="The paper's own layers and rates could not be verified; its models are Llama-2 7B and XGen-7B.",
        unverified="Cuts after 1/2, 2/3 and 5/6 of the layers (or 1/3, 1/2, 2/3) are our reading of 'progressive'. "
                   "Of the defaults none stands after 2/3: a sweep on the shipped checkpoint chose so."),
    params=Params, accepts="text", layouts=families.PRUNED,
    checkpoints=texts.CHECKPOINTS, run=run, examples=texts.EXAMPLES, worldly=texts.WORLDLY,
    baseline="random-keep", baseline_params=same_cuts,
    turn=Turn("Choose the words that must reach the last layer", "agreement", last_layer_places))
