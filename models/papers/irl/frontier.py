"""Quality and diversity of every arm over temperatures, as its claim measured them, and what is equal quality."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models import claims
from models.trace import Chart, Fact

IRL, MLE = "tale-irl-high-1", "tale-words-mle-1"
ARMS = {IRL: "lambda 0.3", "tale-irl-low-1": "lambda 0.03", MLE: "maximum likelihood",
        "tale-words-entropy-1": "entropy bonus", "tale-words-smoothed-1": "label smoothing"}
TEMPERATURES = (0.2, 0.4, 0.7, 1.0, 1.3)
EQUAL = TEMPERATURES.index(0.7)  # equal quality: that of maximum likelihood at this temperature


def at_quality(wanted: float, quality: Sequence[float], diversity: Sequence[float]) -> float:
    """The diversity of an arm where its quality is `wanted`, between the two temperatures around it; both run from the
    coldest temperature to the hottest.

    Where even the hottest is better than wanted, its diversity, which is too little; 0 where no temperature is as good.
    """
    rising = np.maximum.accumulate(np.asarray(quality, float)[::-1])
    return float(np.interp(wanted, rising, np.asarray(diversity, float)[::-1], right=0.0))


def named(arm: str, temperature: float) -> tuple[str, str]:
    """How the rows of the claim are called."""
    return tuple(f"{what}, {arm}, temperature {temperature:g}" for what in ("right answers", "diversity"))


def frontier(facts: Mapping[str, Fact]) -> tuple[Chart, ...]:
    """The measured frontiers with this run among them; nothing before they were measured."""
    rows = {row["name"]: row["value"] for row in (claims.read("irl") or {"context": ()})["context"]}
    lines = {arm: np.array([[rows[name] for name in named(arm, t)] for t in TEMPERATURES], np.float32)
             for arm in ARMS.values() if named(arm, 0.2)[0] in rows}
    here = np.array([[facts["right"].value, facts["varied"].value]], np.float32)
    return (Chart("scatter", "Quality and diversity, 0.2 (right) to 1.3 (left)", "right answers (%)",
                  "diversity (points of 100)", {"this run, one task": here, **lines},
                  caption="Up and to the right is better. Measured on 100 held-out tasks at five temperatures."),
            ) if lines else ()
