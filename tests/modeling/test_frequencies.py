"""The frequency methods: what is baked and what is shipped, against the oracles and against transformers' own."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import InvalidPreset
from ropext.converter.presets.load import load_preset
from tests.helpers import tiny
from tests.helpers.checkpoints import LLAMA3, edit_config
from tests.helpers.scaled_rope import inv_freq_of_transformers
from tests.modeling.test_loading import preset_file
from tests.reference import dynamic_ntk, linear, ntk, yarn
from tests.reference.rope import llama_logits

pytestmark = pytest.mark.usefixtures("no_grad")


def convert(source, folder, method, **parameters):
    preset = load_preset(str(preset_file(folder, f"tiny-{method}", method, parameters)))
    return convert_checkpoint(preset, str(source), folder / f"{method}-converted", force=True).output


def oracle(block, length):
    """The naive logit of a method on the tiny model, its base not scaled."""
    method, parameters = block["method"], block["parameters"]
    scaled = {"scaling_factor": parameters["scaling_factor"]}
    if method == "linear":
        return linear.pair_logit(np.array(tiny.INV_FREQ), **scaled)
    if method == "ntk":
        return ntk.pair_logit(10000.0, 16, **scaled)
    if method == "dynamic_ntk":
        return dynamic_ntk.pair_logit(10000.0, 16, length, initial_window=block["initial_window"], **scaled)
    options = {key: value for key, value in parameters.items() if key != "attention_factor"}
    inv_freq = yarn.frequencies(10000.0, 16, block["initial_window"], **options)
    return yarn.pair_logit(inv_freq, attention_factor=parameters["attention_factor"])


@pytest.mark.parametrize("method", ["linear", "ntk", "dynamic_ntk", "yarn"])
@pytest.mark.parametrize("parameters", [{}, {"scaling_factor": 6.5}], ids=["default", "6.5"])
def test_equals_the_naive_oracle(method, parameters, tiny_llama, tmp_path):
    model, block = tiny.from_folder(convert(tiny_llama, tmp_path, method, **parameters))
    assert block["parameters"]["scaling_factor"] == parameters.get("scaling_factor", 4.0)
    ids = tiny.tokens(121)
    expected = llama_logits(tiny.base(dtype=torch.float64), ids[0], oracle(block, 121)).float()
    torch.testing.assert_close(model(ids).logits[0], expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("length", [1, 63, 64])
def test_dynamic_ntk_is_the_base_within_the_window(length):
    ids = tiny.tokens(length, rows=2)
    assert torch.equal(tiny.converted("dynamic_ntk")(ids).logits, tiny.base()(ids).logits)


def test_dynamic_ntk_decodes_as_transformers_does(tiny_llama):
    """Keys in the cache keep the theta of their time, in both."""
    edit_config(tiny_llama, rope_scaling={"rope_type": "dynamic", "factor": 4.0})
    stock, shipped = LlamaForCausalLM.from_pretrained(tiny_llama).eval(), tiny.converted("dynamic_ntk")
    ids, logits = tiny.tokens(120), []
    for model in (stock, shipped):
        out = model(ids[:, :100], use_cache=True)
        steps = [out.logits]
        for i in range(100, 120):
            steps.append(model(ids[:, i : i + 1], use_cache=True, **{tiny.CACHE: out[tiny.CACHE]}).logits)
        logits.append(torch.cat(steps, 1))
    torch.testing.assert_close(*logits, atol=2e-5, rtol=0)
    assert not torch.allclose(logits[1], shipped(ids).logits, atol=1e-3)


def test_dynamic_ntk_remembers_no_longer_prompt():
    model, ids = tiny.converted("dynamic_ntk"), tiny.tokens(90)
    before = model(ids).logits
    model(tiny.tokens(200))
    assert torch.equal(model(ids).logits, before)


def test_yarn_scales_queries_and_keys(tiny_llama, tmp_path):
    usual, block = tiny.from_folder(convert(tiny_llama, tmp_path, "yarn"))
    assert block["parameters"]["attention_factor"] == pytest.approx(0.1 * np.log(4) + 1)
    plain, _ = tiny.from_folder(convert(tiny_llama, tmp_path, "yarn", attention_factor=1.0))
    ids = tiny.tokens(60)
    assert (usual(ids).logits - plain(ids).logits).abs().max() > 0.01


# On a base that is scaled


@pytest.mark.parametrize("method", ["linear", "ntk"])
@pytest.mark.parametrize("scaling", [LLAMA3, {"rope_type": "linear", "factor": 2.0}], ids=["llama3", "linear"])
def test_composes_with_a_scaled_base(method, scaling, tiny_llama, tmp_path):
    _, plain = tiny.from_folder(convert(tiny_llama, tmp_path, method))
    edit_config(tiny_llama, rope_scaling=scaling)
    _, scaled = tiny.from_folder(convert(tiny_llama, tmp_path, method))
    base, _ = inv_freq_of_transformers(10000.0, 16, 64, scaling)
    expected = np.array(base) * plain["inv_freq"] / tiny.INV_FREQ
    np.testing.assert_allclose(scaled["inv_freq"], expected, rtol=1e-6)


def test_what_goes_by_theta_alone_is_refused_on_a_scaled_base(tiny_llama, tmp_path):
    edit_config(tiny_llama, rope_scaling=LLAMA3)
    with pytest.raises(InvalidPreset, match="method: is dynamic_ntk, but the base is scaled by rope_type llama3: it"):
        convert(tiny_llama, tmp_path, "dynamic_ntk")
    assert not (tmp_path / "dynamic_ntk-converted").exists()


def test_yarn_raises_the_factor_of_a_base_that_it_scales(tiny_llama, tmp_path):
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    edit_config(tiny_llama, rope_scaling=scaling)
    model, _ = tiny.from_folder(convert(tiny_llama, tmp_path, "yarn"))
    edit_config(tiny_llama, rope_scaling={**scaling, "factor": 16.0}, max_position_embeddings=256)
    stock = LlamaForCausalLM.from_pretrained(tiny_llama).eval()
    ids = tiny.tokens(121)
    torch.testing.assert_close(model(ids).logits, stock(ids).logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("linear", {"scaling_factor": 3}, r"is 3: that reaches 192 tokens of target_window's 256; set at least 4"),
        ("yarn", {"beta_fast": 1}, r"beta_fast: is 1; it must be more than beta_slow \(1\)"),
        ("yarn", {"attention_factor": 0}, "attention_factor: must be more than 0"),
        ("ntk", {"scaling_factor": 0.5}, "scaling_factor: must be at least 1"),
    ],
)
def test_refuses_what_makes_no_sense(method, parameters, message, tmp_path):
    with pytest.raises(InvalidPreset, match=message):
        load_preset(str(preset_file(tmp_path, "tiny", method, parameters)))
