"""The names of files that loading would use, held to those that transformers opens and looks for."""

import shutil
import sys
from pathlib import Path

import pytest
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, pipeline
from transformers.utils import hub

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset
from ropext.converter.verify.loaded import is_carried, is_loaded
from tests.helpers import tiny
from tests.helpers.loaded_files import write_tokenizer
from tests.modeling.test_loading import write_preset

OPENED: list[str] | None = None


def _record(event, arguments):
    if OPENED is not None and event == "open" and isinstance(arguments[0], str | Path):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_record)


def test_all_that_is_opened_is_known(tmp_path):
    """By the classes and the pipeline that people load a checkpoint with."""
    global OPENED
    base = Path(shutil.copytree(tiny.TINY_LLAMA, tmp_path / "tiny-llama"))
    write_tokenizer(base)
    preset = load_preset(str(write_preset(tmp_path, "dpe")))
    folder = convert_checkpoint(preset, None, tmp_path / "out", link="copy").output
    OPENED = []
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
        GenerationConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        pipeline("text-generation", model=model, tokenizer=tokenizer)
        opened = {Path(path).relative_to(folder).as_posix() for path in OPENED if path.startswith(f"{folder}/")}
    finally:
        OPENED = None
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} <= opened
    assert [path for path in sorted(opened) if not is_loaded(path)] == []


def names():
    """The file names that transformers has constants for."""
    modules = (transformers.utils, hub, transformers.tokenization_utils_base)
    found = [getattr(module, name) for module in modules for name in dir(module) if name.isupper()]
    texts = {each for each in found if isinstance(each, str)}
    return sorted(each for each in texts if each.endswith((".json", ".bin", ".safetensors", ".jinja")))


@pytest.mark.parametrize("name", names())
def test_a_name_that_is_looked_for_is_known(name):
    if name != "modelcard.json":  # written by old trainers, read by nobody
        assert is_loaded(name)
        assert is_loaded(f"sub/{name}")


@pytest.mark.parametrize("name", ["custom_generate/generate.py", "custom_generate/requirements.txt", "x.so", "y.pyc"])
def test_code_is_loaded(name):
    assert is_loaded(name)


@pytest.mark.parametrize("name", ["README.md", "results.jsonl", "notes.txt", "picture.png", "results/ruler.json"])
def test_what_people_add_is_not(name):
    assert not is_loaded(name)


@pytest.mark.parametrize("name", ["processor_config.json", "evil.dat", "x.safetensors.index.json", "adapter_x.json"])
def test_what_no_conversion_makes(name):
    assert not is_carried(name)
