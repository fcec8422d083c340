"""The one-way flow between the rooms, read from the imports, and the rules that keep a paper in its file."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.contract.sources import imported

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("models", "visualizers", "kernels", "training", "benchmarks")
OFTEN = {"Params"}  # every method has its own
FORBIDDEN = {
    "models": {"gradio", "plotly", "matplotlib", "visualizers", "app"},
    "visualizers": {"torch", "transformers", "diffusers", "kernels", "app"},
    "kernels": {"models", "visualizers", "gradio", "plotly", "matplotlib", "app"},
    "training": {"gradio", "plotly", "visualizers", "app"},
}


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_what_it_may(room):
    allowed_here = {ROOT / "models" / "__main__.py"}  # the command line puts rooms together, as app.py does
    for path in files(room):
        if path not in allowed_here:
            broken = imported(path.read_text("utf-8")) & FORBIDDEN[room]
            assert not broken, f"{path.relative_to(ROOT)} imports {sorted(broken)}"


def test_the_import_rule_sees_a_hidden_import():
    assert imported("def f():\n    from plotly.graph_objects import Figure\n") == {"plotly"}


def test_the_trace_needs_numpy_only():
    for path in files("models/trace"):
        outside = imported(path.read_text("utf-8")) - set(sys.stdlib_module_names)
        pictures = {"PIL"} if path.stem in ("subject", "photo", "normalise") else set()  # what reads those
        assert outside <= {"numpy", "models", *pictures}


# ---- modules of the project, and what each imports, also inside functions

def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def graph() -> dict[str, set[str]]:
    """module -> modules of the project that it imports."""
    known = {name_of(path): path for room in ROOMS for path in files(room)}
    return {name: targets(path.read_text("utf-8"), known) - {name} for name, path in known.items()}


def targets(source: str, known) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(known)


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or not."""
    reach = {start: reachable(edges, start) for start in edges}
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in edges if a in reach[a]}
    return sorted(map(sorted, groups))


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    found, open_now = set(), [start]
    while open_now:
        new = edges.get(open_now.pop(), set()) - found
        found |= new
        open_now += new
    return found


def test_no_module_imports_itself_by_a_detour():
    assert circles(graph()) == []


def test_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def folder_of(name: str) -> str:
    """The paper or baseline that a module belongs to: "papers.enat"; "" for all others."""
    parts = name.split(".")
    return ".".join(parts[1:3]) if len(parts) > 2 and parts[1] in ("papers", "baselines") else ""


def strangers(edges: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports of a paper by another paper, by a baseline or by anything shared."""
    return [(name, other) for name, found in edges.items() for other in found
            if folder_of(other).startswith("papers.") and folder_of(name) != folder_of(other)]


def test_nobody_imports_a_paper():
    assert strangers(graph()) == []


def test_a_paper_that_imports_a_paper_is_seen():
    broken = {"models.papers.a.method": {"models.papers.b.method", "models.papers.a.record", "models.loops.mask.loop"},
              "models.baselines.c.method": {"models.papers.a.method"}, "models.loops.mask.loop": {"models.papers.a"}}
    assert len(strangers(broken)) == 3


def test_loops_backbones_and_labs_know_no_baseline_either():
    """But the labs, which measure the baselines that papers stand beside."""
    for name, found in graph().items():
        if name.startswith(("models.loops.", "models.backbones.", "models.engine.", "models.trace.")):
            assert not [other for other in found if folder_of(other)], name


def test_only_recipes_import_training():
    for name, found in graph().items():
        if name.startswith(("models.", "visualizers.", "kernels.")) and not name.endswith(".recipe"):
            assert not [other for other in found if other.startswith("training")], name


def test_the_page_reads_neither_claims_code_nor_recipes():
    for name, found in graph().items():
        if name.startswith(("visualizers", "models.serving", "models.engine", "models.loops")):
            assert not [other for other in found if re.search(r"[.]recipe$|[.](control_)?claim(_\w+)?$", other)], name
            assert not [other for other in found if other.startswith("models.claims.")], name


def test_nothing_in_models_imports_the_command_line():
    assert not [name for name, found in graph().items() if "models.__main__" in found]


def test_loaders_list_is_what_the_folders_declare():
    from models.checkpoints import registry
    assert sorted(registry.declared()) == sorted(registry.PAPER_NETWORKS)
    assert not set(registry.PAPER_NETWORKS) & set(registry.READERS)


def test_no_class_name_is_used_twice():
    """Params, which every method has, and the classes of tests apart."""
    where: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in files(room):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    where.setdefault(node.name, []).append(name_of(path))
    twice = {name: places for name, places in where.items() if len(places) > 1 and name not in OFTEN}
    assert not twice, twice


def test_loops_and_visualizers_name_no_method():
    from models.engine import atlas
    ids = set(atlas()) | {id.replace("-", "_") for id in atlas()}
    for path in files("models/loops") + files("visualizers") + files("kernels"):
        compared = re.findall(r"""(?:==|!=|\bin\b)\s*\(?["']([\w-]+)["']""", path.read_text("utf-8"))
        assert not ids.intersection(compared) - {"attention"}, f"{path.relative_to(ROOT)} asks which method it serves"


def test_nobody_writes_a_second_attention():
    for path in files("models") + files("training"):
        names = {n.name for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ClassDef)}
        assert not {n for n in names if n.endswith("Attention")}, f"{path.relative_to(ROOT)} defines an Attention"


def test_nothing_unsafe_is_called():
    pattern = re.compile(r"trust_remote_code=True|pickle\.load|torch\.load\((?!.*weights_only=True)|\beval\(|\bexec\(")
    for room in ("models", "visualizers", "kernels", "benchmarks"):
        for path in files(room):
            source = re.sub(r"\.eval\(\)", "", path.read_text("utf-8"))
            assert not pattern.search(source), f"{path.relative_to(ROOT)} calls something unsafe"


def test_listing_methods_loads_no_model_library():
    """The page must open before transformers, diffusers and captum are read from disk."""
    code = ("import sys; from models.engine.method import atlas; atlas(); "
            "print(sorted({'transformers', 'diffusers', 'captum', 'gradio'} & set(sys.modules)))")
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
