"""Well-known families that cannot be converted, and why."""

from __future__ import annotations

__all__ = ["reason"]

_MLA = "its keys are made from a compressed latent (MLA), of which RoPE turns a small part that all heads share"
_OTHER_FORM = (
    "it has layers of another form: one matrix that mixes the heads' queries, keys and values, under its own names"
)
_NOT_TOLD = (
    "in some of the transformers that ropext supports its layers pass no further argument on to attention, by which a "
    "method is told where the tokens stand"
)
_MULTI_AXIS = "its positions have several axes (time, height, width), and a method chooses one distance"
_SLIDING = "some of its layers see a sliding window only, with a RoPE or a cache of their own"
_LINEAR = "some of its layers are recurrent (linear attention or state space), without positions that could be chosen"
_NOPE = "some of its layers have no rotary positions"
_INTERLEAVED = "it pairs neighbouring dimensions, where ropext's code pairs the two halves of a head"

_REASONS = {
    _MLA: "deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe_lite kimi_k2 longcat_flash minicpm3",
    _OTHER_FORM: "falcon gpt_neox persimmon",
    _NOT_TOLD: "granitemoe jetmoe nemotron olmoe phimoe qwen2_moe stablelm",
    _MULTI_AXIS: "glm4v glm4v_moe qwen2_5_omni qwen2_5_vl qwen2_vl qwen3_omni_moe qwen3_vl qwen3_vl_moe",
    _SLIDING: "cohere2 exaone4 gemma2 gemma3 gemma3_text gemma3n gemma3n_text gpt_oss ministral olmo3",
    _LINEAR: (
        "bamba falcon_h1 falcon_mamba granitemoehybrid jamba kimi_linear lfm2 lfm2_moe mamba mamba2 minimax nemotron_h "
        "qwen3_5 qwen3_5_moe qwen3_next recurrent_gemma rwkv zamba zamba2"
    ),
    _NOPE: "llama4 llama4_text smollm3",
    _INTERLEAVED: "codegen cohere ernie4_5 ernie4_5_moe glm glm4 gptj helium",
}
_BY_FAMILY = {family: reason for reason, families in _REASONS.items() for family in families.split()}


def reason(model_type: object) -> str | None:
    """Say why a family cannot be converted; None where nothing is known against it.

    Args:
        model_type: as a configuration names it.
    """
    return _BY_FAMILY.get(model_type) if isinstance(model_type, str) else None
