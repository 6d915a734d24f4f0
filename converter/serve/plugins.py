"""What our own code for other runtimes can run. Nothing of those runtimes is imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ropext.converter import mlx_code
from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.methods.registry import FIXED_FREQUENCIES

__all__ = ["BANDS", "mlx_refusal", "vllm_refusal"]

BANDS = ("self_extend", "rerope", "string", "dpe", "local_profile", "bands", "lampe")
"""Methods of a near band and a far triangle whose far keys have one place each, so that a paged cache can hold them."""

_IN_VLLM = (*BANDS, "dca", "original", *FIXED_FREQUENCIES)

_BLOCK = 16
"""Tokens of vLLM's smallest block."""


def vllm_refusal(config: Mapping[str, Any]) -> str:
    """Say why the vLLM plugin cannot serve a converted checkpoint; empty where it can.

    Args:
        config: its `config.json`.
    """
    block = config["rope_ext"]
    method = block["method"]
    if method not in _IN_VLLM:
        return f"vLLM keeps keys in pages, and where {method} puts a far key is not fixed"
    of_all = block.get("parameters", {})
    for parameters in (of_all, *(change["parameters"] for change in of_all.get("by_layer", ()))):
        if parameters.get("length_step"):
            return "vLLM keeps keys in pages, and with length_step where a far key stands depends on the length"
        if parameters.get("top_k"):
            return "with top_k each head chooses frequency pairs of its own, which no paged attention does"
        if len(parameters.get("regions", ())) > 1 or parameters.get("tail"):
            return "the plugin's cache holds two rotations of a key, and these regions need more"
        if method == "dca" and (why := _refusal_of_dca(parameters)):
            return why
    if block.get("base", {}).get("place"):
        return "the plugin serves text models, and this one reads images too"
    if block.get("pairs", {}).get("norms_after"):
        return "this family has a norm between rotation and attention, which the plugin does not know"
    known = _vllm_families()
    if FAMILIES[config["model_type"]].own_stem not in known:
        return f"the plugin was not tried with {config['model_type']}"
    return ""


def _refusal_of_dca(parameters: Mapping[str, Any]) -> str:
    stride = parameters["chunk_size"] - parameters["local_window"]
    if parameters.get("temperature"):
        return "the temperature of dca depends on the length of the whole prompt, which vLLM's pieces do not know"
    if parameters.get("activate_beyond", 0) > stride:
        return "dca with activate_beyond takes exact keys too, and the plugin's cache holds one rotation of a key"
    if stride % _BLOCK:
        return f"dca's stride, {stride} tokens, is not a multiple of vLLM's block size, {_BLOCK} at least"
    return ""


def _vllm_families() -> Mapping[str, Any]:
    """Return the plugin's table of families, by how our classes' names begin."""
    try:
        found: Mapping[str, Any] = import_module("ropext.serving.vllm").FAMILIES
    except ModuleNotFoundError:
        return {}
    return found


def mlx_refusal(config: Mapping[str, Any]) -> str:
    """Say why mlx-lm cannot run a converted checkpoint; empty where it can: then the folder names its file for MLX.

    Args:
        config: its `config.json`.
    """
    if config.get("model_file") == mlx_code.NAME:
        return ""
    method, family = config["rope_ext"]["method"], config["model_type"]
    return f"the folder holds no file for MLX, as there is none for {method} on {family}"
