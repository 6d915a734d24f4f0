"""Folders to verify; models run in this process, so that they start at once and what ropext computes can change."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset
from ropext.converter.verify import checks
from tests.helpers import families, tiny
from tests.helpers.in_process import InProcess
from tests.modeling.test_loading import write_preset


@pytest.fixture(autouse=True)
def in_process(request, monkeypatch):
    """Start no process, but in the tests of it."""
    if request.module.__name__.rpartition(".")[2] != "test_model_process":
        monkeypatch.setattr(checks, "ModelProcess", InProcess)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders converted once, by the name of their case; not to be changed."""
    place = tmp_path_factory.mktemp("made")
    shutil.copytree(tiny.TINY_LLAMA, place / "tiny-llama")

    def make(name, *, native=False):
        folder = place / f"{name}-{'native' if native else 'remote'}"
        if not folder.exists():
            convert_checkpoint(load_preset(str(write_preset(place, name))), None, folder, native=native, link="copy")
        return folder

    return make


@pytest.fixture
def copied(made, tmp_path):
    """Return a function that copies such a folder, to be changed."""

    def copy(name="dpe_top_k", **how):
        return Path(shutil.copytree(made(name, **how), tmp_path / "converted"))

    return copy


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A function that returns a folder of a family's stock model, of a class of its; not to be changed."""
    place = tmp_path_factory.mktemp("bases")

    def make(family, auto="AutoModelForCausalLM", **changes):
        folder = place / "-".join([family, auto, *changes])
        if not folder.exists():
            torch.manual_seed(0)
            config = CONFIG_MAPPING[family](**families.arguments(family) | changes)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                families.stock_class(family, auto)(config).save_pretrained(folder)
        return folder

    return make
