"""The rules that transformers' loader sets for code in a checkpoint, held on every file that is shipped.

Those of `modeling/` as they are, and what is made of Llama's for other families and methods.
"""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

from ropext.converter import mlx_code, model_code
from ropext.converter.checkpoint.families import FAMILIES, supported
from ropext.converter.methods.schemas import METHODS

MODELING = Path(__file__).parents[2] / "modeling"
TEXTS = {path.stem: path.read_text() for path in sorted(MODELING.glob("*.py")) if path.name != "__init__.py"}
SAMPLE = ("llama", "deepseek_v3", "exaone", "gemma3_text", "gpt_neox", "gpt_oss", "qwen2_5_vl", "qwen3_moe", "smollm3")
"""Families whose classes and modules are named in every way that there is."""
MADE = {
    f"{family}-configuration": model_code.code(family, "dpe")[model_code.configuration(family)] for family in SAMPLE
}
for family in SAMPLE:
    MADE |= {f"{family}-{method}": model_code.code(family, method)[model_code.entry(family)] for method in METHODS}
FILES = [pytest.param(name, text, id=name) for name, text in TEXTS.items()]
FILES += [pytest.param(name, data.decode(), id=name) for name, data in MADE.items()]
every_file = pytest.mark.parametrize(("name", "text"), FILES)
# All that a checkpoint's code may import: nothing by which to reach files, other processes or the network. A change of
# this list is a change of what whoever loads one has to trust.
ALLOWED = {"torch", "transformers", "__future__", "collections", "copy", "dataclasses", "importlib", "itertools"}
ALLOWED |= {"base64", "contextlib", "functools", "inspect", "math", "re", "sys", "typing", "warnings"}
ALLOWED |= {"threading", "weakref"}  # a forward knows which thread it runs in
FROM_OS = ["getenv"]
BY_NAME = {"flash_attn"}  # what `importlib` may be asked for: optional packages
FORBIDDEN = {"eval", "exec", "compile", "open", "input", "__import__", "globals", "breakpoint"}
FORBIDDEN_PARTS = {"load", "hub", "ops.load_library", "save", "cpp_extension", "system", "environ", "load_inline"}


def found_imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, node
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node.level, node


@lru_cache(maxsize=512)  # most files are shipped with many methods in many families
def imports(text):
    """Of a file, wherever they stand: (module, how many leading dots, node)."""
    return tuple(found_imports(ast.parse(text)))


@every_file
def test_imports_torch_transformers_and_siblings_only(name, text):
    generated = {model_code.configuration(family).removesuffix(".py") for family in SAMPLE}
    for module, level, node in imports(text):
        if level:
            assert level == 1
            assert module in {*TEXTS, *generated}, f"{name}:{node.lineno} imports .{module}, which is not shipped"
            line = text.splitlines()[node.lineno - 1]
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


@every_file
def test_reaches_no_files_processes_or_other_code(name, text):
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            assert node.id not in FORBIDDEN, f"{name}:{node.lineno}: {node.id}"
        if isinstance(node, ast.Attribute) and dotted(node).split(".")[0] == "torch":
            assert not FORBIDDEN_PARTS & set(dotted(node).split(".")), f"{name}:{node.lineno}"
        if isinstance(node, ast.Call) and dotted(node.func).startswith("importlib."):
            assert dotted(node.func) == "importlib.import_module"
            (module,) = node.args
            assert isinstance(module, ast.Constant), f"{name}:{node.lineno}: a name that is computed"
            assert module.value in BY_NAME, f"{name}:{node.lineno}: imports {module.value}"
        if isinstance(node, ast.Attribute) and dotted(node).startswith("sys."):
            assert dotted(node).startswith("sys.modules"), f"{name}:{node.lineno}: {dotted(node)}"


@every_file
def test_imports_stand_at_the_top(name, text):
    tree = ast.parse(text)
    top = {id(node) for node in tree.body}
    assert all(id(node) in top for _, _, node in found_imports(tree))


@every_file
def test_nothing_but_imports_looks_like_one_to_the_loader(name, text):
    # transformers greps the text, docstrings included.
    found = re.findall(r"^\s*from\s+\.(\S+)\s+import|^\s*import\s+\.(\S+)\s*$", text, flags=re.MULTILINE)
    siblings = [module for module, level, _ in imports(text) if level]
    assert sorted(a or b for a, b in found) == sorted(siblings)


def without_mlx(family, method):
    """What transformers loads."""
    return {name: data for name, data in model_code.code(family, method).items() if name != mlx_code.NAME}


@pytest.mark.parametrize("family", SAMPLE)
@pytest.mark.parametrize("method", METHODS)
def test_an_entry_file_names_every_file_that_is_shipped(method, family):
    """Up to 5.9 transformers' loader copies what the entry file itself imports, and finds that by reading its text."""
    files = without_mlx(family, method)
    entry, *others = files
    assert entry == model_code.entry(family)
    named = [module for module, level, _ in imports(files[entry].decode()) if level]
    assert sorted(f"{module}.py" for module in named) == sorted(others)
    for data in files.values():
        assert {f"{module}.py" for module, level, _ in imports(data.decode()) if level} <= set(others)


@pytest.mark.parametrize("family", SAMPLE)
@pytest.mark.parametrize("method", METHODS)
def test_an_auto_map_leads_to_classes(method, family):
    files = model_code.code(family, method)
    for auto, reference in model_code.auto_map(family).items():
        module, _, name = reference.partition(".")
        tree = ast.parse(files[f"{module}.py"])
        made = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        heads = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in made or (auto not in ("AutoConfig", "AutoModel") and "__getattr__" in heads), reference


@pytest.mark.parametrize("family", supported())
def test_an_entry_file_is_named_after_its_family_alone(family):
    entry = model_code.code(family, "gali")[model_code.entry(family)].decode()
    own, stock = FAMILIES[family].own_stem, FAMILIES[family].stem
    left = entry.replace(f"{own}RopeExt", "").replace(stock, "").replace(own, "").replace(family, "")
    if "llama" not in FAMILIES[family].stock_module:
        assert "llama" not in left.lower(), entry
    assert "Dpe" not in entry


def test_every_file_of_modeling_is_shipped_with_some_method():
    reached = {name.removesuffix(".py") for method in METHODS for name in without_mlx("llama", method)}
    assert reached == set(TEXTS), "no method leads to it; import it where it is needed, or remove it"
