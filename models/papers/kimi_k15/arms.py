"""The trained arms, and how those learned that were rewarded."""
from __future__ import annotations

import numpy as np

from models.checkpoints.store import shipped
from models.trace import Chart

SFT, RL = "target-sft-1", "target-rl-1"
ARMS = {RL: "mirror descent", "target-rl-short-1": "with the length bonus", SFT: "before, fine-tuned",
        "target-reinforce-1": "REINFORCE", "target-rest-1": "ReST",
        "target-averaged-1": "averaged weights", "target-sft-short-1": "fine-tuned, short"}


def learned() -> tuple[Chart, ...]:
    """Right answers over tokens along the trainings, six points each; nothing where no card tells of one."""
    cards = shipped()
    curves = {ARMS[name]: np.array(cards[name]["curve"]) for name in ARMS if "curve" in cards.get(name, {})}
    paths = {arm: np.array([part.mean(0)[::-1] * (1, 100) for part in np.array_split(curve, 6)], np.float32)
             for arm, curve in curves.items()}  # [6, 2], (tokens, right)
    return (Chart("line", "Right answers and tokens while learning", "tokens of an answer", "right answers (%)", paths,
                  caption="Each line is a training, from below left on, five iterations a point: the answers it drew."),
            ) if paths else ()
