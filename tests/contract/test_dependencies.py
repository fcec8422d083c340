"""Every dependency earns its place, and what CI installed is pinned: requirements, constraints and imports agree."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

from tests.contract.sources import imported

ROOT = Path(__file__).parent.parent.parent
FILES = ("requirements.txt", "requirements-mcp.txt", "requirements-ray.txt", "requirements-dev.txt")
PIN = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*")
TOOLS = {"ruff", "mypy", "oxlint", "pytest-xdist"}  # run, never imported
# Imported, yet left to the package that is built on it, so that one version serves both.
COMES_WITH = {"starlette": "gradio", "gradio-client": "gradio", "httpx": "gradio", "packaging": "huggingface-hub"}
ELSEWHERE = {"spaces", "gguf"}  # a Space has the one; tools/public_weights.py puts the other into a cache
UNPINNED = {"triton"}  # a CUDA build of torch names its own


def lines(name: str) -> list[str]:
    stripped = (line.split("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    return [line for line in stripped if line]


def required(*names: str) -> dict[str, Requirement]:
    found = [Requirement(line) for name in names for line in lines(name) if not line.startswith("-r")]
    return {canonical(need.name): need for need in found}


def pinned() -> dict[str, str]:
    return {canonical(name): version for name, version in (line.split("==") for line in lines("constraints.txt"))}


def tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in names.splitlines() if (ROOT / name).is_file()]


def outside(files: list[Path]) -> set[str]:
    """Distributions behind the imports of these files that are neither Python's nor ours."""
    ours = {path.name.removesuffix(".py") for path in ROOT.iterdir()} | set(sys.stdlib_module_names) | ELSEWHERE
    names = set().union(*(imported(path.read_text("utf-8")) for path in files)) - ours
    owners = packages_distributions()
    return {canonical(owners.get(name, [name])[0]) for name in names}


def closure(needs: list[Requirement]) -> set[str]:
    """These distributions and all that they need here, as far as it is installed."""
    seen, open_ = set(), [(canonical(need.name), frozenset(need.extras)) for need in needs]
    while open_:
        name, extras = open_.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            further = map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:
            continue
        for need in further:
            wanted = need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras or {""})
            if wanted:
                open_.append((canonical(need.name), frozenset(need.extras)))
    return {name for name, _ in seen}


def test_constraints_are_exact_and_name_no_place():
    """Mutants: a range, a path of one machine, an index, a local build such as +cpu."""
    for line in lines("constraints.txt"):
        assert PIN.fullmatch(line), line
    for wrong in ("torch>=2.8", "torch @ file:///wheels/torch.whl", "--index-url=somewhere", "torch==2.13.0+cpu"):
        assert not PIN.fullmatch(wrong)


def test_requirements_and_constraints_agree():
    pins = pinned()
    for name, need in required(*FILES).items():
        if name not in UNPINNED:
            assert name in pins, f"constraints.txt does not pin {name}"
            assert pins[name] in need.specifier, f"{need} and constraints.txt's {pins[name]} do not agree"


def test_constraints_pin_whatever_comes_along():
    """Mutant: only the names in requirements.txt are pinned."""
    everything = closure(list(required(*FILES).values()))
    installed = {name for name in everything if _installed(name)}
    assert len(installed) > 60 and not installed - set(pinned()) - UNPINNED


def _installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False


def test_the_makefile_installs_what_the_constraints_say():
    made = (ROOT / "Makefile").read_text("utf-8")
    installs = re.findall(r"pip install .*", made)
    assert len(installs) >= 4 and all("-c $(CONSTRAINTS)" in line for line in installs)
    assert f"TORCH ?= torch=={pinned()['torch']}" in made


def test_every_requirement_is_used():
    """Mutant: pydantic, pinned for a year and never imported."""
    used = outside(tracked())
    assert not set(required(*FILES)) - used - TOOLS
    assert {"torch", "captum", "safetensors"} <= used and "pydantic" not in used


def test_whatever_is_imported_is_required():
    assert not outside(tracked()) - set(required(*FILES)) - set(COMES_WITH)
    app = [path for path in tracked() if path.parts[len(ROOT.parts)] in ("app.py", "models", "visualizers", "kernels")]
    known = set(required(*FILES[:3])) | set(COMES_WITH) | {"pyarrow", "triton"}
    assert not outside(app) - known, "requirements.txt must name it"


@pytest.mark.parametrize("name", COMES_WITH)
def test_what_comes_along_does_come(name):
    assert name in closure([Requirement(COMES_WITH[name])])


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_says_why(name):
    """A comment stands in the line before it; the tools of `make lint` share one."""
    above = ""
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if line and not line.startswith(("#", "-r")):
            assert above.startswith("#") or canonical(Requirement(line).name) in TOOLS, f"{name}: {line}"
        above = line
