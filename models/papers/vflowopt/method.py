"""VFlowOpt (arXiv 2508.05211): patches leave in three stages, scored once by the encoder; all knobs are searched.

    received_j   = mean_i A[i, j]                     A: attention of the encoder's last layer, mean over heads
    G            = { j : received_j > t mean(received) }        the few patches that everyone looks at
    importance_j = mean_{i in G} A[i, j] + alpha softmax(entropy)_j     what they look at, and how busy a patch is

Before the language model the least important patches of each cell of m x m are folded into one, at the place of the
most important; before layers k1 and k2 more leave by the same importance. The search (search.py) makes the question's
last state move as little as possible. Not covered: crops beside the global view.

Letters: L patches, K that enter, G global patches, N layers, D width.
"""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from models.engine.method import Card, Event, Job, Method, Turn
from models.engine.recording import line
from models.loops.prune import pictures
from models.loops.prune.photo_questions import Asked
from models.loops.prune.picture_records import look
from models.loops.prune.pictures import Group, PicturePlan, View
from models.trace import Chart, Field
from models.trace.params import Choice, Flag, Span

FILE = "vflowopt.json"  # beside the weights: what the search found for them
UNSEARCHED = "No knobs were searched for these weights; these are t = 1, m = 4, alpha = 0 and equal ratios."
FIELDS = {"relevance": Field("Attention of global patches", "% of their attention", 0.0),
          "entropy": Field("Entropy of grey values", "bits", 0.0),
          "importance": Field("Importance", "", None, None)}


@dataclass(frozen=True)
class Knobs:
    """theta: r0, r1 are the shares kept before the language model and before k1; t, m, alpha as above. What is kept
    before k2 follows from the budget."""

    r0: float
    r1: float
    t: float
    m: float
    alpha: float


@dataclass(frozen=True)
class Params(Asked):
    kept: Annotated[float, pictures.KEPT] = 0.25
    knobs: Annotated[str, Choice(
        ("searched", "default", "own"), "Knobs", "Searched: those found for the nearest of 50, 25 and 10 %. Default: "
        "t = 1, m = 4, alpha = 0 and equal ratios, also for weights without a search. Own: the three below.",
        ("searched", "unsearched", "my own"))] = "searched"
    recycle: Annotated[bool, Flag("Fold dropped patches", "Off: as many patches stay, and the others are lost.")] = True
    t: Annotated[float, Span(0.5, 8.0, 0.1, "Global above (t)", "A patch is global if it receives so many times the "
                             "mean attention.", "x the mean", fold=True)] = 1.0
    m: Annotated[float, Span(1.5, 8.0, 0.1, "Cell (m)", "Dropped patches of a cell of m x m become one.", "patches",
                             fold=True)] = 4.0
    alpha: Annotated[float, Span(-1.0, 1.0, 0.05, "Weight of entropy (alpha)", "Below 0 busy patches leave first. The "
                                 "settings that the authors released all have 0.", fold=True)] = 0.0


