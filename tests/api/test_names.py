"""`import ropext`: what it hands out, and that it is light."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ropext
from ropext.converter.presets.load import list_presets

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "api" / "__init__.py"
FUNCTIONS = ("apply", "convert", "evaluate", "load_preset", "plan", "presets", "push", "suggest", "verify")


def typed():
    """The names that type checkers see, and the modules that they come from."""
    tree = ast.parse(SOURCE.read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_type_checkers_see_what_runs():
    assert typed() == {name: f"ropext.converter.{place}" for name, place in ropext._PLACES.items()}
    assert set(ropext.__all__) == {*typed(), "__version__"}


@pytest.mark.parametrize("name", sorted(set(ropext.__all__) - {"__version__"}))
def test_a_name_is_its_modules_own(name):
    assert getattr(ropext, name) is getattr(import_module(typed()[name]), name)
    assert getattr(ropext, name).__module__ == typed()[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_documented_and_typed(name):
    function = getattr(ropext, name)
    signature = inspect.signature(function)
    assert all(each.annotation is not inspect.Parameter.empty for each in signature.parameters.values())
    assert signature.return_annotation is not inspect.Signature.empty
    if name != "plan":  # it takes the arguments of `convert`
        assert all(f"        {each}: " in function.__doc__.replace("**", "") for each in signature.parameters)
    else:
        assert set(signature.parameters) < set(inspect.signature(ropext.convert).parameters)
    assert "Raises:" in function.__doc__ or "raises" in function.__doc__


def test_a_public_name_is_not_hidden_by_a_folder():
    list_presets()
    assert callable(ropext.presets)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'ropext' has no attribute 'nothing'"):
        ropext.nothing  # noqa: B018


def test_dir_lists_the_names():
    assert set(ropext.__all__) <= set(dir(ropext))


def test_one_version():
    found = subprocess.run([sys.executable, "-m", "ropext", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout == f"ropext {ropext.__version__}\n"
    assert ropext.converter.__version__ == ropext.__version__
    assert 'version = { attr = "ropext.__version__" }' in (ROOT / "pyproject.toml").read_text()
    written = [file for file in ROOT.glob("[ac]*/**/*.py") if f'"{ropext.__version__}"' in file.read_text()]
    assert written == [SOURCE]


def cost(program):
    """Run a program in a new process; the seconds of CPU that it says, and the heavy packages that it imported."""
    program = (
        "import sys, time\nbegin = time.process_time()\n"
        f"{program}\n"
        "spent = time.process_time() - begin\n"
        "heavy = ('torch', 'transformers', 'click', 'numpy', 'huggingface_hub', 'rich', 'jsonschema', 'yaml')\n"
        "print(spent, *(name for name in heavy if name in sys.modules))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    spent, *heavy = run.stdout.split()
    return float(spent), heavy


def test_importing_is_light():
    spent, heavy = cost("import ropext; dir(ropext); ropext.__version__; ropext.RopextError")
    assert heavy == []
    assert spent < 0.1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_brings_no_model_and_no_command_line(name):
    _, heavy = cost(f"import ropext; ropext.{name}")
    assert not set(heavy) & {"torch", "transformers", "click", "rich", "huggingface_hub"}
