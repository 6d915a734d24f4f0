"""vLLM's side of converted checkpoints: a general plugin that registers the architectures that ropext emits.

vLLM calls `register` in each of its processes. Its models are imported when vLLM builds one.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["FAMILIES", "register"]

FAMILIES = {
    "Apertus": ("apertus", "ApertusForCausalLM"),
    "Cohere": ("commandr", "CohereForCausalLM"),
    "Ernie4_5": ("ernie45", "Ernie4_5ForCausalLM"),
    "Exaone4": ("exaone4", "Exaone4ForCausalLM"),
    "Gemma": ("gemma", "GemmaForCausalLM"),
    "Gemma2": ("gemma2", "Gemma2ForCausalLM"),
    "Gemma3": ("gemma3", "Gemma3ForCausalLM"),
    "Glm4": ("glm4", "Glm4ForCausalLM"),
    "Glm4Moe": ("glm4_moe", "Glm4MoeForCausalLM"),
    "GptOss": ("gpt_oss", "GptOssForCausalLM"),
    "Granite": ("granite", "GraniteForCausalLM"),
    "GraniteMoe": ("granitemoe", "GraniteMoeForCausalLM"),
    "Llama": ("llama", "LlamaForCausalLM"),
    "Mistral": ("mistral", "MistralForCausalLM"),
    "Mixtral": ("mixtral", "MixtralForCausalLM"),
    "Nemotron": ("nemotron", "NemotronForCausalLM"),
    "Olmoe": ("olmoe", "OlmoeForCausalLM"),
    "Phi3": ("phi3", "Phi3ForCausalLM"),
    "Qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "Qwen2Moe": ("qwen2_moe", "Qwen2MoeForCausalLM"),
    "Qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "Qwen3Moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
    "StableLm": ("stablelm", "StablelmForCausalLM"),
}
"""By how our class is called before `RopeExtForCausalLM`: the module of vLLM's models and the class in it."""


def register() -> None:
    """Register what the converter can emit: vLLM's own class with a method, or one that says why there is none."""
    from vllm import ModelRegistry

    from ropext.converter.checkpoint.families import FAMILIES as CONVERTED

    for family in CONVERTED.values():
        if not family.refused and not family.inside:
            name = next(iter(family.own_classes.values()))
            ModelRegistry.register_model(name, f"{__name__}.models:{name}")
    import_module(f"{__name__}.config")
