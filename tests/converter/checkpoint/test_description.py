"""What `describe` reads of configurations, and what it refuses."""

import pytest

from ropext.converter.checkpoint.description import describe
from ropext.converter.errors import RopextError

SMALL = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
MROPE = {"type": "mrope", "mrope_section": [2, 3, 3]}
QWEN_VL = {"model_type": "qwen2_5_vl", **SMALL, "rope_theta": 1e6, "rope_scaling": MROPE}
DEFAULT_MROPE = {"rope_type": "default", "mrope_section": [2, 3, 3]}
INNER = {"model_type": "qwen2_5_vl_text", **SMALL, "rope_theta": 1e6, "rope_scaling": DEFAULT_MROPE}


def config(model_type="llama", **more):
    return {"model_type": model_type, **SMALL, **more}


def test_block_of_pairs():
    found = describe(config())
    assert found.pairs() == {"layers": [0, 1, 2, 3], "layout": "halves", "first": 0, "sign": 1}
    assert (found.text_place, found.guard, found.stock_class) == ("", "hidden_act", "LlamaForCausalLM")
    assert found.stock_module == "transformers.models.llama.modeling_llama"
    hunyuan = describe(config("hunyuan_v1_dense"))
    assert hunyuan.pairs()["norms_after"] == ["query_layernorm", "key_layernorm"]


def test_latent_keys_are_turned_at_their_end():
    found = describe(config("deepseek_v3"))
    assert (found.head_dim, found.first, len(found.inv_freq)) == (192, 128, 32)


def test_a_window_of_all_layers_is_told_and_one_of_some_left_alone():
    mistral = describe(config("mistral", sliding_window=32))
    assert (mistral.layers, mistral.window) == ((0, 1, 2, 3), 32)
    qwen = describe(config("qwen2", use_sliding_window=True, sliding_window=32, max_window_layers=1))
    assert (qwen.layers, qwen.window) == ((0,), None)
    assert describe(config("qwen2", sliding_window=32)).layers == (0, 1, 2, 3)


def test_attention_factor():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    assert describe(config(rope_scaling=yarn)).rope.attention_factor == pytest.approx(1.138629436)
    both = {**yarn, "mscale": 1.0, "mscale_all_dim": 1.0}
    assert describe(config("deepseek_v3", rope_scaling=both)).rope.attention_factor == 1.0
    assert describe(config(rope_scaling={**yarn, "attention_factor": 2})).rope.attention_factor == 2.0


@pytest.mark.parametrize(
    "spelt", [QWEN_VL, {"model_type": "qwen2_5_vl", "text_config": INNER}, {**QWEN_VL, "text_config": INNER}]
)
def test_qwen_vl_as_it_has_been_saved(spelt):
    found = describe(spelt)
    assert found.text_place == ("text_config" if "text_config" in spelt else "")
    assert (found.text_model_type, found.rope.theta, found.rope.kind) == ("qwen2_5_vl_text", 1e6, "default")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (config(is_causal=False), "is_causal: is false: this is an encoder or an embedding model"),
        (config("gemma", use_bidirectional_attention=True), "use_bidirectional_attention: is set"),
        (config("gemma4_text", use_bidirectional_attention="all"), "use_bidirectional_attention: is set"),
        (config("llava", text_config=None), "text_config: expected the configuration of the text model of 'llava'"),
        (config("llava", text_config={"model_type": "mamba"}), "'mamba' cannot be converted: it has no rotary"),
        (
            config("llava", text_config={"model_type": "phi"}),
            "'phi' .* not tried as the text model of 'llava', as were",
        ),
        (config("glm4v", text_config={"model_type": "glm4v_text"}), "is a model around a text model .* neither"),
        (config("x_vl", text_config={"model_type": "llama"}), "ropext converts that one by itself, not the whole"),
        (config("qwen3_vl_text"), "is the text model inside 'qwen3_vl'; convert that"),
        ({**QWEN_VL, "rope_theta": 5e5, "text_config": INNER}, "rope_theta: lies beside text_config, .* and differs"),
        (config("exaone4", num_hidden_layers=8), "its layers with full attention have no rotary positions"),
        (config("gemma3_text"), "none of its 4 layers has full attention"),
        (config("granitemoehybrid", layer_types=["attention"] * 4), "have no rotary positions"),
        (config("qwen3", layer_types=["linear_attention"] * 4), "'linear_attention' is no kind of layer that qwen3"),
        (config("qwen3", layer_types=["full_attention"]), "layer_types: expected one name for each of the 4 layers"),
        (config("glm4_moe_lite", head_dim=96), "head_dim is 96 and qk_rope_head_dim is 64: they contradict"),
        (config("llama", per_layer_config={"0": {}}), "per_layer_config: llama is not known with layers of their own"),
        (config("cohere"), "rope_theta: has to be written: versions of transformers differ"),
        (config(num_hidden_layers=100_000), "100000 layers are more than any model has"),
        (config(rope_scaling={"rope_type": "linear", "factor": 1e38}, rope_theta=1e38), "out of the range of float32"),
    ],
)
def test_what_is_refused(changed, message):
    with pytest.raises(RopextError, match=message):
        describe(changed)


def test_gemma_4_with_images_stays_causal_in_its_full_layers():
    layers = ["sliding_attention", "full_attention"] * 2
    found = describe(config("gemma4_text", use_bidirectional_attention="vision", layer_types=layers))
    assert (found.layers, found.head_dim) == ((1, 3), 512)
    assert found.inv_freq.count(0.0) == 192


def test_layers_of_one_base_each():
    thetas = {"layer_types": ["full_attention"] * 4, "layer_rope_theta": [0, 5e5, 0, 5e5]}
    assert describe(config("granite_swa", **thetas)).layers == (1, 3)
    assert describe(config("granite_swa", **thetas)).rope.theta == 5e5
    with pytest.raises(RopextError, match="its layers with full attention differ in it"):
        describe(config("granite_swa", **{**thetas, "layer_rope_theta": [1e4, 5e5, 0, 5e5]}))


def test_two_lists_of_full_layers():
    kinds = {"layer_types": ["mamba", "attention", "mamba", "mamba"]}
    assert describe(config("bamba", attn_layer_indices=[1], **kinds)).layers == (1,)
    with pytest.raises(RopextError, match="attn_layer_indices: names other layers than layer_types"):
        describe(config("bamba", attn_layer_indices=[2], **kinds))
    with pytest.raises(RopextError, match="attn_layer_indices: expected indices of the 4 layers"):
        describe(config("bamba", attn_layer_indices=[True]))
