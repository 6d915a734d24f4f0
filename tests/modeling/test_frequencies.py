"""The frequency methods: what is baked and what is shipped, against the oracles and against transformers' own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ropext.converter.checkpoint.rope import float32, plain_inv_freq
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import InvalidPreset
from ropext.converter.methods import linear as linear_method
from ropext.converter.methods import ntk as ntk_method
from ropext.converter.methods import yarn as yarn_method
from ropext.converter.methods.registry import bake
from ropext.converter.presets.load import load_preset
from tests.helpers import tiny
from tests.helpers.checkpoints import LLAMA3, edit_config
from tests.modeling.test_loading import preset_file
from tests.reference import dynamic_ntk, linear, ntk, yarn
from tests.reference.rope import llama_logits

pytestmark = pytest.mark.usefixtures("no_grad")
MODELS = [(10000.0, 16, 64), (10000.0, 128, 4096), (100000.0, 64, 8192), (500000.0, 128, 8192)]


def inv_freq_of_transformers(theta, head_dim, length, scaling):
    sizes = {"hidden_size": head_dim, "num_attention_heads": 1, "max_position_embeddings": length}
    config = LlamaConfig(**sizes, rope_theta=theta, rope_scaling=scaling and dict(scaling))  # which it adds to
    inv_freq, attention_factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")
    return inv_freq.tolist(), attention_factor


@pytest.mark.parametrize(("theta", "head_dim", "window"), MODELS)
@pytest.mark.parametrize("factor", [2.0, 3.7, 16.0])
def test_linear_is_that_of_transformers(theta, head_dim, window, factor):
    expected, _ = inv_freq_of_transformers(theta, head_dim, window, {"rope_type": "linear", "factor": factor})
    np.testing.assert_allclose(linear_method.frequencies(plain_inv_freq(theta, head_dim), factor), expected, rtol=2e-7)


@pytest.mark.parametrize(("theta", "head_dim", "window"), MODELS)
@pytest.mark.parametrize("factor", [2.0, 3.5, 16.0])
@pytest.mark.parametrize("options", [{}, {"beta_fast": 24.0, "beta_slow": 2.0}, {"truncate": False}], ids=str)
def test_yarn_is_that_of_transformers_and_of_the_oracle(theta, head_dim, window, factor, options):
    baked = yarn_method.frequencies(theta, head_dim, window, factor, **options)
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": window, **options}
    expected, attention_factor = inv_freq_of_transformers(theta, head_dim, round(window * factor), scaling)
    np.testing.assert_allclose(baked, expected, rtol=4e-7)
    assert yarn_method.usual_attention_factor(factor) == attention_factor
    naive = yarn.frequencies(theta, head_dim, window, scaling_factor=factor, **options)
    np.testing.assert_allclose(baked, naive, rtol=1e-5)


@pytest.mark.parametrize(("theta", "head_dim", "window"), MODELS)
@pytest.mark.parametrize("factor", [2.0, 3.5, 16.0])
def test_ntk_is_a_larger_theta(theta, head_dim, window, factor):
    raised = plain_inv_freq(ntk_method.raised_theta(theta, factor, head_dim), head_dim)
    np.testing.assert_allclose(raised, ntk.frequencies(theta, head_dim, factor), rtol=1e-6)
    np.testing.assert_allclose(ntk_method.frequencies(plain_inv_freq(theta, head_dim), factor), raised, rtol=1e-6)


def test_what_is_baked_is_exact_in_float32():
    plain = plain_inv_freq(10000.0, 128)

    for baked in (
        linear_method.frequencies(plain, 3.7),
        ntk_method.frequencies(plain, 3.7),
        yarn_method.frequencies(1e4, 128, 4096, 3.7),
    ):
        assert baked == [float32(frequency) for frequency in baked]


# A whole model


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


@pytest.mark.parametrize("method", ["yarn", "dynamic_ntk"])
def test_what_goes_by_theta_alone_is_refused_on_a_scaled_base(method, tiny_llama, tmp_path):
    edit_config(tiny_llama, rope_scaling=LLAMA3)
    with pytest.raises(InvalidPreset, match=f"method: is {method}, but the base is scaled by rope_type llama3: it"):
        convert(tiny_llama, tmp_path, method)
    assert not (tmp_path / f"{method}-converted").exists()


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


def test_bakes_a_published_preset():
    from tests.converter.presets.test_presets import TINY

    facts = replace(TINY, head_dim=128, trained_length=8192, rope_theta=500000.0)
    baked = bake(load_preset("llama3-8b-yarn-8k-32k"), facts, plain_inv_freq(500000.0, 128))
    assert baked.parameters["scaling_factor"] == 4.0
    assert baked.inv_freq[0] == 1.0
    assert baked.inv_freq[-1] == pytest.approx(plain_inv_freq(500000.0, 128)[-1] / 4, rel=1e-6)
