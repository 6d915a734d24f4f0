"""The rotary tables of vLLM: its configuration reader and its rotary classes, without an engine."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch

from .table import EVERY, Table, Tables, Untold
from .turned import table_of_cache, turned_width

__all__ = ["tables"]


def tables(config: Mapping[str, Any]) -> Tables:
    """Read the tables of the installed vLLM.

    Raises:
        Untold: it is not installed, or refuses the configuration.
    """
    try:
        from vllm.config import DeviceConfig, VllmConfig, set_current_vllm_config
        from vllm.transformers_utils.config import get_config
    except ImportError as error:
        raise Untold(f"vLLM cannot be imported: {error}") from None
    try:
        with TemporaryDirectory(prefix="ropext-") as name:
            (Path(name) / "config.json").write_text(json.dumps(config))
            text = get_config(name, trust_remote_code=False).get_text_config()
        with set_current_vllm_config(VllmConfig(device_config=DeviceConfig("cpu"))):
            return {layer_type: _table(text, each) for layer_type, each in _parameters(text).items()}
    except Untold:
        raise
    except Exception as error:
        raise Untold(f"vLLM refuses it: {type(error).__name__}: {error}") from None


def _parameters(text: Any) -> dict[str, dict[str, Any]]:
    """Return what vLLM's models hand to a rotary class, by the type of layer."""
    found = text.rope_parameters
    nested = {name: each for name, each in found.items() if isinstance(each, Mapping)}
    given = {name: dict(each) for name, each in nested.items()} or {EVERY: dict(found)}
    return {name: _of_latents(text, each) for name, each in given.items()}


def _of_latents(text: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what its DeepSeek classes make of a scaling, whichever it is."""
    if not getattr(text, "kv_lora_rank", None) or parameters.get("rope_type", "default") == "default":
        return parameters
    llama = parameters.get("attention_factor") == 1.0
    return {**parameters, "rope_type": "deepseek_llama_scaling" if llama else "deepseek_yarn"}


def _of_axes(model_type: str, get_rope: Any) -> dict[str, int]:
    """Return what the models with positions on several axes add, from version 0.32 on; Qwen 2's leave the default."""
    known = "mrope_positions_factor" in inspect.signature(get_rope).parameters
    return {"mrope_positions_factor": 1} if known and model_type.startswith("qwen3") else {}


@torch.no_grad()
def _table(text: Any, parameters: dict[str, Any]) -> Table:
    from vllm.model_executor.layers import rotary_embedding

    length = text.max_position_embeddings
    longrope = getattr(rotary_embedding, "phi3_long_rope_scaled_rope", None)
    if longrope is not None:
        settings = SimpleNamespace(model_config=SimpleNamespace(max_model_len=length))
        longrope.get_current_vllm_config = lambda: settings
    rotary = rotary_embedding.get_rope(
        turned_width(text),
        max_position=length,
        rope_parameters=parameters,
        dtype=torch.float32,
        is_neox_style=True,
        **_of_axes(text.model_type, rotary_embedding.get_rope),
    )
    cache = getattr(rotary, "long_short_cos_sin_cache", None)
    if cache is None:
        return table_of_cache(rotary.cos_sin_cache)
    short = rotary.original_max_position_embeddings if length > rotary.original_max_position_embeddings else 0
    return table_of_cache(cache[short:])
