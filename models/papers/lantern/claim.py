"""LANTERN's claim, small: borrowed probability makes runs of drafts longer while pictures stay as asked.

Drafts are the drafter's favourites, as in the reference's dynamic tree; drawn drafts stand beside them. In place of
Frechet distance a parser reads the scenes. The sceptic's control, shuffled neighbours, gets the budget at which it
carries as many codes per pass, chosen on other captions.
"""

from __future__ import annotations

import numpy as np
import torch

from models.baselines.sampling.claim import held_out
from models.claims import Lab, scene_lab
from models.claims.drafting_lab import SEED, Nets, Played, nets, played
from models.claims.harness import Budget, Claim, Metric, Tuned, as_good, at_least, better, conclude, context, ratio
from models.loops.sample.drafting_records import CODES, DRAFTER
from models.papers.lantern import method as lantern
from models.worlds import scenes

LENGTH = Metric("codes per pass", "codes", floor=1, ceiling=5)
SURE = Metric("mass of the likeliest 2 % of the vocabulary", "of 1", "lower", floor=1, ceiling=0.02)
PAINT = Metric("a replaced patch", "dB", floor=0)
BUDGETS = (0.05, 0.1, 0.15, 0.2)  # tried for the control
OTHERS = 7  # seed of other captions


def measure(lab: Lab) -> Claim:
    found, count = nets(), lab.size(72, 1)
    asked = scenes.several(count, SEED)
    score = Metric("parser score", "of 1", floor=0, ceiling=scene_lab.ceiling(found.tokenizer, asked))
    liked = {delta: under(found, delta, count) for delta in (0.0, 0.1, 0.2)}
    drawn = {delta: under(found, delta, count, drawn=True) for delta in (0.0, 0.02)}
    spoilt = under(found, 0.8, lab.size(24, 1), drawn=True)
    spent = matched(found, lab.size(24, 1))
    shuffled = under(found, spent, count, kind="shuffled")

    def arm(name, run, **options):
        return score.arm(name, run.score, budget=Budget(run.macs / 1e9, "G multiply-adds"),
                         checkpoints=("scene-ar-1", DRAFTER, CODES), **options)

    exact, tenth, fifth = (arm(f"favourites, delta {delta:g}", run) for delta, run in liked.items())
    free, loose = (arm(f"drawn, delta {delta:g}", run) for delta, run in drawn.items())
    sceptic = arm(f"favourites, shuffled, delta {spent:g}", shuffled, tuned=Tuned(4, "24 other captions"))
    few, once = Metric("parser score", "of 1", floor=0), Budget(1, "pictures")
    return conclude(
        "lantern", paper="1.75 times (greedy) and 1.76 times (random sampling) the speed-up of naive speculative "
        "decoding on LlamaGen (arXiv 2410.03355).",
        here="Codes of lit scenes are more ambiguous than text; at a budget of 0.2 a pass carries at least 1.3 times "
             "as many codes as exactly, and scores stay within 0.1, with favourite drafts and at a tenth of that "
             "budget with drawn ones; near codes paint alike and spoil less than shuffled ones that carry as far.",
        arms=(exact, tenth, fifth, free, loose, sceptic), trainings=0, seeds=(SEED,),
        expect=[ambiguity(drawn[0.0], lab),
                at_least(carried(liked[0.2], liked[0.0], "favourites, delta 0.2"), 1.3),
                as_good(tenth, exact, 0.1, on_average=True), as_good(fifth, exact, 0.1, on_average=True),
                as_good(loose, free, 0.1, on_average=True),
                better(fifth, sceptic, unmatched="what is matched, on other captions, is codes per pass"),
                painted(found, drawn[0.0])],
        controls=[better(few.arm("drawn, exact", drawn[0.0].score[: len(spoilt.score)], budget=once),
                         few.arm("drawn, delta 0.8", spoilt.score, budget=once))],
        context=[*(context(f"codes per pass, {name}", run.length, "codes") for name, run in (
                     ("favourites, exact", liked[0.0]), ("drawn, exact", drawn[0.0]),
                     ("drawn, delta 0.02", drawn[0.02]))),
                 context("codes per pass over exact, favourites, delta 0.1", carried(liked[0.1], liked[0.0], "")),
                 context(f"codes per pass, shuffled at {spent:g} over nearest at 0.2",
                         carried(shuffled, liked[0.2], "")),
                 *(context(f"distance of what comes out, {name}", run.off, "total variation") for name, run in (
                     ("favourites, delta 0.2", liked[0.2]), ("drawn, delta 0.02", drawn[0.02])))])


def under(found: Nets, delta: float, count: int, *, drawn=False, kind="nearest", seed=0) -> Played:
    rule = lantern.rule(lantern.Params(delta=delta, neighbours=kind), found.tokenizer)
    return played(found, rule, count, favourite=not drawn, seed=seed)


def matched(found: Nets, count: int) -> float:
    """The budget at which shuffled neighbours carry as many codes per pass as nearest ones at 0.2."""
    wanted = under(found, 0.2, count, seed=OTHERS).length.mean()
    return min(BUDGETS, key=lambda d: abs(under(found, d, count, kind="shuffled", seed=OTHERS).length.mean() - wanted))


def carried(mine: Played, other: Played, name: str):
    return ratio(mine.length, other.length, f"codes per pass over exact, {name}", floor=1)


def ambiguity(exact: Played, lab: Lab):
    """Mean mass of the likeliest 2 % of V, per lit picture against per passage of held-out text."""
    text = torch.as_tensor(held_out(len(exact.ids))[0]).float().softmax(-1).unflatten(0, (len(exact.ids), -1))
    lit, words = (q.topk(max(1, q.shape[-1] // 50)).values.sum(-1).mean(1).numpy() for q in (exact.q, text))
    once = Budget(1, "passes per token")
    return better(SURE.arm("codes of lit scenes", lit, budget=once), SURE.arm("text-ar-1 on books", words, budget=once))


def painted(found: Nets, exact: Played):
    """What a replacement paints: the nearest code against the code whose probability is most like its own."""
    entries, order = found.tokenizer.entries.float().cpu(), lantern.by_distance(found.tokenizer)

    def both(ids: torch.Tensor, q: torch.Tensor) -> list[float]:
        near = order[ids, 0]
        gap = (q - q.gather(1, near[:, None])).abs().scatter(1, torch.stack([ids, near], 1), 2.0)
        return [float(10 * torch.log10(1 / (entries[ids] - entries[codes]).pow(2).mean(1).clamp_min(1e-8)).mean())
                for codes in (near, gap.argmin(1))]

    nearest, other = np.array([both(ids, q) for ids, q in zip(exact.ids, exact.q)]).T
    once = Budget(1, "codes replaced")
    return better(PAINT.arm("nearest code", nearest, budget=once),
                  PAINT.arm("another code as probable", other, budget=once))
