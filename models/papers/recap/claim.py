"""ReCAP's claim, small: at equal time and equal work local passes beat fewer full ones, and drift follows its law.

Parser scores on drawn scenes replace the Frechet distance. Every setting draws the same captions with the same seeds;
times are medians of interleaved single runs. The drift law is measured on a designed experiment (context size and
number of updated cells drawn independently), because in a real run both grow together.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from kernels import Sampler
from models.backbones.rows import RowStore
from models.baselines.maskgit import method as maskgit
from models.claims import Claim, Lab, Row, bootstrap, row, scene_lab
from models.claims.scene_lab import versus
from models.loops.unmask import loop
from models.papers.recap import method as recap

SEEDS = (21, 22)
SETTINGS = {"4+4": [1, 1, 1, 1], "6+3": [0, 0, 0, 1, 1, 1], "8+4": [0] * 4 + [1] * 4, "12+6": [0] * 6 + [1] * 6}
EARLY = ("6+3, early", [1, 1, 1, 0, 0, 0])
ROUNDS = 5
BASE = (4, 6, 8, 9, 12, 18)


def measure(lab: Lab) -> Claim:
    each, settings = lab.size(20, 3), dict(list(SETTINGS.items())[: lab.size(4, 1)])
    (model, tokenizer), base = (b.model for b in scene_lab.bundles()), BASE if not lab.quick else (4, 8)
    asked = [(seed, scene_lab.requests(each, seed)) for seed in SEEDS]

    def over(score, setting) -> np.ndarray:
        return np.concatenate([score(model, tokenizer, things, setting, seed) for seed, things in asked])

    full = {t: over(scene_lab.base, t) for t in base}
    ours = {name: over(local_scores, placing) for name, placing in [*settings.items(), EARLY]}
    early, late = ours.pop(EARLY[0]), ours.get("6+3", ours["4+4"])
    ms, macs = costs(model, tokenizer, base, settings, lab.size(ROUNDS, 1))
    rows = [*(row(f"base, {t} full: score", values, "of 1") for t, values in full.items()),
            *(row(f"ReCAP {name}: score", values, "of 1") for name, values in ours.items()),
            *(Row(f"ReCAP {name}: time against {(most := near(base, sum_of(name)))} full", ms[name] / ms[most], "x",
                  ROUNDS) for name in ours),
            *(versus(f"ReCAP {name} minus base at equal time", ours[name], full, ms, ms[name]) for name in ours),
            *(versus(f"ReCAP {name} minus base at equal multiply-adds", ours[name], full, macs, macs[name])
              for name in ours)]
    rows += [gap(name, ours[name], full) for name in ours if int(name.split("+")[0]) in full and sum_of(name) in full]
    rows += [row("6+3: late minus early placement", late - early, "score", expected="> 0",
                 holds=bootstrap(late - early)[1] > 0)] if "6+3" in ours else []
    rows += [speed_up(ours, full, ms), *drift_law(model, tokenizer, lab.size(32, 4))]
    return concluded(rows, 2 * each)


def local_scores(model, tokenizer, asked, placing: list[int], seed: int) -> np.ndarray:
    """Scores [K]; one picture at a time, because cached rows differ between pictures."""
    pictures = []
    for index, board in enumerate(scene_lab.boards(model, tokenizer, asked)):
        *_, last = play(model, board, recap.placed(board.unknown, placing), seed * 1000 + index)
        pictures.append(board.paint(last.ids))
    return scene_lab.scores(asked, pictures)


def play(model, board, moves, seed: int, full: bool = False):
    evaluate = (loop.Full if full else recap.Reused)(model, board.cond, scene_lab.GUIDANCE, until=scene_lab.UNTIL)
    plan = loop.Plan(moves, evaluate, noise=scene_lab.NOISE, sampler=Sampler(scene_lab.TEMPERATURE))
    return loop.fill(board.ids, board.mask_id, plan, torch.Generator().manual_seed(seed))


def costs(model, tokenizer, base, settings, rounds: int) -> tuple[dict, dict]:
    """Median ms of single interleaved runs and exact multiply-adds, of base step counts and of ReCAP settings."""
    board = scene_lab.boards(model, tokenizer, scene_lab.requests(1, 0))[0]
    runs = {**{t: (loop.moves(board.unknown, t, maskgit.SCHEDULE), True) for t in base},
            **{name: (recap.placed(board.unknown, placing), False) for name, placing in settings.items()}}
    times, macs = {name: [] for name in runs}, {}
    for _ in range(rounds + 1):  # the first round warms up
        for name, (moves, is_full) in runs.items():
            began = time.perf_counter()
            turns = list(play(model, board, moves, 0, is_full))
            times[name].append((time.perf_counter() - began) * 1e3)
            macs[name] = sum(turn.found.cost.macs for turn in turns)
    return {name: float(np.median(taken[1:])) for name, taken in times.items()}, macs


def gap(name: str, ours: np.ndarray, full: dict[int, np.ndarray]) -> Row:
    """Share of the way from T' full passes to T' + local full ones, with a paired bootstrap interval."""
    few, many = full[int(name.split("+")[0])], full[sum_of(name)]
    table = np.stack([few, many, ours], 1)

    def share(rows: np.ndarray) -> float:
        a, b, c = rows.mean(0)
        return float((c - a) / (b - a)) if abs(b - a) > 1e-9 else float("nan")

    rng = np.random.default_rng(0)
    draws = [share(table[rng.integers(0, len(table), len(table))]) for _ in range(2000)]
    low, high = np.quantile(np.nan_to_num(draws), [0.025, 0.975])
    clear = bootstrap(many - few)[1] > 0  # without a gap there is nothing to close
    value = share(table)
    return Row(f"ReCAP {name}: share of the gap closed" + ("" if clear else " (no clear gap)"),
               _plain(value), "of the gap", len(table), _plain(low), _plain(high), ">= 0.5",
               bool(value >= 0.5) if clear else None)


def speed_up(ours: dict[str, np.ndarray], full: dict[int, np.ndarray], ms: dict) -> Row:
    """Time of the longest base run over the cheapest ReCAP setting that stays within 3 % of its score."""
    most = max(full)
    fit = [name for name in ours if ours[name].mean() >= 0.97 * full[most].mean()]
    best = min(fit, key=ms.get) if fit else None
    value = ms[most] / ms[best] if best else 0.0
    return Row(f"speed-up against {most} full passes within 3 % of the score ({best or 'none fits'})", value, "x",
               len(full[most]), expected="1.2 to 2", holds=bool(value >= 1.2))


@torch.inference_mode()
def drift_law(model, tokenizer, pictures: int) -> list[Row]:
    """Rank correlation of the drift of known cells with how many cells were updated and with how many were known."""
    rng, found = np.random.default_rng(5), []
    for things in scene_lab.requests(pictures, 31):
        board = scene_lab.boards(model, tokenizer, [things])[0]
        *_, last = play(model, board, loop.moves(board.unknown, 8), 0, True)
        for _ in range(3):
            known, updated = int(rng.integers(16, 192)), int(rng.integers(1, 33))
            found.append((known, updated, drift_of(model, board, last.ids, rng.permutation(256), known, updated)))
    known, updated, drift = np.array(found).T
    return [correlation("drift against updated cells: Spearman", drift, updated, "> 0.5", lambda v: v > 0.5),
            correlation("drift against known cells: Spearman", drift, known, "< -0.5", lambda v: v < -0.5)]


def drift_of(model, board, ids, order: np.ndarray, known: int, updated: int) -> float:
    """Mean 1 - cosine, over layers, of the keys and values of `known` cells when `updated` more are revealed."""
    stores = []
    for count in (known, known + updated):
        shown = torch.zeros_like(board.ids, dtype=torch.bool)
        shown[0, torch.from_numpy(order[:count])] = True
        embedded, angles = model.embed(torch.where(shown, ids, board.mask_id), board.cond)
        store = RowStore.empty(model.layers, embedded.shape[1])
        recap.Reused(model, board.cond)._pass(embedded, angles, torch.arange(embedded.shape[1]), store)
        stores.append(store)
    cells = torch.from_numpy(order[:known]) + model.cond_length
    return float(np.mean([float(recap.drifted(*stores, layer)[cells].mean()) for layer in range(len(model.layers))]))


def correlation(name: str, drift: np.ndarray, cause: np.ndarray, expected: str, met) -> Row:
    pairs = np.stack([drift, cause], 1)
    value, low, high = bootstrap(pairs, rounds=500, statistic=lambda rows: spearman(rows[:, 0], rows[:, 1]))
    return Row(name, value, "rank correlation", len(pairs), low, high, expected, bool(met(value)))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation with mean ranks for ties."""
    def ranks(values: np.ndarray) -> np.ndarray:
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

    ra, rb = ranks(a), ranks(b)
    return float(np.corrcoef(ra, rb)[0, 1]) if ra.std() and rb.std() else 0.0


