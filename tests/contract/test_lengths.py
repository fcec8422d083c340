"""No file grows past what one can read in a sitting; the few that may are named with their reason."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CODE = ("app.py", "models", "visualizers", "kernels", "training", "benchmarks", "tools")
LONGEST = {"code": 300, "tests": 450, "js": 400}
# What is longer, up to which line, and why it is not split.
LONGER = {
    "models/checkpoints/registry.py": (360, "what may be loaded: a list by hand, one line a network of a paper"),
    "models/trace/records.py": (450, "the contract: every record with its checks, read side by side"),
    "models/engine/method.py": (375, "Card, Method, Job and how a run is followed: one declaration and its reader"),
    "visualizers/export/figure.py": (375, "the Matplotlib painter, mark by mark as the browser's"),
    "visualizers/page/tab_handlers.py": (360, "the events of one tab, which share its components"),
}


def lengths() -> dict[str, tuple[str, int]]:
    """path -> kind and lines, of every file of ours."""
    code = [path for room in CODE for path in ([ROOT / room] if room.endswith(".py") else (ROOT / room).rglob("*.py"))]
    found = {path: "code" for path in code}
    found |= {path: "tests" for path in (ROOT / "tests").rglob("*.py")}
    found |= {path: "js" for path in (ROOT / "visualizers").rglob("*.js")}
    return {path.relative_to(ROOT).as_posix(): (kind, len(path.read_text("utf-8").splitlines()))
            for path, kind in found.items()}


def too_long(found: dict[str, tuple[str, int]], longer: dict[str, tuple[int, str]]) -> list[str]:
    return [f"{name}: {lines} lines; split it by topic" for name, (kind, lines) in sorted(found.items())
            if lines > longer.get(name, (LONGEST[kind],))[0]]


def test_files_stay_readable():
    assert not too_long(lengths(), LONGER)


@pytest.mark.parametrize("name", LONGER)
def test_an_exception_is_still_one_and_says_why(name):
    """Mutant: an exception kept for a file that has long been split."""
    kind, lines = lengths()[name]
    assert LONGEST[kind] < lines and len(LONGER[name][1].split()) > 4


def test_a_long_file_is_seen_in_every_language():
    found = {"a.py": ("code", 301), "tests/b.py": ("tests", 451), "c.js": ("js", 401), "d.py": ("code", 300)}
    assert len(too_long(found, {})) == 3 and not too_long(found, {name: (451, "") for name in found})
