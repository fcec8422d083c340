"""ReCAP's claim, small: local passes beat more full ones at equal work, and drift follows its law.

Parser scores on drawn scenes replace the Frechet distance. The base model gets the fewest full passes that cost at
least as much as ReCAP's, by multiply-adds. The drift law is measured on a designed experiment (context size and number
of updated cells drawn independently), because in a real run both grow together. The dtype is pinned: bfloat16 takes
two thirds of float32's time and scores the same here.
"""

from __future__ import annotations

import numpy as np
import torch

import kernels
from kernels import Sampler
from models.baselines.maskgit.method import SCHEDULE
from models.claims import Lab, scene_lab
from models.claims.arms import Quantity, rank_correlation
from models.claims.harness import Claim, as_good, at_least, at_most, better, conclude, context
from models.claims.timing import race
from models.loops.unmask import evaluation, loop
from models.papers.recap import method as recap
from models.worlds import scenes

SEEDS, DTYPE, CELLS = (21, 22, 23), "bfloat16", 256
SETTINGS = {f"{full} full + {local} local passes": (full, local)  # the local ones late
            for full, local in ((12, 4), (15, 5), (17, 7), (22, 10))}
FEWEST, MOST = [*SETTINGS][0], [*SETTINGS][-1]


def measure(lab: Lab) -> Claim:
    seeds = SEEDS[: lab.size(3, 1)]
    model, tokenizer = (b.model for b in scene_lab.bundles(DTYPE))
    captions = scene_lab.Captions.of(lab.size(20, 1), seeds, tokenizer, floor=False)

    def over(steps, **how) -> np.ndarray:
        return captions.filled(model, tokenizer, steps, **how)

    def arm(name, scores, macs):
        return captions.arm(name, scores, np.mean(macs), ("scene-mgm-1", "scene-vq-1"))

    board = scene_lab.boards(model, tokenizer, captions.groups[0][1][:1])[0]
    ours = {name: over(late(*pair), evaluate=reused, batch=1) for name, pair in SETTINGS.items()}
    spent = {name: scene_lab.work(model, late(*pair), reused) for name, pair in SETTINGS.items()}
    equal = {name: next(t for t in range(1, 64) if full_work(model, t) >= macs) for name, macs in spent.items()}
    base = {t: over(t) for t in {*equal.values(), 22, 32}}
    full = {t: arm(f"{t} full passes", scores, full_work(model, t)) for t, scores in base.items()}
    mine = arm(MOST, ours[MOST], spent[MOST])
    all_mine = arm("mean of four settings", [*ours.values()], [*spent.values()])
    all_full = arm("full passes for as much work", [base[t] for t in equal.values()],
                   [full_work(model, t) for t in equal.values()])
    known, updated, drift = drift_law(model, tokenizer, lab.size(32, 1)).T
    return conclude(
        "recap", paper="Up to 2.4 times as fast as the base model at a minimal drop, ImageNet 256 (arXiv 2505.19089).",
        here="Full passes plus late local ones score higher on drawn scenes than full passes alone for the same work, "
             "close half of the gap to as many full passes, and come within 0.1 of them in less time; drift of cached "
             "features grows with the cells updated and shrinks with the context.",
        arms=(all_mine, all_full, mine, *full.values()), trainings=0, seeds=SEEDS, dtype=DTYPE,
        expect=[better(all_mine, all_full), better(mine, full[equal[MOST]]), as_good(mine, full[32], 0.1),
                at_least(Quantity(f"score at {MOST} above the middle between 22 and 32 full passes",
                                  ours[MOST] - (base[22] + base[32]) / 2, "of 1", floor=-1, ceiling=1), 0.0),
                at_least(clock(model, board, lab.size(20, 1)), 1.2),
                at_least(rank_correlation("drift against updated cells: Spearman", drift, updated), 0.5),
                at_most(rank_correlation("drift against known cells: Spearman", drift, known), -0.5)],
        controls=[better(full[32], full[equal[FEWEST]], unmatched="passes are what is taken away")],
        context=[context(f"score at {name} minus {t} full passes, as much work", ours[name] - base[t], "of 1")
                 for name, t in equal.items()])


def late(full: int, local: int) -> tuple[loop.Move, ...]:
    """One local pass after each of the last full ones."""
    return recap.grouped(CELLS, full, 1, 1 - local / full)


def reused(model, cond, guidance: float):
    """One picture at a time, because cached rows differ between pictures."""
    return recap.Reused(model, cond, guidance, until=scene_lab.UNTIL)


def play(model, board, moves, seed: int, evaluate=reused):
    plan = loop.Plan(moves, evaluate(model, board.cond, scene_lab.GUIDANCE), noise=scene_lab.NOISE,
                     sampler=Sampler(scene_lab.TEMPERATURE))
    return loop.fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(seed))


def full_work(model, steps: int) -> int:
    return evaluation.full_work(model, kernels.schedule(CELLS, steps, SCHEDULE), scene_lab.GUIDANCE, scene_lab.UNTIL)


def clock(model, board, rounds: int) -> Quantity:
    """Whole pictures in turn: 32 full passes against 22 with 10 local ones."""
    full, ours = loop.moves(CELLS, 32, SCHEDULE), late(22, 10)
    return race({"32 full passes": lambda: list(play(model, board, full, 0, scene_lab.plain)),
                 MOST: lambda: list(play(model, board, ours, 0))}, rounds)


@torch.inference_mode()
def drift_law(model, tokenizer, pictures: int) -> np.ndarray:
    """(known cells, updated cells, drift of the known ones) [3 pictures, 3], both counts drawn independently."""
    rng, found = np.random.default_rng(5), []
    for things in scenes.several(pictures, 31):
        board = scene_lab.boards(model, tokenizer, [things])[0]
        *_, last = play(model, board, loop.moves(CELLS, 8), 0, scene_lab.plain)
        for _ in range(3):
            known, updated = int(rng.integers(16, 192)), int(rng.integers(1, 33))
            order = torch.from_numpy(rng.permutation(CELLS))
            before, after = (features(model, board, last.ids, order[:count]) for count in (known, known + updated))
            drift = [float(recap.drifted(before, after, layer)[order[:known] + model.cond_length].mean())
                     for layer in range(len(model.layers))]
            found.append((known, updated, np.mean(drift)))
    return np.array(found)


def features(model, board, ids: torch.Tensor, shown: torch.Tensor):
    """Keys and values of a full pass over a picture of which only these cells are shown."""
    cells = torch.full_like(ids, board.mask_id)
    cells[0, shown] = ids[0, shown]
    return recap.Reused(model, board.cond).features(*model.embed(cells, board.cond))
