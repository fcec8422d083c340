"""What each paper costs: lines, files, and edits by hand elsewhere. Reads the sources and imports none of them.

python tools/paper_cost.py        one line per paper and their median, then baselines, then what several share, per room

Counted: all Python of models/papers/<id>/ and tests/papers/test_<id>*.py. A file elsewhere that only one paper or
baseline uses counts to it, and so does what only such files use. Edits by hand: files of the application elsewhere
that name the paper, its folder or its networks. Of it alone: files of shared rooms, such as a world or a lens, that
have no second user yet. --why lists them.
"""
from __future__ import annotations

import ast
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("models", "training", "kernels", "visualizers", "benchmarks", "tests")
HOMES = ("papers", "baselines")  # of models: folders that are users by themselves
NAMED_IN = ("models/**/*.py", "training/**/*.py", "visualizers/**/*.py", "visualizers/**/*.js", "tools/*.py", "app.py",
            "Spacefile", "assets/lessons.json", "tests/tiny.py", "tests/conftest.py")  # where an edit may be needed
DOTTED = re.compile(r"(models|training|kernels|visualizers|tests)(\.\w+)+")


@dataclass
class PaperCost:
    """What counts to one paper, baseline or room: paths and their lines; elsewhere: files that name it."""

    lines: dict[str, int] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.lines.values())

    def alone(self, home: str) -> int:
        """Lines in shared rooms, used by nobody else so far."""
        return sum(count for path, count in self.lines.items()
                   if not path.startswith((f"models/{home}/", f"tests/{home.split('/')[0]}/")))


class Tree:
    """The sources below a root: their lines, who imports whom, and to whom each file counts."""

    def __init__(self, root: Path = ROOT):
        self.root = root
        paths = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
        self.text = {str(path.relative_to(root)): path.read_text("utf-8") for path in paths}
        self.modules = {module_of(path): path for path in self.text}

    @cached_property
    def users(self) -> Mapping[str, set[str]]:
        """path -> paths of the files that import it, or name it as a dotted string."""
        found = defaultdict(set)
        for path, text in self.text.items():
            for module in named_modules(text, module_of(path)):
                for used in self.reached(module):
                    if used != path:
                        found[used].add(path)
        return found

    def reached(self, module: str) -> Iterator[str]:
        """The file of a dotted name: the module itself, or the one that holds this name."""
        while module:
            if module in self.modules:
                yield self.modules[module]
                return
            module = module.rpartition(".")[0]

    def homes(self, kind: str) -> list[str]:
        """("papers/var", ...) of one kind."""
        return sorted({"/".join(Path(path).parts[1:3]) for path in self.text
                       if path.startswith(f"models/{kind}/") and len(Path(path).parts) > 3})

    @cached_property
    def owners(self) -> Mapping[str, str]:
        """path -> the paper or baseline to which it counts. Left out is what several use, and what starts by itself:
        tests of a room, and trunks, which papers share by the names of their checkpoints."""
        found = {path: home for path in self.text if (home := self.home(path))}
        grown = True
        while grown:
            grown = False
            for path in self.text:
                users = [user for user in self.users.get(path, ()) if path.startswith("tests/")
                         or not user.startswith("tests/")]  # being tested is no use
                whose = {found.get(user) for user in users}
                alone = path.startswith("training/trunks/") or path.endswith("__init__.py")
                if path not in found and len(whose) == 1 and None not in whose and not alone:
                    found[path], grown = whose.pop(), True
        return found

    def home(self, path: str) -> str | None:
        """The folder or the test by whose name a file is a paper's or a baseline's."""
        parts = Path(path).parts
        if parts[0] == "models" and len(parts) > 3 and parts[1] in HOMES:
            return f"{parts[1]}/{parts[2]}"
        if parts[0] == "tests" and len(parts) == 3 and parts[1] in HOMES:
            fit = [home for home in self.homes(parts[1])
                   if f"{Path(path).stem}_".startswith(f"test_{home.split('/')[1]}_")]
            return max(fit, key=len, default=None)
        return None

    def cost(self, home: str) -> PaperCost:
        """What a paper or baseline costs."""
        own = {path: lines(self.text[path]) for path, owner in self.owners.items() if owner == home}
        return PaperCost(own, sorted(self.elsewhere(home, own)))

    def elsewhere(self, home: str, own: Iterable[str]) -> Iterator[str]:
        """Files of the application outside what counts to it that name it, its folder or its networks."""
        id = home.split("/")[1]
        start = self.text.get(f"models/{home}/__init__.py", "")
        names = [re.escape(f"models.{home.replace('/', '.')}."), f"[\"']{re.escape(id.replace('_', '-'))}[\"']",
                 *(rf"\b{name}\b" for name in networks(start))]
        pattern = re.compile("|".join(names))
        for path in sorted({path for glob in NAMED_IN for path in self.root.glob(glob)}):
            name = str(path.relative_to(self.root))
            if name not in own and not name.startswith(f"models/{home}/") and pattern.search(path.read_text("utf-8")):
                yield name

    @cached_property
    def shared(self) -> Mapping[str, PaperCost]:
        """Room -> what several use there."""
        found: dict[str, PaperCost] = defaultdict(PaperCost)
        for path, text in self.text.items():
            if path not in self.owners:
                parts = Path(path).parts
                found["/".join(parts[: 2 if len(parts) > 2 else 1])].lines[path] = lines(text)
        return found


def module_of(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def lines(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n") and bool(text))


def named_modules(text: str, module: str) -> set[str]:
    """Dotted names in all imports of a source, also inside functions, and in its strings that are dotted names."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            found.add(node.value)
    return found


def networks(text: str) -> list[str]:
    """Class names that a folder declares: the keys of its NETWORKS."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "NETWORKS":
            return [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
    return []


def report(tree: Tree) -> str:
    """The three tables as text."""
    papers = {home: tree.cost(home) for home in tree.homes("papers")}
    out = [f"{'paper':22} {'lines':>6} {'of it tests':>12} {'of it alone':>12} {'files':>6} {'by hand elsewhere':>18}"]
    for home, cost in sorted(papers.items(), key=lambda item: item[1].total):
        tests = sum(count for path, count in cost.lines.items() if path.startswith("tests/"))
        names = ", ".join(cost.elsewhere)
        out.append(f"{home.split('/')[1]:22} {cost.total:6,} {tests:12,} {cost.alone(home):12,} {len(cost.lines):6} "
                   f"{len(cost.elsewhere):5}  {names}")
    if papers:
        out.append(f"{'median':22} {statistics.median(cost.total for cost in papers.values()):6,.0f}")
    out += ["", f"{'baseline':22} {'lines':>6} {'':12} {'files':>6}"]
    costs = {home: tree.cost(home) for home in tree.homes("baselines")}
    out += [f"{home.split('/')[1]:22} {cost.total:6,} {'':12} {len(cost.lines):6}" for home, cost in costs.items()]
    out += ["", f"{'shared, per room':22} {'lines':>6} {'':12} {'files':>6}"]
    out += [f"{room:22} {cost.total:6,} {'':12} {len(cost.lines):6}" for room, cost in sorted(tree.shared.items())]
    return "\n".join(out)


def single(tree: Tree) -> str:
    """Files elsewhere that count to one paper or baseline."""
    rows = [(owner, path) for path, owner in tree.owners.items() if f"models/{owner}/" not in path]
    return "\n".join(f"{owner:26} {path}" for owner, path in sorted(rows))


if __name__ == "__main__":
    print(single(Tree()) if "--why" in sys.argv[1:] else report(Tree()))
