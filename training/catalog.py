"""Which recipes there are: every class with a `name` in training/trunks/ and in the papers' recipe.py, found by
scanning.

The names are read from the source, so that listing them imports nothing.
"""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@cache
def declared() -> dict[str, tuple[str, str]]:
    """checkpoint name -> (module, class)."""
    files = [*(ROOT / "training" / "trunks").glob("*.py"), *(ROOT / "models" / "papers").glob("*/recipe.py")]
    found = {}
    for file in sorted(files):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for name, kind in classes(file.read_text("utf-8")):
            if name in found:
                raise RuntimeError(f"two recipes are called {name}: {found[name]} and {(module, kind)}")
            found[name] = (module, kind)
    return found


def classes(source: str) -> list[tuple[str, str]]:
    """(checkpoint, class) of every class whose body says name = "..."."""
    found = []
    for node in ast.parse(source).body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.Assign) and (name := named(item)):
                found.append((name, node.name))
    return found


def named(item: ast.Assign) -> str:
    """What an assignment gives to `name`: name = "x", or name, minutes = "x", 3."""
    pairs = zip(item.targets[0].elts, item.value.elts) if isinstance(item.targets[0], ast.Tuple) and isinstance(
        item.value, ast.Tuple) else [(item.targets[0], item.value)]
    return next((value.value for target, value in pairs if isinstance(target, ast.Name) and target.id == "name"
                 and isinstance(value, ast.Constant)), "")


def names() -> tuple[str, ...]:
    """Every checkpoint that has a recipe."""
    return tuple(sorted(declared()))


def recipe(name: str) -> type:
    """The recipe class of a checkpoint's name; ValueError lists the names there are."""
    if name not in declared():
        raise ValueError(f'no recipe "{name}": choose one of {", ".join(names())}')
    module, kind = declared()[name]
    return getattr(importlib.import_module(module), kind)
