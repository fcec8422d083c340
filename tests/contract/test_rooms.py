"""The one-way flow between the rooms, read from the imports, and the rules that keep a paper in its file."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABS = ("mask", "attend", "prune", "unmask", "sample")
FORBIDDEN = {
    "models": {"gradio", "plotly", "matplotlib", "visualizers", "app"},
    "visualizers": {"torch", "transformers", "diffusers", "kernels", "app"},
    "kernels": {"models", "visualizers", "gradio", "plotly", "matplotlib", "app"},
    "training": {"gradio", "plotly", "visualizers", "app"},
}


def imported(source: str) -> set[str]:
    """Top-level names of every import in a source, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


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
    for name in ("trace.py", "trace_json.py"):
        outside = imported((ROOT / "models" / name).read_text("utf-8")) - set(sys.stdlib_module_names)
        assert outside <= {"numpy", "models"}


def test_loops_and_visualizers_name_no_method():
    ids = [p.stem for tab in TABS for p in files(f"models/{tab}") if not p.stem.startswith("_") and p.stem != "loop"]
    ids = {i.removesuffix("_net") for i in ids} | {i.replace("_", "-") for i in ids}
    watched = [ROOT / "models" / tab / "loop.py" for tab in TABS] + files("visualizers") + files("kernels")
    for path in filter(Path.is_file, watched):
        compared = re.findall(r"""(?:==|!=|\bin\b)\s*\(?["']([\w-]+)["']""", path.read_text("utf-8"))
        assert not ids.intersection(compared) - {"attention"}, f"{path.relative_to(ROOT)} asks which method it serves"


def test_nobody_writes_a_second_attention():
    for path in files("models") + files("training"):
        names = {n.name for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ClassDef)}
        assert not {n for n in names if n.endswith("Attention")}, f"{path.relative_to(ROOT)} defines an Attention"


def test_files_stay_readable():
    for room in ("models", "visualizers", "kernels", "training", "benchmarks"):
        for path in files(room):
            lines = len(path.read_text("utf-8").splitlines())
            assert lines <= 420, f"{path.relative_to(ROOT)} has {lines} lines; split it"


def test_nothing_unsafe_is_called():
    pattern = re.compile(r"trust_remote_code=True|pickle\.load|torch\.load\((?!.*weights_only=True)|\beval\(|\bexec\(")
    for room in ("models", "visualizers", "kernels", "benchmarks"):
        for path in files(room):
            source = re.sub(r"\.eval\(\)", "", path.read_text("utf-8"))
            assert not pattern.search(source), f"{path.relative_to(ROOT)} calls something unsafe"


def test_listing_methods_loads_no_model_library():
    """The page must open before transformers, diffusers and captum are read from disk."""
    code = ("import sys; from models.method import atlas; atlas(); "
            "print(sorted({'transformers', 'diffusers', 'captum', 'gradio'} & set(sys.modules)))")
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
