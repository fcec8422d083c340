"""Lints the page's scripts as the browser gets them: the player's files as one script, every other file on its own.

python -m tools.lint_js        exit 1 if anything is found. oxlint comes from PyPI with its binary; no node is needed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from visualizers.player import player

ROOT = Path(__file__).resolve().parent.parent
GIVEN = "const THEME = {}, PLOT_CSS = '';"  # what player.script() puts before its files
MOUNT = "mountInGradio(element, props, trigger, watch);"  # and what Gradio runs after them
LONGEST = 120


def scripts(root: Path = ROOT / "visualizers") -> list[list[Path]]:
    """The files of each script of the page, in their order."""
    joined = [Path(player.FOLDER) / name for name in player.SCRIPTS]
    return [joined, *([path] for path in sorted(root.rglob("*.js")) if path not in joined)]


def oxlint() -> str | None:
    beside = Path(sys.executable).parent / "oxlint"
    return str(beside) if beside.exists() else shutil.which("oxlint")


def findings(files: Sequence[Path]) -> list[str]:
    """What oxlint and the length rule say about one script, by file and line."""
    lines = [(path, number, line) for path in files
             for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)]
    long = [f"{path.name}:{number}: {len(line)} characters" for path, number, line in lines if len(line) > LONGEST]
    before, after = (GIVEN, MOUNT) if len(files) > 1 else ("", "")
    text = "\n".join([before, *(line for _, _, line in lines), after])
    return long + [f"{_place(lines, line)}: {message}" for line, message in diagnosed(text)]


def _place(lines: list[tuple[Path, int, str]], line: int) -> str:
    """Where a line of the joined script stands; its first line is ours."""
    path, number, _ = lines[min(max(line - 2, 0), len(lines) - 1)]
    return f"{path.name}:{number}"


def diagnosed(text: str) -> list[tuple[int, str]]:
    """Line and message of everything that oxlint finds in a script."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.js"
        script.write_text(text, "utf-8")
        command = [str(oxlint()), "-c", str(ROOT / ".oxlintrc.json"), "--format=json", str(script)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        found = json.loads(said.stdout or said.stderr)
    return [(item["labels"][0]["span"]["line"] if item["labels"] else 1, f"{item['message']} ({item['code']})")
            for item in found["diagnostics"]]


def main() -> int:
    if oxlint() is None:
        print("JavaScript is not linted here: oxlint is not installed (pip install -r requirements-dev.txt).")
        return 0
    found = [line for files in scripts() for line in findings(files)]
    print("\n".join(found) or "JavaScript: nothing found.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
