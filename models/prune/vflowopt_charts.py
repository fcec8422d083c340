"""The recorded search of VFlowOpt's knobs as charts."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.trace import Chart


def search_charts(settings: Mapping[str, dict], kept: float, names: Sequence[str]) -> tuple[Chart, ...]:
    """The search for the nearest recorded budget: every evaluation, the best so far, and each knob against the score;
    none without a record. A trace entry is [knobs..., score]."""
    if not settings:
        return ()
    percent = min(settings, key=lambda text: abs(np.log(int(text) / 100 / kept)))
    found = settings[percent]
    tried = np.array(found["trace"], np.float32)  # [E, knobs + 1]
    score, at = tried[:, -1], np.arange(1, len(tried) + 1)
    valid = np.where(score > 0, score, np.nan)  # settings that overspend count 0
    best = np.fmax.accumulate(valid)
    scaled = (tried[:, :-1] - tried[:, :-1].min(0)) / np.maximum(np.ptp(tried[:, :-1], axis=0), 1e-9)
    return (
        Chart("line", f"The search for {percent} %", "evaluation", "mean cosine with the full model",
              {"tried": np.stack([at, valid], 1), "best so far": np.stack([at, best], 1)},
              caption=f"The first {found['initial']} are random, the others proposed by a Gaussian process, over "
                      f"{found['scenes']} calibration scenes."),
        Chart("scatter", "Which knob moved the score", "knob, from its least to its greatest value tried",
              "mean cosine with the full model",
              {name: np.stack([scaled[:, i], valid], 1)[score > 0] for i, name in enumerate(names)},
              caption="Each evaluation once for every knob."))
