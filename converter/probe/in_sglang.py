"""The rotary tables of SGLang: its configuration reader and its rotary classes, without an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from .table import EVERY, Tables, Untold
from .turned import table_of_cache

__all__ = ["tables"]


@torch.no_grad()
def tables(config: Mapping[str, Any]) -> Tables:
    """Read the tables of the installed SGLang.

    Raises:
        Untold: it is not installed, or refuses the configuration.
    """
    try:
        from sglang.srt.layers.rotary_embedding import get_rope
        from sglang.srt.utils.hf_transformers_utils import get_config
    except ImportError as error:
        raise Untold(f"SGLang cannot be imported: {error}") from None
    try:
        with TemporaryDirectory(prefix="ropext-") as name:
            (Path(name) / "config.json").write_text(json.dumps(config))
            text = get_config(name, trust_remote_code=False).get_text_config()
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        rotary = get_rope(
            width,
            rotary_dim=width,
            max_position=text.max_position_embeddings,
            base=text.rope_theta,
            rope_scaling=text.rope_scaling,
            dtype=torch.float32,
        )
        return {EVERY: table_of_cache(rotary.cos_sin_cache)}
    except Exception as error:
        raise Untold(f"SGLang refuses it: {type(error).__name__}: {error}") from None