def concluded(rows: list[Row], captions: int) -> Claim:
    """holds: better at equal time in at least three of four budgets, half of a clear gap closed, both drift signs."""
    timed = [r for r in rows if "equal time" in r.name]
    wins = sum(bool(r.holds) for r in timed)
    others = [r.holds for r in rows if r.holds is not None and "equal" not in r.name]
    pareto = wins >= max(1, len(timed) - 1)
    verdict = "holds" if pareto and all(others) else "mixed" if pareto or any(others) else "does not hold"
    return Claim(
        "recap", "Up to 2.4 times faster than the base model at a minimal drop, on ImageNet 256 (arXiv 2505.19089).",
        "With the same time or work, full passes plus local ones score higher than full passes alone on drawn scenes; "
        "they close half of the gap to as many full passes; the drift of cached features grows with the cells updated "
        "and shrinks with the context.", "parser score (in place of the Frechet distance); rank correlation",
        "MaskGIT with as many passes, all full, or with as much time or multiply-adds",
        f"{captions} captions per setting; {ROUNDS} interleaved timings; 3 drift probes per picture", tuple(rows),
        verdict,
        f"Better than the base at equal time in {wins} of {len(timed)} budgets; "
        f"{sum(map(bool, others))} of {len(others)} further expectations met.",
        "the base model's own score falls when full passes are taken away, so the score can see a loss", SEEDS,
        dtype="bfloat16")


def sum_of(name: str) -> int:
    return sum(map(int, name.split("+")))


def near(base, steps: int) -> int:
    return min(base, key=lambda t: abs(t - steps))


def _plain(value: float) -> float:
    return float(np.nan_to_num(value, nan=0.0, posinf=99.0, neginf=-99.0))