def stages(layers: int) -> tuple[int, int]:
    """k1, k2: the layers before which more patches leave: 9 and 18 of the reference's 28, so 3 and 6 of 8."""
    return -(-9 * layers // 28), -(-18 * layers // 28)


def global_patches(attention: Tensor, t: float) -> Tensor:
    """G as ids; the most looked at patch alone where no patch reaches t."""
    received = attention.mean(0)
    found = (received > t * received.mean()).nonzero()[:, 0]
    return found if len(found) else received.argmax()[None]


def entropy(picture: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Bits [L] of the 256-bin histogram of grey values 0..255 in each patch of a uint8 picture."""
    size = picture.shape[0] // grid[0]
    grey = picture.astype(np.float64).mean(-1).astype(int)
    cells = grey.reshape(grid[0], size, grid[1], size).swapaxes(1, 2).reshape(grid[0] * grid[1], -1)
    p = np.stack([np.bincount(cell, minlength=256) for cell in cells]) / size**2
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(1)


def importance(seen: View, knobs: Knobs) -> tuple[Tensor, Tensor, Mapping[str, np.ndarray]]:
    """Importance [L], G, and the maps it is made of."""
    chosen = global_patches(seen.attention, knobs.t)
    relevant = seen.attention[chosen].mean(0)  # what the global patches PAY to each
    busy = entropy(seen.picture, seen.grid)
    total = relevant + knobs.alpha * torch.from_numpy(busy).float().softmax(0)
    return total, chosen, {"relevance": 100 * relevant.numpy(), "entropy": busy, "importance": total.numpy()}


def fold(seen: View, rank: Tensor, r0: float, m: float) -> tuple[Tensor, Tensor, list[Group]]:
    """Stage 0: who enters [K], their features [1, K, D], and the groups. Each cell of m x m that holds a low patch
    gives one token: the mean of its low patches, weighted by importance, at the place of the most important."""
    columns, drop = seen.grid[1], round(seen.count * (1 - r0))
    low = rank.argsort(stable=True)[: min(drop + int(seen.count / m**2), seen.count) if drop else 0]
    features, groups, cells = seen.features.clone(), [], {}
    for patch in low.sort().values.tolist():
        cells.setdefault((int(patch // columns / m), int(patch % columns / m)), []).append(patch)
    for members in cells.values():
        weights = shares(rank[members])
        target = members[int(rank[members].argmax())]
        features[0, target] = (weights[:, None].to(features.device) * seen.features[0, members]).sum(0)
        groups.append(Group(target, tuple(members), tuple(weights.tolist())))
    kept = torch.ones(seen.count, dtype=torch.bool)
    kept[low] = False
    kept[[group.target for group in groups]] = True
    ids = kept.nonzero()[:, 0]
    return ids, features[:, ids], groups


def shares(values: Tensor) -> Tensor:
    """Importances divided by their sum; where a negative alpha leaves one below zero, counted from the least."""
    values = values - min(float(values.min()), 0.0)
    return values / values.sum() if float(values.sum()) > 0 else torch.full_like(values, 1 / len(values))


def cuts(entered: int, r1: float, kept: float, count: int, layers: int) -> dict[int, int]:
    """How many leave before k1 and k2 so that the layers hold `kept` of layers x patches on average. r2 is what is left
    of the budget, clipped at 1 as in the reference: where r0 and r1 are low, less is spent. What is left over is less
    than one patch; one goes part of the way (our rounding, and so is that no layer is empty)."""
    k1, k2 = stages(layers)
    left = round(kept * count * layers) - k1 * entered  # patches x layers for the layers behind k1
    middle = max(min(round(entered * r1), (left - layers + k2) // (k2 - k1)), 1)
    stay, deeper = divmod(max(left - (k2 - k1) * middle, layers - k2), layers - k2)
    gone = {k1: entered - middle, k2: 0}
    if stay < middle:
        gone |= {k2: middle - stay} if not deeper else {k2: middle - stay - 1, k2 + deeper: 1}
    return {k: n for k, n in gone.items() if n}


def plan(seen: View, knobs: Knobs, kept: float, recycle: bool = True) -> PicturePlan:
    """The paper's difference. Without recycling as many patches enter, the most important ones as they are."""
    rank, chosen, maps = importance(seen, knobs)
    ids, features, groups = fold(seen, rank, knobs.r0, knobs.m)
    if not recycle:
        ids = rank.argsort(descending=True, stable=True)[: len(ids)].sort().values
        features, groups = seen.features[:, ids], []
    return PicturePlan(ids, features, rank, cuts(len(ids), knobs.r1, kept, seen.count, seen.layers), groups, maps,
                       chosen.numpy(), f"t {knobs.t:.2g}, alpha {knobs.alpha:.2g}, {len(chosen)} global patches")


def unsearched(kept: float, layers: int) -> Knobs:
    """t = 1, m = 4, alpha = 0 and one ratio r for all three stages: k1 r + (k2 - k1) r^2 + (N - k2) r^3 = N kept."""
    k1, k2 = stages(layers)
    found = np.roots([layers - k2, k2 - k1, k1, -layers * kept])
    r = min(float(found[np.abs(found.imag) < 1e-9].real.max()), 1.0)
    return Knobs(r, r, 1.0, 4.0, 0.0)


def recorded(folder, kept: float) -> tuple[int, dict] | None:
    """The searched budget, in percent, that is nearest by its ratio, and what the search found and tried for it; None
    where the weights bring no search."""
    if folder is None or not (folder / FILE).is_file():
        return None
    found = json.loads((folder / FILE).read_text("utf-8"))["settings"]
    percent = min(found, key=lambda percent: abs(np.log(int(percent) / 100 / kept)))
    return int(percent), found[percent]


def own_plan(job: Job, seen: View) -> PicturePlan:
    """By the knobs that the visitor asked for: searched ones, r0 in proportion where they are of another budget."""
    p, found = job.params, recorded(job.bundle.folder, job.params.kept)
    knobs, remark = unsearched(p.kept, seen.layers), ""
    if p.knobs == "own":
        knobs = replace(knobs, t=p.t, m=p.m, alpha=p.alpha)
    elif p.knobs == "searched" and found:
        knobs = Knobs(**found[1]["knobs"])
        knobs = replace(knobs, r0=min(1.0, knobs.r0 * p.kept / (found[0] / 100)), r1=knobs.r1 if p.kept < 0.75 else 1.0)
    elif p.knobs == "searched":
        remark = UNSEARCHED
    return replace(plan(seen, knobs, p.kept, p.recycle), remark=remark)


def search_charts(percent: int, made: Mapping) -> tuple[Chart, ...]:
    """The recorded search: every evaluation, the best so far, and each knob against the score."""
    tried = np.array(made["trace"], np.float32)  # [E, knobs + 1], the score last
    score = np.where(tried[:, -1] > 0, tried[:, -1], np.nan)  # settings that overspend count 0
    scaled = (tried - tried.min(0)) / np.maximum(np.ptp(tried, axis=0), 1e-9)
    unit = "mean cosine with the full model"
    return (line(f"The search for {percent} %", unit, {"tried": score, "best so far": np.fmax.accumulate(score)},
                 x="evaluation", first=1, by_step=False, caption=f"The first {made['initial']} are random, the others "
                 f"proposed by a Gaussian process, over {made['scenes']} calibration scenes."),
            Chart("scatter", "Which knob moved the score", "knob, from its least to its greatest value tried", unit,
                  {name: np.stack([scaled[:, i], score], 1)[score > 0] for i, name in enumerate(made["knobs"])},
                  caption="Each evaluation once for every knob."))


def run(job: Job) -> Iterator[Event]:
    found = recorded(job.bundle.folder, job.params.kept)
    return look(job, lambda seen: own_plan(job, seen), FIELDS, search_charts(*found) if found else ())


def spent(job: Job) -> dict[str, float]:
    """The budget that this very run spends, for the baseline."""
    seen = pictures.view(job)
    return {"kept": own_plan(job, seen).share(seen.layers, seen.count)}


METHOD = Method(
    card=Card(
        id="vflowopt", title="VFlowOpt", tabs=("prune",), arxiv="2508.05211", year=2025, seed="A",
        summary="A picture becomes tokens in front of a question, 64 of a scene; most of them leave in three stages. "
                "What the most looked-at patches look at stays, dropped neighbours are folded into one token, and a "
                "search sets the knobs.",
        flow="picture and question > encoder > *importance of every patch > *patches dropped or recycled > "
             "language model > answer; *searched settings > *patches dropped or recycled",
        look_at="Whether the patches that the question needs are still there in the last layers. The importance does "
                "not know the question.",
        not_covered="Detail crops: LLaVA-OneVision reads the base view of a photo only. Its separator token never "
                    "leaves and is no patch of the budget. Knobs were searched for scenes only; they do not transfer. "
                    "Patches are folded before the projector, in the reference after it.",
        unverified="On eight layers the stages stand before layers 4 and 7, on 24 before 9 and 17: in proportion to 9 "
                   "and 18 of 28. Of what the budget leaves over, one patch goes part of the way: ours."),
    params=Params, accepts="question", checkpoints=pictures.CHECKPOINTS, kinds=pictures.KINDS, run=run,
    examples=pictures.EXAMPLES, baseline="random-keep",
    baseline_params=lambda p: {"kept": p.kept, "question": p.question}, baseline_budget=spent,
    turn=Turn("Choose the patches that enter the language model", "agreement",
              lambda job: (len(own_plan(job, pictures.view(job)).kept),)))
