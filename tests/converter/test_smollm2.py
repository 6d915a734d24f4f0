"""The real model: what its base cannot answer, each method can. Minutes on two cores: `python -m pytest -m slow`."""

import pytest

pytest.importorskip("gguf", reason="the real model is a GGUF file: pip install gguf")

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.demo import ask, prepare_base
from ropext.converter.evaluation.tasks.passkey import hide_passkey
from ropext.converter.presets.load import load_preset

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
LENGTH, DEPTH = 11_500, 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("smollm2")


@pytest.fixture(scope="module")
def base(folder):
    return prepare_base(folder)


@pytest.fixture(scope="module")
def prompt(base):
    from transformers import AutoTokenizer

    return hide_passkey(AutoTokenizer.from_pretrained(base), LENGTH, DEPTH)


def test_the_base_misses(base, prompt):
    assert prompt.distance > 8192
    assert not ask(base, prompt, trust_remote_code=False).found


@pytest.mark.parametrize("method", ["rerope", "dpe", "dprope", "gali"])
def test_the_converted_model_finds(method, base, prompt, folder):
    preset = load_preset(f"smollm2-135m-{method}")
    converted = convert_checkpoint(preset, str(base), folder / preset.name)
    assert ask(converted.output, prompt, trust_remote_code=True).found
