"""Every method in every family in every use: `--whole` runs each cell of the table, a plain run a part of it."""

import shutil
from itertools import product
from pathlib import Path

import pytest
import torch

from ropext.converter.methods.registry import FREQUENCY_METHODS
from tests.helpers import families, tiny
from tests.helpers.everywhere import Subject
from tests.helpers.uses import USES, compiled_step

FEW = ("dpe_top_k", "gali", "self_extend", "dprope")
"""Two rotations of a key; keys that change; far keys; other frequencies."""


def has(family: str, name: str, use: str) -> bool:
    """Whether there is such a cell."""
    method = tiny.CASES[name].method
    if use == "naive":
        if name == "gali_noise":
            return False  # its noise is no function of a pair's distance
        return family != "llama" or method in FREQUENCY_METHODS  # the others: tests/modeling/test_methods.py, longer
    if use == "unmoved":
        return method not in FREQUENCY_METHODS  # which move every token but the first
    if use == "not_activated":
        return method not in FREQUENCY_METHODS and method != "original"
    # Compiling takes seconds, and a graph is the method's more than the family's.
    if use == "compiled":
        return name in FEW if family == "llama" else name == "self_extend"
    if use == "compiled_step":
        return name in FEW or family == "llama"
    return True


CELLS = [c for c in product(families.FAMILIES, tiny.CASES, USES) if has(*c)]


def by_default(family: str, name: str, use: str) -> bool:
    """Every case on Llama; on each other family every use but compilation, the few cases by turns."""
    if use.startswith("compiled"):
        return family == "llama" and name in (FEW[:2] if use == "compiled_step" else FEW[:1])
    turn = list(families.FAMILIES).index(family) + list(USES).index(use)
    can = [few for few in FEW if has(family, few, use)]
    return family == "llama" or name == can[turn % len(can)] or (use == "naive" and name in FEW)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "use" in metafunc.fixturenames:
        whole = metafunc.config.getoption("--whole")
        metafunc.parametrize(("family", "name", "use"), [c for c in CELLS if whole or by_default(*c)])


@pytest.fixture(autouse=True)
def one_thread():
    """The models are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("no_grad")
def test_everywhere(family: str, name: str, use: str, tmp_path: Path):
    USES[use](Subject(family, name, tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor writes C++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
@pytest.mark.usefixtures("no_grad")
def test_a_step_by_inductor(tmp_path: Path):
    compiled_step(Subject("llama", "dpe_top_k", tmp_path), "inductor")
