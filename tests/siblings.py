"""Writes into the entry files what they import: `python -m tests.siblings`, after a file of `modeling/` came or went.

Up to 5.9 transformers' loader copies what the entry file itself imports, and finds that by reading its text. So each
`modeling/modeling_*_ext.py` has one line for every file that it needs, directly or through another.
"""

from __future__ import annotations

import ast
from pathlib import Path

MODELING = Path(__file__).parent.parent / "modeling"
COMMAND = "python -m tests.siblings"


def entries() -> list[Path]:
    """The files that a checkpoint's `auto_map` may point into."""
    return sorted(MODELING.glob("modeling_*_ext.py"))


def imported(path: Path) -> dict[str, ast.ImportFrom]:
    """A file's imports of siblings, by module."""
    nodes = ast.parse(path.read_text()).body
    return {str(node.module): node for node in nodes if isinstance(node, ast.ImportFrom) and node.level}


def needed(entry: Path) -> list[str]:
    """The modules that an entry file uses, and all that they import; sorted."""
    names = {node.id for node in ast.walk(ast.parse(entry.read_text())) if isinstance(node, ast.Name)}
    pending = [module for module, node in imported(entry).items() if names & {alias.name for alias in node.names}]
    found: set[str] = set()
    while pending:
        module = pending.pop()
        path = MODELING / f"{module}.py"
        if module not in found and path.is_file():
            found.add(module)
            pending += imported(path)
    return sorted(found)


def rewritten(entry: Path) -> str:
    """An entry file's text with one line for each module that it needs; lines that it has stay as they are."""
    lines, nodes = entry.read_text().splitlines(keepends=True), imported(entry)
    present = {module: "".join(lines[node.lineno - 1 : node.end_lineno]) for module, node in nodes.items()}
    block = [present.get(module) or _line(module) for module in needed(entry)]
    first = min(node.lineno for node in nodes.values()) - 1
    last = max(node.end_lineno or 0 for node in nodes.values())
    return "".join([*lines[:first], *block, *lines[last:]])


def _line(module: str) -> str:
    """An import of a file's first public class or function: the loader asks for no more."""
    body = ast.parse((MODELING / f"{module}.py").read_text()).body
    names = [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return f"from .{module} import {next(name for name in names if not name.startswith('_'))}  # noqa: F401\n"


def main() -> None:
    """Rewrite the entry files that need it, and name them."""
    for entry in entries():
        text = rewritten(entry)
        if text != entry.read_text():
            entry.write_text(text)
            print(f"rewrote {entry.relative_to(MODELING.parent)}")


if __name__ == "__main__":
    main()
