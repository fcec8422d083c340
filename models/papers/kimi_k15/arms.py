"""The trained arms, how they learned, and where each ended, as the claim measured it."""
from __future__ import annotations

import numpy as np

from models import claims
from models.checkpoints.store import shipped
from models.trace import Chart

SFT, RL, SHORT = "target-sft-1", "target-rl-1", "target-rl-short-1"
ARMS = {RL: "mirror descent", SHORT: "with the length bonus", SFT: "before, fine-tuned",
        "target-reinforce-1": "REINFORCE", "target-rest-1": "ReST",
        "target-averaged-1": "averaged weights", "target-sft-short-1": "fine-tuned, short"}


def named(arm: str) -> tuple[str, str]:
    """How the rows of the claim are called."""
    return f"right answers, {arm}", f"tokens of an answer, {arm}"


def learned() -> tuple[Chart, ...]:
    """Right answers and tokens along the trainings; nothing where there were none."""
    cards = {name: card for name, card in shipped().items() if name in ARMS and "curve" in card}
    charts = []
    for part, (title, unit) in enumerate((("Right answers while learning", "right (%)"),
                                          ("Tokens of an answer while learning", "tokens"))):
        series = {}
        for name in filter(cards.get, ARMS):
            found = np.array(cards[name]["curve"], np.float32)[:, part] * (100 if part == 0 else 1)
            at = np.linspace(1, cards[name]["iterations"], len(found), dtype=np.float32)
            series[ARMS[name]] = np.stack([at, found], 1)
        if series:
            charts.append(Chart("line", title, "iteration", unit, series, caption="Of the answers that each drew and "
                                "learned from, averaged over a few iterations a point."))
    return tuple(charts)


def frontier() -> tuple[Chart, ...]:
    """Every arm by its tokens and its right answers on held-out puzzles; nothing before they were measured."""
    rows = {row["name"]: row["value"] for row in (claims.read("kimi-k15") or {"context": ()})["context"]}
    points = {arm: np.array([[rows[of] for of in named(arm)[::-1]]], np.float32) for arm in ARMS.values()
              if set(named(arm)) <= set(rows)}
    return (Chart("scatter", "Right answers and tokens of each arm", "tokens of an answer", "right answers (%)", points,
                  caption="Up and to the left is better. Measured on 500 held-out puzzles, 8 answers each."),
            ) if points else ()
