"""A scaffolded paper passes the contract as it is, and nobody can take it for a finished one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.engine.method import atlas, home, offered
from tools import new_paper

ROOT = Path(__file__).parent.parent.parent
COPIED = ("models", "kernels", "visualizers", "training", "tools", "tests", "app.py", "pyproject.toml", "Spacefile",
          "requirements.txt", "benchmarks")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project without its weights and records, in which papers can be scaffolded."""
    root = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source = ROOT / name
        shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__")) if source.is_dir() \
            else shutil.copy(source, root / name)
    (root / "assets").mkdir()
    for place in (ROOT / "assets").iterdir():
        (root / "assets" / place.name).symlink_to(place)
    return root


def free_slugs() -> dict[str, str]:
    """First tab -> a paper that is not there yet."""
    facts = json.loads((ROOT / "assets/papers.json").read_text("utf-8"))
    return {fact["tabs"][0]: fact["slug"] for fact in reversed(facts) if fact["slug"] not in atlas()}


def test_a_scaffold_of_each_tab_passes_the_contract_and_is_not_offered(copy):
    slugs = free_slugs()
    for slug in slugs.values():
        assert new_paper.scaffold(slug, copy, recipe=True)
    only = " or ".join(f"{form}" for slug in slugs.values() for form in (f"[{slug}]", f"-{slug}]", f"[{slug}-"))
    files = [f"tests/papers/test_{slug.replace('-', '_')}.py" for slug in slugs.values()]
    stems = " or ".join(Path(file).stem for file in files)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract/test_methods.py",
         "tests/contract/test_rooms.py", "tests/contract/test_lengths.py", *files,
         "-k", f"{only} or {stems} or test_rooms or test_lengths"],
        cwd=copy, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    style = subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "models/papers", "tests/papers"], cwd=copy,
                           capture_output=True, text=True, check=False)
    assert style.returncode == 0, style.stdout[-3000:]
    claim = subprocess.run([sys.executable, "-m", "models", "claims", next(iter(slugs.values())), "--quick"], cwd=copy,
                           capture_output=True, text=True, check=False)
    assert claim.returncode == 2 and "not written yet" in claim.stderr


def test_nothing_is_written_over(copy):
    for slug in ("hpm", "no-such-paper"):
        with pytest.raises(new_paper.PaperError, match="already|has no"):
            new_paper.scaffold(slug, copy)


def scaffolds(methods) -> set[str]:
    """Those in whose folder a placeholder is left: the run, or a sentence that says so."""
    folders = {id: Path(sys.modules[home(id)].__file__).parent for id in methods}
    return {id for id, folder in folders.items() if any(
        re.search(r"engine\.scaffold|\b[Aa] scaffold\b", path.read_text("utf-8")) for path in folder.glob("*.py"))}


def test_no_scaffold_is_offered():
    """Mutant: weights that were trained before the rule was written."""
    assert not scaffolds(offered())
    for template in (new_paper.METHOD, new_paper.NETWORK, new_paper.CLAIM, new_paper.RECIPE):
        assert re.search(r"engine\.scaffold|\b[Aa] scaffold\b", template.template)
