"""Whoever forgets `trust_remote_code=True` is told so: no stock class loads a converted checkpoint in silence."""

import json
import shutil
import warnings

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM

from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.presets.load import load_preset
from tests.helpers import zoo
from tests.helpers.saved import saved
from tests.modeling.test_loading import preset_file

FAMILY_SAMPLE = ["llama", "gpt_oss", "gemma3_text", "gemma2", "qwen3", "glm4", "gpt_neox", "deepseek_v3", "smollm3"]
METHODS = {"self_extend": {"group_size": 6, "local_window": 16}, "linear": {}}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Return a function that saves a family's tiny stock model, once."""
    place = tmp_path_factory.mktemp("bases")

    def save(family):
        return saved(family, place)

    return save


def converted(base, place, method):
    """Convert by the command's own function."""
    preset = load_preset(str(preset_file(place, f"tiny-{method}", method, METHODS[method])))
    return convert_checkpoint(preset, str(base), place / f"{base.name}-{method}").output


def refusal(load, folder, **how):
    """What is said; fails where something was loaded."""
    try:
        load(folder, **how)
    except Exception as error:
        return error
    pytest.fail(f"{load} loaded {folder.name} in silence")


def says_so(error):
    """Whether it names the cure, or is the loader's own refusal of a configuration that it does not understand."""
    return "trust_remote_code" in str(error) or isinstance(error, ValueError)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILY_SAMPLE)
def test_no_class_loads_it_in_silence(family, method, bases, tmp_path):
    folder = converted(bases(family), tmp_path, method)
    row = FAMILIES[family]
    stock = getattr(transformers, row.stock_class)
    decoder = getattr(transformers, row.stock_model)
    for auto in (AutoModelForCausalLM, AutoModel):
        assert says_so(refusal(auto.from_pretrained, folder, trust_remote_code=False))
        assert "trust_remote_code" in str(refusal(auto.from_pretrained, folder))
    for by_name in (stock, decoder):
        assert "trust_remote_code" in str(refusal(by_name.from_pretrained, folder)), by_name


@pytest.mark.usefixtures("module_cache")
@pytest.mark.parametrize("family", FAMILY_SAMPLE)
def test_nor_after_it_was_saved_again(family, bases, tmp_path):
    """What a user writes who has loaded it, say after training, is guarded as well."""
    folder, again = converted(bases(family), tmp_path, "self_extend"), tmp_path / "again"
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(again)
    assert says_so(refusal(AutoModelForCausalLM.from_pretrained, again, trust_remote_code=False))
    stock = getattr(transformers, FAMILIES[family].stock_class)
    assert "trust_remote_code" in str(refusal(stock.from_pretrained, again))
    ids = zoo.inputs(family, 40)
    loaded = AutoModelForCausalLM.from_pretrained(again, trust_remote_code=True)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**ids).logits, model.eval()(**ids).logits)


@pytest.mark.parametrize("family", FAMILY_SAMPLE)
def test_without_the_map_to_the_code_it_is_refused_too(family, bases, tmp_path):
    """As where a runtime knows the model type and pays no heed to `auto_map`."""
    folder = shutil.copytree(converted(bases(family), tmp_path, "self_extend"), tmp_path / "stripped")
    config = json.loads((folder / "config.json").read_text())
    del config["auto_map"]
    config["architectures"] = [FAMILIES[family].stock_class]
    (folder / "config.json").write_text(json.dumps(config))
    assert says_so(refusal(AutoModelForCausalLM.from_pretrained, folder))
