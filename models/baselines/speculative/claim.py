"""Exact speculative sampling: what comes out is distributed as the model alone would draw it, in fewer passes.

The first codes of one lit picture are drawn many times by rounds of drafts and many times one by one, and compared by
chi-square, place by place; the same with a wrong replacement rule shows that the test can see a mistake.
"""

from __future__ import annotations

import numpy as np
import torch

from models.claims import Claim, Lab, Row, row
from models.claims.drafting_lab import Nets, beyond, chi_square, nets, played, started
from models.loops.sample.acceptance_rules import Exact, normalised, pick
from models.loops.sample.speculative_decoding import Plan, rounds

CAPTION, PLACES = "red circle, blue square", 4


class NoSubtraction(Exact):
    """The control: a refused draft is replaced by a draw from q, not from what p left of it."""

    def left(self, raised, q, p, drafts):
        return normalised(raised, q)


def measure(lab: Lab) -> Claim:
    found, count = nets(), lab.size(12, 2)
    runs = {(lit, way): played(found, Exact(), count, light=lit, favourite=way == "favourite")
            for lit in (True, False) for way in ("favourite", "drawn")}
    rows = [*exact_rows(found, lab), *(
        row(f"codes per pass, {'lit' if lit else 'clean'}, {way} drafts", run.length, "of at most 5",
            **({"expected": "> 1.5", "holds": bool(run.length.mean() > 1.5)} if not lit else {}))
        for (lit, way), run in runs.items())]
    rows.append(Row("largest distance of what comes out, one step", float(max(run.off.max() for run in runs.values())),
                    "total variation, computed", count, expected="< 0.001",
                    holds=bool(max(run.off.max() for run in runs.values()) < 1e-3)))
    held = [r.holds for r in rows if r.holds is not None]
    return Claim(
        "speculative", "Speculative decoding accelerates sampling without changing the distribution "
        "(arXiv 2211.17192).", "Chi-square finds no difference from one-by-one sampling, and finds a wrong rule; "
        "clean scenes take fewer than two thirds of the passes.", "chi-square p-value; codes per pass",
        "one pass per code", f"{count} pictures per setting, one training of the drafter", tuple(rows),
        "mixed" if not all(held) else "holds", f"{sum(held)} of {len(held)} expectations met.",
        "drawing replacements from q itself is told apart", (0,))


def exact_rows(found: Nets, lab: Lab) -> list[Row]:
    """Smallest p-value over the first places, corrected for their number, of the rule and of the wrong one."""
    count, made = lab.size(1000, 20), []
    alone = one_by_one(found, count)
    for name, rule, good in (("exact rule", Exact(), True), ("replacement from q (control)", NoSubtraction(), False)):
        ours = by_rounds(found, rule, count)
        p = min(1.0, PLACES * min(beyond(*chi_square(ours[:, i], alone[:, i])) for i in range(PLACES)))
        made.append(Row(f"first {PLACES} codes against one-by-one sampling, {name}: p-value", p, "", count,
                        expected="> 0.001" if good else "< 0.001", holds=bool((p > 1e-3) == good)))
    return made


def by_rounds(found: Nets, rule: Exact, count: int) -> np.ndarray:
    """First codes [count, PLACES] by rounds of drawn drafts."""
    made, plan = [], Plan(PLACES, favourite=False)
    for number in range(count):
        chain = started(found, CAPTION, True, plan)
        dice = torch.rand(chain.size, 3, generator=torch.Generator().manual_seed(number))
        made.append(next(each.ids[:PLACES] for each in rounds(chain, rule, dice) if each.ids[PLACES - 1] >= 0))
    return torch.stack(made).numpy()


@torch.inference_mode()
def one_by_one(found: Nets, count: int) -> np.ndarray:
    """First codes [count, PLACES] drawn one after the other by the target alone."""
    cond = started(found, CAPTION, True, Plan()).cond.expand(count, -1)
    ids = torch.zeros(count, found.target.grid[0] * found.target.grid[1], dtype=torch.long)
    generator = torch.Generator().manual_seed(77)
    for at in range(PLACES):
        end = found.target.cond_length + at + 1
        hidden, (cos, sin) = found.target.slots(ids, cond)
        states = found.target.states(hidden[:, :end], (cos[:, :end], sin[:, :end]))
        p = found.target.head(states[:, -1]).float().softmax(-1)
        ids[:, at] = torch.tensor([pick(row, float(u)) for row, u in zip(p, torch.rand(count, generator=generator))])
    return ids[:, :PLACES].numpy()
