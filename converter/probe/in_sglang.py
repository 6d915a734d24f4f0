"""The rotary tables of SGLang: its rotary classes by what its models hand to them, without an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig

from .table import EVERY, Table, Tables, Untold
from .turned import table_of_cache, turned_width

__all__ = ["tables"]

_LATENT = "deepseek_yarn"
"""What its DeepSeek class makes of any scaling. Its table is put on the CPU when it is asked to be."""


@torch.no_grad()
def tables(config: Mapping[str, Any]) -> Tables:
    """Read the tables of the installed SGLang. It reads configurations by transformers' classes, and so is done here.

    Raises:
        Untold: it is not installed, or refuses the configuration.
    """
    try:
        from sglang.srt.layers.rotary_embedding import get_rope, get_rope_wrapper
    except ImportError as error:
        raise Untold(f"SGLang cannot be imported: {error}") from None
    try:
        with TemporaryDirectory(prefix="ropext-") as name:
            (Path(name) / "config.json").write_text(json.dumps(config))
            text = AutoConfig.from_pretrained(name, trust_remote_code=False).get_text_config()
        found = _parameters(text)
        scaled = any(each.get("rope_type") == _LATENT for each in found.values())
        make = partial(get_rope_wrapper, device="cpu") if scaled else get_rope
        return {layer_type: _table(make, text, each) for layer_type, each in found.items()}
    except Untold:
        raise
    except Exception as error:
        raise Untold(f"SGLang refuses it: {type(error).__name__}: {error}") from None


def _parameters(text: Any) -> dict[str, dict[str, Any]]:
    """Return what SGLang's models hand to a rotary class, for all layers."""
    found = getattr(text, "rope_parameters", None)
    if found is None:
        theta, scaling = getattr(text, "rope_theta", 10000), getattr(text, "rope_scaling", None) or {}
        return {EVERY: {"rope_type": "default", **scaling, "rope_theta": theta}}
    if any(isinstance(each, Mapping) for each in found.values()):
        raise Untold("SGLang turns layers of several types by code of its own, which is not asked")
    if found.get("short_factor") != found.get("long_factor"):
        raise Untold("SGLang chooses between the factors of a longrope by code that is not asked")
    latent = getattr(text, "kv_lora_rank", None) and found.get("rope_type", "default") != "default"
    return {EVERY: {**found, **({"rope_type": _LATENT} if latent else {})}}


def _table(make: Any, text: Any, parameters: dict[str, Any]) -> Table:
    width = turned_width(text)
    rotary = make(
        width,
        rotary_dim=width,
        max_position=text.max_position_embeddings,
        base=parameters["rope_theta"],
        rope_scaling=parameters,
        dtype=torch.float32,
        partial_rotary_factor=parameters.get("partial_rotary_factor", 1.0),
    )
    cache = getattr(rotary, "long_short_cos_sin_cache", None)
    return table_of_cache(rotary.cos_sin_cache if cache is None else cache)
