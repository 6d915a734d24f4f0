"""The frequency methods: what is baked and what is shipped, against the oracles and against transformers' own."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import InvalidPreset
from ropext.converter.presets.load import load_preset
from tests.helpers import tiny, zoo
from tests.helpers.checkpoints import LLAMA3, edit_config
from tests.helpers.scaled_rope import inv_freq_of_transformers
from tests.helpers.zoo_subject import Specimen
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


@pytest.mark.skipif(not zoo.available("mellum"), reason="this transformers has no Mellum")
def test_dynamic_ntk_where_each_layer_type_has_its_theta(tmp_path):
    specimen = Specimen("mellum")
    specimen.base.save_pretrained(tmp_path / "base")
    folder = convert(tmp_path / "base", tmp_path, "dynamic_ntk")
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    within, beyond = (zoo.inputs("mellum", length) for length in (40, 92))
    torch.testing.assert_close(model(**within).logits, specimen.base(**within).logits, atol=2e-5, rtol=0)
    assert (model(**beyond).logits - specimen.base(**beyond).logits).abs().max() > 0.01


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


LONGROPE = {
    "rope_type": "longrope",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0 + 0.25 * pair for pair in range(8)],
    "long_factor": [1.0 + 0.25 * pair for pair in range(8)],
}


@pytest.mark.parametrize("method", ["linear", "yarn"])
@pytest.mark.parametrize("length", [40, 90], ids=["within", "beyond"])
def test_a_longrope_base_stays_retuned(method, length, tiny_llama, tmp_path):
    """Transformers puts such a base's tables back in each forward, by the prompt's length."""
    edit_config(tiny_llama, rope_scaling=LONGROPE, max_position_embeddings=256)
    model, block = tiny.from_folder(convert(tiny_llama, tmp_path, method))
    model(tiny.tokens(length))
    rotary, positions = model.model.rotary_emb, torch.arange(length)[None]
    cos, _ = rotary(torch.zeros(1, length, 64), positions)
    angles = positions[0, :, None] * torch.tensor(block["inv_freq"])
    factor = block["parameters"].get("attention_factor", 1.0) * rotary.attention_scaling
    torch.testing.assert_close(cos[0, :, :8], angles.cos() * factor, atol=1e-5, rtol=0)


@pytest.mark.skipif(zoo.V4, reason="its rotary module is not called with positions there, which is refused")
@pytest.mark.parametrize("case", ["linear", "dynamic_ntk"])
def test_phimoe_which_computes_its_table_in_each_forward(case):
    specimen = Specimen("phimoe")
    model = specimen.attach(specimen.fitted(tiny.CASES[case]))
    ids = zoo.inputs("phimoe", 92)
    assert (model(**ids).logits - specimen.base(**ids).logits).abs().max() > 0.1


@pytest.mark.skipif(not zoo.available("olmo3"), reason="this transformers has no OLMo 3")
def test_tables_of_layers_with_a_window_stay():
    """OLMo 3: they have the base's frequencies, in a table of their own."""
    specimen = Specimen("olmo3")
    if specimen.rejection:
        pytest.skip(str(specimen.rejection))
    given = []
    for model in (specimen.base, specimen.attach(specimen.fitted(tiny.CASES["linear"]))):
        cosines = []
        for layer in model.model.layers:
            layer.register_forward_pre_hook(
                lambda module, args, kwargs, into=cosines: into.append(kwargs["position_embeddings"][0]),
                with_kwargs=True,
            )
        model(**zoo.inputs("olmo3", 30))
        given.append(cosines)
    kinds = specimen.base.config.layer_types
    shared = not specimen.has_window_tables
    for kind, base, method in zip(kinds, *given, strict=True):
        assert torch.equal(base, method) == (kind == "sliding_attention" and not shared)


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
