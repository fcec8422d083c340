"""make paper ID=SLUG: one paper's contract, traps, quick claim and trace in one go, and what is still missing.

Exit 1 if something fails. What is not there yet (weights, claim, record) is listed at the end and fails nothing, so
that a paper can be checked from its first minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

QUIET = {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def tests(id: str) -> list[str]:
    """The files of the paper's own tests."""
    found = sorted((ROOT / "tests/papers").glob(f"test_{id.replace('-', '_')}*.py"))
    others = [path.name for path in (ROOT / "models/papers").iterdir() if path.is_dir()]
    longer = [o for o in others if o.startswith(f"{id.replace('-', '_')}_")]  # "var" must not run var_x's
    return [str(path) for path in found if not any(path.stem.startswith(f"test_{other}") for other in longer)]


def ran(title: str, command: Sequence[str]) -> bool:
    """Runs a step and says how it went; its output only if it failed."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=os.environ | QUIET, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()] or [""]
    said = next((line for line in reversed(lines) if " passed" in line or " failed" in line), lines[-1])
    print(f"{title:6} {'ok' if done.returncode == 0 else 'FAILED'}, {time.perf_counter() - began:.0f} s: {said}",
          flush=True)
    if done.returncode:
        print(done.stdout[-6000:] + done.stderr[-3000:])
    return done.returncode == 0


def suite(id: str) -> list[str]:
    """The contract's tests of this paper, its own traps and the rules of the house, in one process."""
    own = tests(id)
    rules = ["tests/contract/test_rooms.py", "tests/contract/test_lengths.py"]
    wanted = [f"[{id}]", f"[{id}-", f"-{id}]", *(Path(file).stem for file in (*own, *rules))]
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/contract/test_methods.py",
            "tests/contract/test_recorded_runs.py", *rules, *own, "-k", " or ".join(wanted)]


def missing(id: str) -> list[str]:
    """What a paper needs before it is live, and has not."""
    from models import claims
    from models.engine.method import find, offered
    from models.serving import recorded
    method = find(id)
    scaffold = "engine.scaffold" in (ROOT / f"models/papers/{id.replace('-', '_')}/method.py").read_text("utf-8")
    return [what for what, lacks in (
        ("its rule: method.py is still a scaffold", scaffold),
        (f"weights: python -m training {method.checkpoints[0]}", id not in offered()),
        (f"the claim: python -m models claims {id}", claims.read(id) is None),
        (f"the record: python -m models traces {id}",
         any(not recorded.path(method, tab).is_file() for tab in method.card.tabs))) if lacks]


def main(arguments: Sequence[str]) -> int:
    from models.engine.method import offered
    if len(arguments) != 1 or not (ROOT / "models/papers" / arguments[0].replace("-", "_")).is_dir():
        print("Say which paper: make paper ID=SLUG, a folder of models/papers/.", file=sys.stderr)
        return 2
    id = arguments[0]
    lacks, python = missing(id), [sys.executable, "-m", "models"]
    steps = {"tests": suite(id)}
    with tempfile.TemporaryDirectory() as folder:
        if id in offered():
            steps["claim"] = [*python, "claims", id, "--quick"]
            steps["trace"] = [*python, "run", id, "--out", f"{folder}/trace.json", "--figure", f"{folder}/figure.png"]
        held = [ran(title, command) for title, command in steps.items()]
    print("\n".join(f"not there: {what}" for what in lacks) or f"{id} is live.")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
