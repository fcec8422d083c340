"""How small a difference the exam for encoders can see: several trainings of one arm that differ in their seed alone.

    python -m training photo-mae-2-more --warm --steps 350 --seed 11 --no-export       # and so for every seed
    python tools/encoder_power.py photo-mae-2-more --seeds 11 12 13 14 15 --data DATA [--runs ../runs]

examines each training's saved state, keeps its marks beside it, and writes assets/encoder_power.json and the table in
docs/encoder_exam.md.

Two trainings that differ in their seed alone differ by sqrt(2) s, s the deviation of their scores; with n seeds s is
known so roughly that 95 of 100 pairs stay within Student's t for n - 1 times that. That is the least difference, or
the half width of the paired interval over items where that is larger.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.claims import Lab  # noqa: E402
from models.claims.encoder_lab import PARTS, POWER, EncoderExam, PhotoEncoder, mae_encoder, untrained  # noqa: E402
from models.engine.statistics import bootstrap  # noqa: E402

STUDENT = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # 97.5 %, by n - 1
PAGE = POWER.parents[1] / "docs" / "encoder_exam.md"
MARKS = "<!-- power -->", "<!-- /power -->"


def power(scores: np.ndarray) -> dict[str, float | int]:
    """Of the scores [T, K, ...] of T trainings. What is several numbers per item counts as their mean."""
    items = scores.reshape(*scores.shape[:2], -1).mean(2)  # [T, K]
    widths = [np.diff(bootstrap(mine - other)[1:])[0] / 2 for mine, other in combinations(items, 2)]
    trainings, among = between(items.mean(1)), float(np.mean(widths))
    return {"items": items.shape[1], "mean": float(items.mean()), "between trainings": trainings,
            "between items": among, "least": max(trainings, among)}


def between(means: np.ndarray) -> float:
    """What 95 of 100 pairs of trainings stay within, from the means [T] of a few."""
    return STUDENT[len(means) - 1] * 2 ** 0.5 * float(means.std(ddof=1))


def trained(name: str, seed: int, runs: Path):
    """The network of a saved state, its average where it keeps one."""
    from training.catalog import recipe
    made = recipe(name)(seed)
    model, state = made.build(), torch.load(runs / f"{name}-seed{seed}.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["ema"] or state["model"])
    return made.final(model).eval(), state["step"]


def marks(exam: EncoderExam, encoder: PhotoEncoder, path: Path) -> dict[str, np.ndarray]:
    """What an encoder scores in every part; parts that this file keeps are not asked again."""
    found = dict(np.load(path)) if path.exists() else {}
    found |= exam.sit(encoder, [part for part in PARTS if part not in found])
    np.savez(path, **found)
    return found


def measured(name: str, seeds: Sequence[int], lab: Lab, runs: Path) -> dict:
    exam, found, steps = EncoderExam(lab), [], 0
    for seed in seeds:
        model, steps = trained(name, seed, runs)
        found.append(marks(exam, mae_encoder(model), runs / f"{name}-seed{seed}-exam.npz"))
        print(seed, {part: round(float(np.mean(one)), 3) for part, one in found[-1].items()}, flush=True)
    floor = marks(exam, mae_encoder(untrained(model)), runs / f"{name}-untrained-exam.npz")
    parts = {part: power(np.stack([one[part] for one in found])) | {"untrained": float(floor[part].mean())}
             for part in PARTS}
    return {"arm": name, "steps": steps, "seeds": list(seeds), "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "parts": {part: {key: round(value, 4) for key, value in one.items()} for part, one in parts.items()}}


def table(found: Mapping) -> str:
    """The page's table."""
    rows = ["| part | unit | items | an untrained network | these trainings | between trainings | between items | "
            "least difference |", "|---|---|---|---|---|---|---|---|"]
    for part, one in found["parts"].items():
        numbers = (f"{one[key]:.3g}" for key in ("untrained", "mean", "between trainings", "between items", "least"))
        rows.append(f"| `{part}`: {PARTS[part].name} | {PARTS[part].unit} | {one['items']:,} | {' | '.join(numbers)} |")
    told = (f"Measured {found['date']} on {len(found['seeds'])} trainings of `{found['arm']}`, {found['steps']} steps "
            "each.")
    return "\n".join((told, "", *rows))


def written(page: str, found: Mapping) -> str:
    """The page with its table of now."""
    before, _, rest = page.partition(MARKS[0])
    return f"{before}{MARKS[0]}\n{table(found)}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("../runs"))
    args = parser.parse_args()
    found = measured(args.name, args.seeds, Lab(data=args.data), args.runs)
    POWER.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    PAGE.write_text(written(PAGE.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main()
