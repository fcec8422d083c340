"""ENAT's claim, small: less work for the same pictures, reuse that costs nothing, and change that sits in few cells.

(1) The plain model on its own pictures: how concentrated the change of its features is, and whether newly revealed
cells are where it sits (permutation test). (2) Score and multiply-adds of ENAT and of the plain model in as many steps,
and at equal work. (3) The same weights with and without reuse. Parser scores on drawn scenes replace the Frechet
distance; every setting draws the same captions with the same seeds, so differences are paired.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from kernels import Sampler
from models.baselines.maskgit import method as maskgit
from models.checkpoints.store import load
from models.claims import Claim, Lab, Row, row, scene_lab
from models.claims.scene_lab import versus
from models.loops.unmask.loop import Plan, fill, moves
from models.papers.enat import method as enat
from models.papers.enat.record import TOP, concentration

SEEDS = (71, 72, 73)
STEPS = (8, 28)  # the paper's, and the default of the tab
FEWER = (4,)  # steps of the plain model that cost no more than ENAT's fewest, or hardly
SHARE, LOSS = 0.6, 0.05  # ours: most work and most loss of score, both of the plain model's
SHUFFLES, ROUNDS = 999, 3


def measure(lab: Lab) -> Claim:
    (plain, tokenizer), each = (b.model for b in scene_lab.bundles()), lab.size(32, 2)
    model, steps = load("scene-enat-1", dtype="bfloat16").model, STEPS[: lab.size(2, 1)]
    asked = [(seed, scene_lab.requests(each, seed)) for seed in SEEDS]

    def scored(net: nn.Module, evaluate: Callable, count: int) -> np.ndarray:
        return np.concatenate([scene_lab.base(net, tokenizer, things, count, seed, evaluate=evaluate)
                               for seed, things in asked])

    again = partial(enat.Reusing, until=scene_lab.UNTIL)
    full = {count: scored(plain, scene_lab.plain, count) for count in (*FEWER, *steps)}
    ours = {count: scored(model, again, count) for count in steps}
    afresh = {count: scored(model, partial(again, reuse=False), count) for count in steps}
    unfit = scored(unprojected(model), again, steps[-1])
    spent = costs({"plain": (plain, scene_lab.plain, list(full)), "enat": (model, again, steps)}, tokenizer,
                  lab.size(ROUNDS, 1))
    rows = [*change_rows(plain, tokenizer, asked[0][1], steps), *score_rows(full, ours, spent),
            *reuse_rows(ours, afresh, unfit)]
    return concluded(rows, len(SEEDS) * each)


def unprojected(model: nn.Module) -> nn.Module:
    """ENAT whose P is the identity: features go on as they are, like a key-value cache. Wrong, to see that it hurts."""
    other = copy.deepcopy(model)
    nn.init.zeros_(other.reuse.narrow.weight)
    nn.init.zeros_(other.reuse.narrow.bias)
    return other


def costs(nets: dict, tokenizer, rounds: int) -> dict[tuple[str, int], tuple[int, float]]:
    """(name, steps) -> multiply-adds and median processor ms of single runs, taken in turns; nets: name -> (network,
    its evaluation, step counts)."""
    board = scene_lab.boards(nets["plain"][0], tokenizer, scene_lab.requests(1, 0))[0]
    times, macs = {(name, count): [] for name, (*_, steps) in nets.items() for count in steps}, {}
    for _ in range(rounds + 1):  # the first round warms up
        for name, count in times:
            net, evaluate, _ = nets[name]
            plan = Plan(moves(board.unknown, count, maskgit.SCHEDULE), evaluate(net, board.cond, scene_lab.GUIDANCE),
                        noise=scene_lab.NOISE, sampler=Sampler(scene_lab.TEMPERATURE))
            began = time.process_time()
            turns = list(fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(0)))
            times[name, count].append((time.process_time() - began) * 1e3)
            macs[name, count] = sum(turn.found.cost.macs for turn in turns)
    return {key: (macs[key], float(np.median(taken[1:]))) for key, taken in times.items()}


def change_rows(plain, tokenizer, asked, steps: tuple[int, ...]) -> list[Row]:
    """(1) Per picture of the plain model: the change that the top cells hold, and how often new cells are of them."""
    rows = []
    for count in steps:
        held, lift, by_chance = changes(plain, tokenizer, asked, count)
        p = (1 + int((by_chance >= lift.mean()).sum())) / (1 + len(by_chance))
        rows += [row(f"plain model, {count} steps: change held by the top {TOP:.0%} of cells", held, "of all change",
                     expected="> 0.5", holds=bool(held.mean() > 0.5)),
                 row(f"plain model, {count} steps: new cells among them", lift, "times chance", expected=">= 2",
                     holds=bool(lift.mean() >= 2 and p < 0.05)),
                 Row(f"plain model, {count} steps: the same by shuffled cells", p, "p", len(by_chance))]
    return rows


@torch.inference_mode()
def changes(plain, tokenizer, asked, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Held [K] and lift [K], means over the steps of a picture, and mean lifts of shuffled boards [SHUFFLES]."""
    group = scene_lab.boards(plain, tokenizer, asked)
    ids, cond = torch.cat([board.ids for board in group]), torch.cat([board.cond for board in group])
    plan = Plan(moves(ids.shape[1], count, maskgit.SCHEDULE), scene_lab.plain(plain, cond, scene_lab.GUIDANCE),
                noise=scene_lab.NOISE, sampler=Sampler(scene_lab.TEMPERATURE))
    rng, before, found, shuffled = np.random.default_rng(0), None, [], []
    for turn in fill(ids, group[0].mask_id, plan, torch.Generator().manual_seed(SEEDS[0])):
        features = plain.look(turn.moment.ids, cond)[:, plain.cond_length :].float()  # [K, N, D]
        if before is not None:
            change = (1 - torch.cosine_similarity(features, before, dim=-1)).numpy()
            fresh = turn.moment.fresh.numpy()
            found.append([concentration(*pair) for pair in zip(change, fresh)])
            shuffled.append(chance(rng, int(fresh[0].sum()), fresh.shape[1], len(group)))
        before = features
    held, lift = np.mean(found, 0).T
    return held, lift, np.mean(shuffled, (0, 2))


