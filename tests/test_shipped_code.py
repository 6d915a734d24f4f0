"""The rules that transformers' loader sets for code in a checkpoint, held on every file that is shipped."""

import ast
import re

import pytest

from tests import siblings

FILES = sorted(path for path in siblings.MODELING.glob("*.py") if path.name != "__init__.py")
ENTRIES = siblings.entries()
# All that a checkpoint's code may import: nothing by which to reach files, other processes or the network. A change of
# this list is a change of what whoever loads one has to trust.
ALLOWED = {"torch", "transformers", "__future__", "collections", "copy", "dataclasses", "importlib", "itertools"}
ALLOWED |= {"base64", "contextlib", "functools", "inspect", "math", "packaging", "sys", "typing", "warnings"}
FROM_OS = ["getenv"]
BY_NAME = {"flash_attn"}  # what `importlib` may be asked for: optional packages
FORBIDDEN = {"eval", "exec", "compile", "open", "input", "__import__", "globals", "breakpoint"}
FORBIDDEN_PARTS = {"load", "hub", "ops.load_library", "save", "cpp_extension", "system", "environ", "load_inline"}


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
            shipped = {other.stem for other in FILES}
            assert module in shipped, f"modeling/{path.name}:{node.lineno} imports .{module}, which is not shipped"
            line = path.read_text().splitlines()[node.lineno - 1]
            assert line.startswith(f"from .{module} import"), (
                "the loader's pattern matches unindented imports of siblings"
            )
        else:
            names = [alias.name for alias in node.names]
            assert module.split(".")[0] in ALLOWED or (module == "os" and names == FROM_OS)


def dotted(node):
    """`a.b.c` of an expression; of another, its last parts."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reaches_no_files_processes_or_other_code(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            assert node.id not in FORBIDDEN, f"modeling/{path.name}:{node.lineno}: {node.id}"
        if isinstance(node, ast.Attribute) and dotted(node).split(".")[0] == "torch":
            assert not FORBIDDEN_PARTS & set(dotted(node).split(".")), f"modeling/{path.name}:{node.lineno}"
        if isinstance(node, ast.Call) and dotted(node.func).startswith("importlib."):
            assert dotted(node.func) == "importlib.import_module"
            (name,) = node.args
            assert isinstance(name, ast.Constant), f"modeling/{path.name}:{node.lineno}: a name that is computed"
            assert name.value in BY_NAME, f"modeling/{path.name}:{node.lineno}: imports {name.value}"
        if isinstance(node, ast.Attribute) and dotted(node).startswith("sys."):
            assert dotted(node).startswith("sys.modules"), f"modeling/{path.name}:{node.lineno}: {dotted(node)}"


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
    named, needed = set(siblings.imported(entry)), set(siblings.needed(entry))
    message = f"modeling/{entry.name}: missing {sorted(needed - named)}, too many {sorted(named - needed)}"
    assert named == needed, f"{message}; run `{siblings.COMMAND}`"
    assert siblings.rewritten(entry) == entry.read_text(), f"modeling/{entry.name}: run `{siblings.COMMAND}`"


def test_the_siblings_command_adds_and_drops_lines(tmp_path):
    text = siblings.rewritten(ENTRIES[0])
    (line,) = (each for each in text.splitlines(keepends=True) if each.startswith("from .rope_ext_dca import"))
    entry = tmp_path / ENTRIES[0].name
    entry.write_text(text.replace(line, "from .rope_ext_gone import Gone  # noqa: F401\n"))
    assert siblings.rewritten(entry) == text


def test_every_shipped_file_is_reached():
    reached = {module for entry in ENTRIES for module in siblings.needed(entry)}
    for path in FILES:
        where = "no entry file leads to it; import it in modeling/rope_ext_methods.py, or remove it"
        assert path in ENTRIES or path.stem in reached, f"modeling/{path.name}: {where}"
