"""No file is too long to be read at once, and no function to be seen at once."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 40
"""Without decorators, signature and docstring."""
FOLDERS = ("api", "benchmarks", "converter", "modeling", "presets", "schemas", "serving", "tests", "tools")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


def functions(tree):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def length(function):
    """The lines from the first statement after the docstring to the last."""
    first, *rest = function.body
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    body = rest if documented else [first, *rest]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short(file):
    text = file.read_text(encoding="utf-8")
    assert (lines := text.count("\n")) <= LINES_OF_A_FILE, lines
    long = {each.name: length(each) for each in functions(ast.parse(text)) if length(each) > LINES_OF_A_FUNCTION}
    assert not long


def test_what_is_counted():
    text = "@mark\ndef f(\n    a,\n):\n    '''One.\n\n    Two.\n    '''\n    b = a\n    return (\n        b\n    )\n"
    assert [length(each) for each in functions(ast.parse(text))] == [4]
    assert len(FILES) > 400
