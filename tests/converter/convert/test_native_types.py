"""Native exports of families of every kind, loaded by stock classes and held to the formula by running them.

`python -m tools.native` does so for all of them.
"""

from dataclasses import replace

import pytest

from tests.helpers import native_types, zoo
from tests.helpers.native_types import LINEAR, LLAMA3, MSCALE, PLAIN, YARN

FAMILIES = [
    *(
        "llama",
        "gemma3_text",
        "gemma4_text",
        "olmo3",
        "gpt_oss+yarn",
        "deepseek_v3",
        "deepseek_v2",
        "ministral3",
        "glm4",
    ),
    *("gpt_neox", "bamba", "granite_swa", "hunyuan_v1_dense", "laguna", "mellum", "apertus", "phi3", "phimoe", "olmo2"),
    *("qwen3_5_text", "qwen3_5", "qwen3_vl", "qwen2_5_vl", "mistral3", "mistral3+ministral3", "gemma3", "gemma4"),
]
REFUSED = {
    ("gemma4_text", PLAIN, "yarn"): "leaves some pairs unturned",
    ("gemma4", PLAIN, "yarn"): "leaves some pairs unturned",
    ("ministral3", PLAIN, "linear"): "llama_4_scaling_beta beside its frequencies",
    ("mistral3+ministral3", PLAIN, "linear"): "llama_4_scaling_beta beside its frequencies",
    ("phi3", PLAIN, "yarn"): "takes longrope alone, which cannot say attention scaled by 1.13863; add --set",
    ("phi3", YARN, "yarn"): "contradict each other",
    ("olmo2", PLAIN, "yarn"): "linear and dynamic alone",
    ("olmo2", YARN, "yarn"): "linear and dynamic alone",
    ("olmo2", LLAMA3, "yarn"): "linear and dynamic alone",
    ("phi3", LLAMA3, "yarn"): "contradict each other",
}
IN_5_0 = {"olmo3", "gemma3_text", "gemma3"}
"""Of which transformers 5.0.0 reads no yarn: an error for Gemma 3, all layers for OLMo 3, as of their bases."""


def is_off(name, method):
    return zoo.transformers.__version__.startswith("5.0.") and name in IN_5_0


@pytest.mark.parametrize("case", [(PLAIN, "yarn"), (PLAIN, "linear"), (YARN, "yarn"), (LLAMA3, "yarn")], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_stock_classes_do_what_the_formula_says(name, case):
    if name not in native_types.names() or is_off(name, case[1]):
        pytest.skip("not of this transformers")
    said = native_types.outcome(native_types.base(name), *case)
    if not said:
        pytest.skip("no such base")
    if (name, *case) in REFUSED:
        assert said.startswith("refused: ")
        assert REFUSED[(name, *case)] in said
    else:
        assert said == "ok"


@pytest.mark.parametrize("name", ["deepseek_v3", "deepseek_v2"])
def test_the_scale_of_a_latent_attention_follows_the_factor(name):
    base = native_types.base(name)
    said = native_types.outcome(base, MSCALE, "yarn")
    assert said == "ok" or (name == "deepseek_v2" and said.startswith("noted: transformers up to 5.0 ignores"))
    assert "only yarn keeps" in native_types.outcome(base, MSCALE, "linear")


def test_a_key_that_nobody_reads_is_found():
    made = native_types.export(native_types.base("llama"), "yarn")
    assert not list(native_types.differences(made))
    for key in ("rope_scaling", "rope_parameters"):
        made.config[key] = {"rope_type": "default", "rope_theta": 10000.0}
    assert any("from the formula" in each for each in native_types.differences(made))
    assert any("queries and keys times 1.00000" in each for each in native_types.differences(made))


def test_layers_that_slide_keep_their_frequencies():
    base = native_types.base("gemma3_text")
    made = native_types.export(base, "linear")
    assert made.config["rope_scaling"] == {"type": "linear", "rope_type": "linear", "factor": 4.0}
    assert made.config["rope_parameters"]["full_attention"]["factor"] == 4.0
    assert made.config["rope_parameters"]["sliding_attention"]["rope_type"] == "default"
    made.config["rope_parameters"]["sliding_attention"] = dict(made.config["rope_parameters"]["full_attention"])
    made.config["rope_local_base_freq"] = 500.0
    assert any("which slides, was changed" in each for each in native_types.differences(replace(made)))


def test_a_raised_yarn_keeps_what_is_beside_its_frequencies():
    if "ministral3" not in native_types.names():
        pytest.skip("not of this transformers")
    base = native_types.base("ministral3")
    written = native_types.export(base, "yarn").config["rope_parameters"]
    before = base["rope_parameters"]
    assert written["factor"] == native_types.TARGET / before["original_max_position_embeddings"]
    for key in ("original_max_position_embeddings", "llama_4_scaling_beta", "mscale", "mscale_all_dim"):
        assert written[key] == before[key]


def test_linear_on_linear_is_one_factor():
    base = native_types.scaled(native_types.base("llama"), LINEAR)
    assert native_types.export(base, "linear").config["rope_scaling"]["factor"] == 16.0
