"""Fixtures that several test files share."""

import os
import shutil
import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.helpers.refusals", "tests.helpers.uses", "tests.helpers.verified")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: the models are so small that more threads than processors only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser):
    """What `tests/modeling/test_everywhere.py` asks."""
    parser.addoption("--whole", action="store_true", help="every method in every family in every use")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """A machine that is slow today prints no progress into what a test compares."""
    from ropext.converter.cli import live

    monkeypatch.setattr(live, "_PATIENCE", 600.0)


@pytest.fixture
def no_grad():
    """Forward only."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    """Loading with remote code keeps its copies in a folder for this file of tests, and leaves nothing imported."""
    from transformers import dynamic_module_utils

    def forget():
        for name in [each for each in sys.modules if each.partition(".")[0] == "transformers_modules"]:
            del sys.modules[name]

    forget()
    with pytest.MonkeyPatch.context() as patch:
        # A test that took the user's own cache leaves it in the path, and its package would come first.
        elsewhere = [each for each in sys.path if not Path(each, "transformers_modules").is_dir()]
        patch.setattr(sys, "path", elsewhere)
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield
    forget()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `ropext` in the test's folder."""
    from click.testing import CliRunner

    from ropext.converter.cli.app import main

    monkeypatch.chdir(tmp_path)

    def invoke(*args, status=0):
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def convert(tiny_llama, tiny_preset, tmp_path):
    """Convert the tiny model into `out` as the shell would, whatever comes of it."""
    from click.testing import CliRunner

    from ropext.converter.cli.app import main

    def run(*options):
        return CliRunner().invoke(main, ["convert", str(tiny_llama), "-p", str(tiny_preset), "-o", output, *options])

    output = str(tmp_path / "out")
    return run


@pytest.fixture
def matplotlib():
    """For tests that draw."""
    return pytest.importorskip("matplotlib")


@pytest.fixture
def tiny_llama(tmp_path):
    """A whole Llama of 440 KB that a test may change."""
    folder = tmp_path / "tiny-llama"
    shutil.copytree(Path(__file__).parent / "data" / "tiny-llama", folder)
    return folder


@pytest.fixture
def tiny_preset(tmp_path):
    """A file with a DPE preset for `tiny_llama`."""
    file = tmp_path / "tiny-dpe.yaml"
    file.write_text(
        "name: tiny-dpe\n"
        "description: DPE for a tiny model.\n"
        "base_model: tiny-llama\n"
        "initial_window: 64\n"
        "target_window: 256\n"
        "method: dpe\n"
        "parameters: {local_window: 16, scale_factors: [2, 8, 4, 16], dimension_groups: [0, 2, 4, 6, 8]}\n"
        "requires: {model_type: llama, head_dim: 16, rope_theta: 10000}\n"
        "references: [arXiv 2504.18857]\n"
    )
    return file
