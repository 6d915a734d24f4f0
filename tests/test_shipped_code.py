"""The rules that transformers' loader sets for code in a checkpoint, held on every file that is shipped."""

import ast
import re
import sys
from pathlib import Path

import pytest

import ropext.modeling

FOLDER = Path(ropext.modeling.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")
ENTRIES = [path for path in FILES if path.stem.startswith("modeling_")]
ALLOWED = {"torch", "transformers"} | set(sys.stdlib_module_names)


def imports(path):
    """Of a file, wherever they stand: (module, how many leading dots, node)."""
    yield from found_imports(ast.parse(path.read_text()))


def found_imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, node
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node.level, node


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_torch_transformers_and_siblings_only(path):
    for module, level, node in imports(path):
        if level:
            assert level == 1
            assert f"{module}.py" in {other.name for other in FILES}, (
                f"{path.name} imports .{module}, which is not shipped"
            )
            line = path.read_text().splitlines()[node.lineno - 1]
            assert line.startswith(f"from .{module} import"), (
                "the loader's pattern matches unindented imports of siblings"
            )
        else:
            assert module.split(".")[0] in ALLOWED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_stand_at_the_top(path):
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    assert all(id(node) in top for _, _, node in found_imports(tree))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_but_imports_looks_like_one_to_the_loader(path):
    # transformers greps the text, docstrings included.
    text = path.read_text()
    found = re.findall(r"^\s*from\s+\.(\S+)\s+import|^\s*import\s+\.(\S+)\s*$", text, flags=re.MULTILINE)
    siblings = [module for module, level, _ in imports(path) if level]
    assert sorted(a or b for a, b in found) == sorted(siblings)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda path: path.stem)
def test_an_entry_file_names_every_file_it_needs(entry):
    needed, pending = set(), [entry]
    while pending:
        siblings = {FOLDER / f"{module}.py" for module, level, _ in imports(pending.pop()) if level}
        pending += siblings - needed
        needed |= siblings
    assert {module for module, level, _ in imports(entry) if level} == {path.stem for path in needed}


def test_every_shipped_file_is_reached():
    reached = {module for entry in ENTRIES for module, level, _ in imports(entry) if level}
    assert {path.stem for path in FILES} - {path.stem for path in ENTRIES} == reached
