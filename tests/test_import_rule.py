"""The converter's packages stand in an order, and each imports only what stands before it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CONVERTER = Path(__file__).parent.parent / "converter"
PREFIX = "ropext.converter"

GROUND = {"__init__", "errors", "text", "names", "lengths", "preset"}
ORDER = (
    "ground",
    "hub",
    "files",
    "checkpoint",
    "mlx_code",
    "model_code",
    "model_classes",
    "methods",
    "memory",
    "presets",
    "convert",
    "converted",
    "serve",
    "probe",
    "publish",
    "verify",
    "evaluation",
    "calibration",
    "demo",
    "cli",
)
RUNS_MODELS = (
    "calibration/",
    "checkpoint/model_cache.py",
    "demo.py",
    "evaluation/report/position_map.py",
    "evaluation/run/",
    "probe/in_sglang.py",
    "probe/in_transformers.py",
    "probe/in_vllm.py",
    "probe/turned.py",
    "verify/model.py",
    "verify/parts.py",
    "verify/shapes.py",
)
"""Files and folders that may import torch and transformers."""
IN_COMMANDS = {"cli/demo.py": {"transformers"}}
"""Those of the command line that do."""


def files():
    return sorted(CONVERTER.rglob("*.py"))


def inner(file):
    """`files/links.py`."""
    return file.relative_to(CONVERTER).as_posix()


def dotted(file):
    """`ropext.converter.files.links`."""
    parts = [*file.relative_to(CONVERTER).with_suffix("").parts]
    return ".".join([PREFIX, *(parts[:-1] if parts[-1] == "__init__" else parts)])


MODULES = {dotted(file): file for file in files()}


def package(module):
    name = module.removeprefix(PREFIX).strip(".").split(".")[0]
    return "ground" if not name or name in GROUND else name


def imported(file):
    """The modules that a file imports, wherever in it that stands: of the converter, those that hold the names."""
    folder = dotted(file) if file.name == "__init__.py" else dotted(file).rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = folder.split(".")[: len(folder.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base


def own(file):
    return {module for module in imported(file) if f"{module}.".startswith(f"{PREFIX}.")}


@pytest.mark.parametrize("file", files(), ids=inner)
def test_a_module_imports_what_stands_before_it(file):
    here = package(dotted(file))
    for module in own(file):
        assert module in MODULES, f"{module} is no module of the converter"
        assert package(module) in ORDER, f"{package(module)} has no place in the order"
        assert ORDER.index(package(module)) <= ORDER.index(here), f"{here} imports {module}, which stands after it"


def test_every_package_has_a_place_and_every_place_a_package():
    assert {package(module) for module in MODULES} == set(ORDER)


def test_no_circle():
    graph = {dotted(file): own(file) - {PREFIX} for file in files()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("file", files(), ids=inner)
def test_heavy_packages(file):
    found = {module.split(".")[0] for module in imported(file)}
    if not inner(file).startswith("cli/"):
        assert not found & {"click", "rich"}
    if not inner(file).startswith(RUNS_MODELS):
        assert found & {"torch", "transformers"} == IN_COMMANDS.get(inner(file), set())


@pytest.mark.parametrize("place", RUNS_MODELS)
def test_a_place_of_models_still_is_one(place):
    inside = [file for file in files() if inner(file).startswith(place)]
    assert {"torch", "transformers"} & {module.split(".")[0] for file in inside for module in imported(file)}
