"""What a source imports, for the rules about imports."""

import ast
import re


def imported(source: str) -> set[str]:
    """Top-level names of every import, also inside functions, and by name (importorskip, import_module)."""
    found = set(re.findall(r"""(?:importorskip|import_module)\(\s*["'](\w+)""", source))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
