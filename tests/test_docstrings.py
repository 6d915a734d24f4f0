"""The first line of a docstring stands alone: it says what the thing is or does, not how it differs from another."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("api", "benchmarks", "converter", "modeling", "presets", "schemas", "serving", "tools")
ELLIPTIC = ("As", "By", "For", "From", "In", "Its", "Of", "On", "That", "Their", "These", "Those", "To", "With")


def first_lines(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (text := ast.get_docstring(node)):
            yield f"{file.relative_to(ROOT)}:{node.lineno}", text.partition("\n")[0]


def test_no_docstring_begins_in_the_middle_of_a_thought():
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    lines = [each for file in files for each in first_lines(file)]
    assert [each for each in lines if each[1].startswith("The same") or each[1].split()[0] in ELLIPTIC] == []
    assert len(lines) > 1000