def chance(rng: np.random.Generator, fresh: int, tokens: int, pictures: int) -> np.ndarray:
    """Lifts [SHUFFLES, pictures] if the fresh tokens were any of the tokens."""
    top = round(TOP * tokens)
    return rng.hypergeometric(fresh, tokens - fresh, top, (SHUFFLES, pictures)) / fresh / (top / tokens)


def score_rows(full: dict, ours: dict, spent: dict) -> list[Row]:
    """(2) Scores, work and time in as many steps, and scores at equal work."""
    rows = []
    for count, values in ours.items():
        (macs, ms), (most, slow) = spent["enat", count], spent["plain", count]
        lost, least = values - full[count], -LOSS * full[count].mean()
        rows += [row(f"{count} steps, plain model: score", full[count], "of 1"),
                 row(f"{count} steps, ENAT: score", values, "of 1"),
                 row(f"{count} steps, ENAT minus plain model", lost, "score", expected=f">= {least:.3f} (5 % less)",
                     holds=bool(lost.mean() >= least)),
                 Row(f"{count} steps, ENAT: work", macs / most, "of the plain model's multiply-adds", 1,
                     expected=f"<= {SHARE}", holds=bool(macs <= SHARE * most)),
                 Row(f"{count} steps, ENAT: processor time", ms / slow, "of the plain model's", ROUNDS)]
    work = {count: spent["plain", count][0] for count in full}
    return [*rows, *(versus(f"{count} steps, ENAT minus plain model at equal multiply-adds", ours[count], full, work,
                            spent["enat", count][0]) for count in ours)]


def reuse_rows(ours: dict, afresh: dict, unfit: np.ndarray) -> list[Row]:
    """(3) The same weights with and without reuse; and, as a control, with features that P did not fit."""
    rows = []
    for count, values in afresh.items():
        found = row(f"{count} steps, with reuse minus without", ours[count] - values, "score", expected="0 inside")
        rows.append(replace(found, holds=bool(found.low <= 0 <= found.high)))
    last = list(ours)[-1]
    control = row(f"{last} steps, reuse without P minus with P", unfit - ours[last], "score", expected="all below 0")
    return [*rows, replace(control, holds=bool(control.high < 0))]


def concluded(rows: list[Row], captions: int) -> Claim:
    """One training, so never "holds"."""
    held, control = [r.holds for r in rows if r.holds is not None], rows[-1]
    seen = "spoil the pictures" if control.holds else "spoil nothing that so few pictures show"
    return Claim(
        "enat", "Better pictures with significantly less computation on ImageNet and MS-COCO (arXiv 2411.06959; no "
        "number in the abstract).",
        "The quarter of cells that change most holds more than half of a plain model's change, with twice as many new "
        "cells as by chance; ENAT needs at most 60 % of its multiply-adds at a score at most 5 % lower; reuse changes "
        "the score no more than chance.",
        "parser score (in place of the Frechet distance); multiply-adds; 1 - cosine of features",
        "scene-mgm-1 (same blocks, trained longer) in as many steps; the same weights without reuse",
        f"{captions} captions per setting, the tab's defaults; {captions // len(SEEDS)} for the change", tuple(rows),
        "mixed" if any(held) else "does not hold",
        f"{sum(held)} of {len(held)} expectations met; one training of ENAT, so it cannot read 'holds'."
        + "".join(f" Not met: {r.name}: {r.value:.2g}." for r in rows if r.holds is False),
        f"features that P did not fit {seen}; with fewer steps the plain model's score falls", SEEDS, dtype="bfloat16")
